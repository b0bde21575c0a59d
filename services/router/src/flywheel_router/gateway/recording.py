"""What the gateway tells the log: calls, what was said in them, and circuits that changed."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from flywheel.events import event_id
from flywheel.observe import Metrics, logger
from flywheel.policy import DecideRequest
from flywheel.pricing import PriceBook
from flywheel_router.decision_log import ALERT, CALL, CONTENT, DecisionLog, LogFull
from flywheel_router.gateway.charging import Attempt
from flywheel_router.gateway.circuits import Transition
from flywheel_router.gateway.content import ContentPolicy

_AGAIN_S: Final = 0.25
_ROOM_BYTES: Final = 16 << 10


class Recorder:
    """Writes events into the decision log. A call that was made must be told: where the log has no room for one, it
    waits in memory until there is some; no new call is made meanwhile (`has_room`)."""

    def __init__(
        self,
        log: DecisionLog,
        metrics: Metrics,
        prices: Callable[[], PriceBook],
        content: ContentPolicy | None,
    ) -> None:
        self._log = log
        self._metrics = metrics
        self.prices = prices
        self.content = content
        self._life = secrets.token_hex(8)
        self._ordinal = itertools.count()
        self._waiting: deque[tuple[int, str, Mapping[str, Any], str | None]] = deque()
        self._retrying: asyncio.Task[None] | None = None

    def has_room(self) -> bool:
        """Whether a call that is made now can be told."""
        return not self._waiting and self._log.fits(_ROOM_BYTES)

    def call_id(self, request: DecideRequest) -> str:
        """An id for one more attempt, as the client makes them: no other attempt ever has it."""
        return event_id("call", request.project, request.request_id, self._life, next(self._ordinal))

    def call(self, event: dict[str, Any], traceparent: str | None) -> None:
        """Tell an attempt."""
        self._write(CALL, event["request_id"], event, traceparent)

    def count(self, attempt: Attempt) -> None:
        """Count an attempt that ended. A provider that nobody declared has no name of its own in the metrics."""
        provider = "other" if attempt.ending == "unavailable" else attempt.provider
        self._metrics.count("gateway_attempts_total", 1, provider=provider, ending=attempt.ending)
        if attempt.ttft_ms is not None:
            self._metrics.observe("gateway_first_token_seconds", attempt.ttft_ms / 1000, provider=provider)

    def judged(self, verdict: str) -> None:
        """Count an answer that a cascade's plan had judged."""
        self._metrics.count("cascade_verdicts_total", 1, verdict=verdict)

    def trouble(self, circuits: int) -> None:
        """Say how many circuits are not closed."""
        self._metrics.gauge("circuits_not_closed", circuits)

    def said(self, event: dict[str, Any], asked: object, answered: str | None) -> None:
        """Tell what was said in a call, redacted, where that is wanted."""
        if self.content is None:
            return
        made = self.content.event(event, asked, answered)
        if made is not None:
            self._write(CONTENT, made["request_id"], made, None)
        else:
            self._metrics.count("gateway_content_dropped_total", 1)

    def circuit(self, project: str, feature: str, arm: str, model: str, change: Transition) -> None:
        """Tell that an arm's circuit changed."""
        now_us = time.time_ns() // 1000
        subject = f"{project}/{feature}/{arm}"
        closed = change.after == "closed"
        p99 = "unknown" if change.p99_ms is None else f"{change.p99_ms:.0f} ms"
        logger("router.gateway").warning("circuit", arm=subject, state=change.after, reason=change.reason)
        event = {
            "event_id": event_id("circuit", subject, self._life, next(self._ordinal)),
            "alert_id": event_id("circuit", subject, self._life),
            "project": project,
            "occurred_at": now_us,
            "kind": "circuit",
            "severity": "info" if closed else "warning",
            "state": "resolved" if closed else "firing",
            "scope": {"feature": feature, "arm": arm, "model": model},
            "subject": subject,
            "title": f"circuit of {subject} is {change.after}",
            "detail": (
                f"{change.reason}: {change.attempts} attempts, {change.error_rate:.0%} failed, "
                f"{change.timeout_rate:.0%} timed out, p99 {p99}"
            ),
            "value": change.error_rate,
            "attributes": {
                "circuit": change.after, "before": change.before, "reason": change.reason, "router": self._life,
            },
        }  # fmt: skip
        self._write(ALERT, subject, event, None)

    def _write(self, sort: int, key: str, event: Mapping[str, Any], traceparent: str | None) -> None:
        if not self._waiting:
            try:
                self._log.append_other(sort, key, event, traceparent)
                return
            except LogFull as error:
                logger("router.gateway").error("an event waits in memory for room in the journal", detail=str(error))
        self._waiting.append((sort, key, event, traceparent))
        if self._retrying is None or self._retrying.done():
            self._retrying = asyncio.create_task(self._retry(), name="gateway-retry")

    async def _retry(self) -> None:
        while self._waiting:
            await asyncio.sleep(_AGAIN_S)
            self.flush()

    def flush(self) -> None:
        """Write what waits, as far as there is room."""
        while self._waiting:
            try:
                self._log.append_other(*self._waiting[0])
            except LogFull:
                return
            self._waiting.popleft()

    def close(self) -> None:
        """The last try."""
        if self._retrying is not None:
            self._retrying.cancel()
        self.flush()
        if self._waiting:
            logger("router.gateway").error("calls could not be told", count=len(self._waiting))
