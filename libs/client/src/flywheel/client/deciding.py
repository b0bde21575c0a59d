"""How a decision is asked for: what is sent to the router, and what is done when it does not answer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

import httpx
import orjson

from flywheel.client.emitter import BudgetRefused, ClientError, Emitter
from flywheel.client.options import Options
from flywheel.client.records import ContextValue, Decision, decision_from_answer
from flywheel.events import event_id

_log = logging.getLogger("flywheel.client")
_FAILURES_BEFORE_PAUSE: Final = 3
_UNPAID: Final = frozenset({402, 429})


class RouterWatch:
    """Remembers failures of the router, so that callers do not wait for one that is known to be away. Thread-safe."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._lock = threading.Lock()
        self._failures = 0
        self._ask_again_at_s = 0.0
        self.fallbacks = 0

    def away(self) -> bool:
        """True while it is not worth asking."""
        return self._failures >= _FAILURES_BEFORE_PAUSE and time.monotonic() < self._ask_again_at_s

    def failed(self) -> None:
        """Count a failure."""
        with self._lock:
            self._failures += 1
            self._ask_again_at_s = time.monotonic() + self._pause_s

    def answered(self) -> None:
        """Forget the failures."""
        self._failures = 0


class Size(NamedTuple):
    """How large a call will be, for hard budgets; None: not told."""

    input_tokens: int | None = None
    input_bytes: int | None = None
    max_tokens: int | None = None


class Asking:
    """The parts of deciding that neither wait nor send."""

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter
        self._options: Options = emitter.options
        self.watch = RouterWatch(self._options.retry_router_after_s)
        self.url = f"{self._options.router_url.rstrip('/')}/v1/decide"

    def body(
        self,
        feature: str,
        request_id: str,
        context: Mapping[str, ContextValue],
        user: str | None,
        default_arm: str,
        *,
        size: Size,
    ) -> bytes:
        """The request as JSON."""
        options = self._options
        fields = {
            "project": options.project,
            "feature": feature,
            "request_id": request_id,
            "context": dict(context),
            "app": options.app,
            "environment": options.environment,
            "team": options.team,
            "default_arm": default_arm,
            **self._emitter.identify(user),
            **size._asdict(),
        }
        return orjson.dumps({name: value for name, value in fields.items() if value is not None})

    def read(self, reply: httpx.Response, feature: str) -> Decision:
        """The router's answer.

        Raises:
            BudgetRefused: a hard budget leaves no arm.
            ClientError: it refused the request or answered something else.
        """
        if reply.status_code in _UNPAID:
            _raise_refusal(reply)
        if reply.status_code != 200:
            raise ClientError(f"the router answered {reply.status_code}: {reply.text:.300}")
        try:
            return decision_from_answer(orjson.loads(reply.content), self._options.project, feature)
        except (ValueError, KeyError, TypeError) as error:
            raise ClientError(f"the router's answer cannot be read: {error!r}") from error

    def fall_back(
        self, feature: str, request_id: str, user: str | None, default_arm: str, error: Exception | None
    ) -> Decision:
        """The declared default, flagged, and logged when the router is back.

        Raises:
            ClientError: with ``raise_errors``, instead.
        """
        if self._options.raise_errors:
            raise ClientError(f"deciding {feature}: {error or 'the router is away'}") from error
        self.watch.fallbacks += 1
        if error is not None:
            _log.warning("deciding %s: %s; using %s", feature, error, default_arm)
        project = self._options.project
        decision = Decision(
            decision_id=event_id("decision", project, feature, request_id, 0),
            arm=default_arm,
            propensity=1.0,
            fallback=True,
            reason="router_away",
            project=project,
            feature=feature,
            request_id=request_id,
            policy=feature,
            propensities={default_arm: 1.0},
        )
        self._emitter.decision(
            {
                "event_id": decision.decision_id,
                "project": project,
                "feature": feature,
                "request_id": request_id,
                "occurred_at": time.time_ns() // 1000,
                "policy": feature,
                "policy_version": 0,
                "policy_kind": "default",
                "arm": default_arm,
                "propensity": 1.0,
                "arms": [default_arm],
                "propensities": [1.0],
                "fallback": True,
                "reason": "router_away",
                "app": self._options.app,
                "environment": self._options.environment,
                "team": self._options.team,
                **self._emitter.identify(user),
            }
        )
        return decision


def _raise_refusal(reply: httpx.Response) -> None:
    """Raise what a budget said; nothing where the answer is somebody else's, a proxy's limit for one."""
    try:
        body = orjson.loads(reply.content)
        why, detail = body["reason"], body["errors"][0]["message"]
    except (ValueError, KeyError, TypeError, IndexError):
        return
    after = reply.headers.get("retry-after", "")
    raise BudgetRefused(
        str(detail),
        why=str(why),
        budget=body.get("budget"),
        window_end_us=body.get("window_end"),
        retry_after_s=float(after) if after.isdecimal() else None,
    )
