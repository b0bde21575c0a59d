"""One attempt at a model, measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

from flywheel.client.records import texts, usage_object

_CANCELLED = (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit, SystemExit)


class Call:
    """Measures a call while its block runs and reports it at the end, also when the block raises.

    Works with ``with`` and ``async with``. What is not told stays unknown; nothing is guessed.
    """

    def __init__(self, record: dict[str, Any], emit: Callable[[dict[str, Any]], bool]) -> None:
        self._record = record
        self._emit = emit
        self._started_s: float | None = None
        self._done = False

    @property
    def request_id(self) -> str:
        """The request this call belongs to."""
        return str(self._record["request_id"])

    @property
    def event_id(self) -> str:
        """The call's own id."""
        return str(self._record["event_id"])

    def first_token(self) -> None:
        """Note that the first token came now; only the first time counts."""
        if self._started_s is not None and "ttft_ms" not in self._record:
            self._record["ttft_ms"] = (time.perf_counter() - self._started_s) * 1000.0
            self._record["streaming"] = True

    def usage(
        self,
        raw: object = None,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        **buckets: int | str | None,
    ) -> None:
        """Tell the tokens used, as the provider reports them.

        Best as the usage object that came (``raw``: a dict, or the object of an SDK): then nothing is lost on the way,
        and ingest knows by its keys how it counts. Else as counts; ``buckets`` are the disjoint ones by their field
        names (``cache_read_tokens``, ``reasoning_tokens``, …) and ``usage_convention``.
        """
        self._set(
            usage=usage_object(raw),
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            usage_source="PROVIDER",
            **buckets,
        )

    def pool_seconds(self, seconds: float) -> None:
        """Tell how long a local model's pool was held: its seconds divided by the calls that ran beside this one."""
        self._set(pool_seconds=seconds)

    def shares(self, parts: Mapping[str, Decimal | str | float]) -> None:
        """Tell which teams share this call, and by which fractions; they must add up to exactly 1."""
        self._set(shares={team: str(part) for team, part in parts.items()})

    def cost(self, usd: Decimal | str | float) -> None:
        """Tell what the provider charged, in US dollars. Without it the call is priced from the table."""
        self._set(cost_usd=str(usd), cost_source="PROVIDER")

    def answer(
        self,
        text: str | None = None,
        *,
        model: str | None = None,
        response_id: str | None = None,
        finish_reason: str | None = None,
        tool_calls: int | None = None,
    ) -> None:
        """Tell what came back. ``text`` travels on its own topic, with short retention, and only when given."""
        self._set(
            output_text=text,
            response_model=model,
            response_id=response_id,
            finish_reason=finish_reason,
            tool_calls=tool_calls,
        )

    def prompt(self, text: str) -> None:
        """Tell what was asked; travels with the answer's text."""
        self._set(input_text=text)

    def attributes(self, **values: Any) -> None:
        """Add free attributes."""
        self._record.setdefault("attributes", {}).update(texts(values))

    def fail(self, error_type: str, status: str = "ERROR") -> None:
        """Report a failure that raised nothing; ``status`` is ERROR, TIMEOUT, CANCELLED or FILTERED."""
        self._set(status=status, error_type=error_type)

    def latency(self, latency_ms: float) -> None:
        """Report a latency measured elsewhere instead of the block's."""
        self._set(latency_ms=latency_ms)

    def _set(self, **values: Any) -> None:
        self._record.update({name: value for name, value in values.items() if value is not None})

    def __enter__(self) -> Self:
        self._record["occurred_at"] = time.time_ns() // 1000
        self._started_s = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._done or self._started_s is None:
            return
        self._done = True
        self._record.setdefault("latency_ms", (time.perf_counter() - self._started_s) * 1000.0)
        if error is not None:
            self._record["status"] = _status_of(error)
            self._record["error_type"] = type(error).__name__
        self._record.setdefault("status", "OK")
        self._emit(self._record)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def _status_of(error: BaseException) -> str:
    if isinstance(error, _CANCELLED):
        return "CANCELLED"
    if isinstance(error, TimeoutError) or "timeout" in type(error).__name__.lower():
        return "TIMEOUT"
    return "ERROR"
