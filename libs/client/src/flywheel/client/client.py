"""``Flywheel`` and ``AsyncFlywheel``: decide, call, feedback."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx

from flywheel.client.call import Call
from flywheel.client.deciding import Asking, Size
from flywheel.client.emitter import BudgetRefused, ClientError, Emitter
from flywheel.client.options import Options
from flywheel.client.outbox import OutboxStats
from flywheel.client.records import ContextValue, Decision

if TYPE_CHECKING:
    from flywheel.client.in_process import InProcess

_JSON = {"content-type": "application/json"}
_EMPTY: Mapping[str, ContextValue] = {}


class _Client:
    """What both clients do alike: everything that does not wait."""

    def __init__(self, emitter: Emitter, transport: httpx.BaseTransport | None) -> None:
        self._emitter = emitter
        self._asking = Asking(emitter)
        self._local: InProcess | None = None
        if emitter.options.mode == "in_process":
            from flywheel.client.in_process import InProcess

            self._local = InProcess(emitter, transport)

    def call(
        self,
        what: Decision | str,
        *,
        request_id: str | None = None,
        model: str | None = None,
        provider: str | None = None,
        user: str | None = None,
        **fields: Any,
    ) -> Call:
        """Measure one attempt at a model: ``with client.call(decision) as call: …``.

        ``what`` is the decision that chose the arm, or the name of a feature where nothing was decided. Other fields of
        a call (``attempt``, ``operation``, ``temperature``, ``conversation_id``, …) are given by their names.
        """
        return self._emitter.call(what, request_id=request_id, model=model, provider=provider, user=user, fields=fields)

    def feedback(
        self, request_id: str, kind: str, value: float | bool | None = None, *, user: str | None = None, **fields: Any
    ) -> bool:
        """Report what somebody says of a request: ``value`` from 0 (worst) to 1 (best), or a ``label``, or a
        ``comment``.

        Returns at once; False when it could not be kept.
        """
        return self._emitter.feedback(request_id, kind, value, user=user, fields=fields)

    def stats(self) -> Mapping[str, OutboxStats]:
        """What became of the events, for ``ingest`` and for ``router``."""
        return self._emitter.stats()

    @property
    def fallbacks(self) -> int:
        """Decisions that the router did not answer in time."""
        return self._asking.watch.fallbacks


class Flywheel(_Client):
    """The client. Thread-safe, and safe to use after ``fork``.

    Nothing here raises into the caller's work unless ``raise_errors=True``: a decision that cannot be had is the
    declared default, flagged; an event that cannot be kept is counted in ``stats()``. The keyword arguments are those
    of ``Options``.
    """

    def __init__(self, *, transport: httpx.BaseTransport | None = None, **options: Any) -> None:
        chosen = Options(**options)
        emitter = Emitter(chosen, transport)
        super().__init__(emitter, transport)
        self._transport = transport
        self._http: httpx.Client | None = None
        emitter.on_fork(self._forget_http)

    def decide(
        self,
        feature: str,
        *,
        request_id: str | None = None,
        context: Mapping[str, ContextValue] = _EMPTY,
        user: str | None = None,
        default_arm: str = "default",
        input_tokens: int | None = None,
        input_bytes: int | None = None,
        max_tokens: int | None = None,
    ) -> Decision:
        """Which arm serves this request; ``default_arm``, flagged as a fallback, when that cannot be known in time.

        Under a hard budget the size of the call tells how much is reserved: ``input_tokens``, or ``input_bytes`` of
        text, and ``max_tokens``; the cap that was reserved for comes back in ``params["max_tokens"]``.

        Raises:
            BudgetRefused: a hard budget leaves no arm; the call must not be made.
            ClientError: only with ``raise_errors=True``.
        """
        identity = request_id or secrets.token_hex(16)
        asking = self._asking
        if self._local is not None:
            try:
                self._local.load()
                if not self._local.budgeted:
                    return self._local.decide(feature, identity, context, user, default_arm)
            except Exception as error:
                return asking.fall_back(feature, identity, user, default_arm, error)
        if asking.watch.away():
            return asking.fall_back(feature, identity, user, default_arm, None)
        try:
            size = Size(input_tokens, input_bytes, max_tokens)
            body = asking.body(feature, identity, context, user, default_arm, size=size)
            reply = self._open().post(asking.url, content=body, headers=_JSON)
            if reply.status_code < 500:
                asking.watch.answered()
            decision = asking.read(reply, feature)
        except BudgetRefused:
            raise
        except Exception as error:
            if not isinstance(error, ClientError) or reply.status_code >= 500:
                asking.watch.failed()
            return asking.fall_back(feature, identity, user, default_arm, error)
        return decision

    def flush(self, deadline_s: float = 10.0) -> bool:
        """Send what waits; True when everything was taken within ``deadline_s`` seconds."""
        return self._emitter.flush(deadline_s)

    def close(self, deadline_s: float = 5.0) -> bool:
        """Flush, keep the rest in the spill file, and let go. Called at exit too."""
        if self._http is not None:
            self._http.close()
            self._http = None
        return self._emitter.close(deadline_s)

    def _open(self) -> httpx.Client:
        if self._http is None:
            # httpx bounds each phase; half the timeout for each bounds connecting and waiting together.
            timeout = httpx.Timeout(self._emitter.options.decide_timeout_s / 2)
            self._http = httpx.Client(timeout=timeout, transport=self._transport, trust_env=False)
        return self._http

    def _forget_http(self) -> None:
        self._http = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncFlywheel(_Client):
    """The client for asyncio: ``decide``, ``flush`` and ``close`` are awaited; reporting never waits, as a thread
    sends.

    For the rest it is ``Flywheel``.
    """

    def __init__(
        self,
        *,
        transport: httpx.BaseTransport | None = None,
        async_transport: httpx.AsyncBaseTransport | None = None,
        **options: Any,
    ) -> None:
        chosen = Options(**options)
        emitter = Emitter(chosen, transport)
        super().__init__(emitter, transport)
        self._transport = async_transport
        self._http: httpx.AsyncClient | None = None
        emitter.on_fork(self._forget_http)

    async def decide(
        self,
        feature: str,
        *,
        request_id: str | None = None,
        context: Mapping[str, ContextValue] = _EMPTY,
        user: str | None = None,
        default_arm: str = "default",
        input_tokens: int | None = None,
        input_bytes: int | None = None,
        max_tokens: int | None = None,
    ) -> Decision:
        """See ``Flywheel.decide``; the timeout bounds the whole of it."""
        identity = request_id or secrets.token_hex(16)
        asking = self._asking
        if self._local is not None:
            try:
                if not self._local.loaded:  # it may wait for the router
                    await asyncio.to_thread(self._local.load)
                if not self._local.budgeted:
                    return self._local.decide(feature, identity, context, user, default_arm)
            except Exception as error:
                return asking.fall_back(feature, identity, user, default_arm, error)
        if asking.watch.away():
            return asking.fall_back(feature, identity, user, default_arm, None)
        try:
            size = Size(input_tokens, input_bytes, max_tokens)
            body = asking.body(feature, identity, context, user, default_arm, size=size)
            async with asyncio.timeout(self._emitter.options.decide_timeout_s):
                reply = await self._open().post(asking.url, content=body, headers=_JSON)
            if reply.status_code < 500:
                asking.watch.answered()
            decision = asking.read(reply, feature)
        except BudgetRefused:
            raise
        except Exception as error:
            if not isinstance(error, ClientError) or reply.status_code >= 500:
                asking.watch.failed()
            return asking.fall_back(feature, identity, user, default_arm, error)
        return decision

    async def flush(self, deadline_s: float = 10.0) -> bool:
        """See ``Flywheel.flush``."""
        return await asyncio.to_thread(self._emitter.flush, deadline_s)

    async def close(self, deadline_s: float = 5.0) -> bool:
        """See ``Flywheel.close``."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None
        return await asyncio.to_thread(self._emitter.close, deadline_s)

    def _open(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = httpx.AsyncClient(
                timeout=self._emitter.options.decide_timeout_s, transport=self._transport, trust_env=False
            )
        return self._http

    def _forget_http(self) -> None:
        self._http = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
