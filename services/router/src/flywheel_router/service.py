"""What HTTP and gRPC share: from a read request to a logged decision."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.trace import SpanKind, Tracer

from flywheel import observe
from flywheel.observe import Metrics
from flywheel.policy import DecideRequest, Decision
from flywheel_router.core import Decider
from flywheel_router.decision_log import DecisionLog
from flywheel_router.reading import read_request

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_NO_TRACE: Final = "0" * 32
_SAMPLED_EVERY: Final = 8


def wall_clock_us() -> int:
    """Microseconds since the epoch, UTC."""
    return time.time_ns() // 1000


class DecideService:
    """Reads, decides and logs one request; the only place where the router looks at a clock."""

    def __init__(
        self,
        decider: Decider,
        log: DecisionLog,
        metrics: Metrics,
        *,
        user_hash_key: bytes | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._decider = decider
        self._log = log
        self._metrics = metrics
        self._user_hash_key = user_hash_key
        self._tracer = tracer
        self._counts: dict[tuple[str, str, str], int] = {}
        self._asked = 0

    def decide(self, body: object, traceparent: str | None, transport: str) -> tuple[Decision, DecideRequest]:
        """Decide a request as it came off the wire; return the decision and the request as it was read.

        Raises:
            RequestInvalid: naming every field that is wrong.
            LogFull: nothing can be logged, so nothing was decided.
        """
        if self._tracer is None:
            return self._decide(body, traceparent, transport)
        parent = observe.extract({"traceparent": traceparent} if traceparent else {})
        with observe.span(self._tracer, "decide", parent=parent, kind=SpanKind.SERVER, transport=transport) as span:
            decision, request = self._decide(body, observe.traceparent(), transport)
            span.set_attributes(
                {"request_id": request.request_id, "decision_id": decision.decision_id, "arm": decision.arm}
            )
            return decision, request

    def _decide(self, body: object, traceparent: str | None, transport: str) -> tuple[Decision, DecideRequest]:
        started_s = time.perf_counter()
        trace_id = trace_id_of(traceparent)
        request = read_request(body, trace_id, self.hash_user)

        def log(event: Mapping[str, Any]) -> None:
            self._log.append(event, traceparent if trace_id else None)
            # Names that no policy vouches for come from callers, without bound, and are no labels.
            known = event["policy_version"] > 0
            labels = (event["feature"], event["arm"], event["reason"]) if known else ("", "", event["reason"])
            self._counts[labels] = self._counts.get(labels, 0) + 1

        decision = self._decider.decide(request, wall_clock_us(), log)
        self._asked += 1
        if self._asked % _SAMPLED_EVERY == 0:
            self._metrics.observe("decide_seconds", time.perf_counter() - started_s, transport=transport)
        return decision, request

    def report(self) -> None:
        """Hand the counts to the metrics; doing that at each decision costs a tenth of it."""
        counts, self._counts = self._counts, {}
        for (feature, arm, reason), count in counts.items():
            self._metrics.count("decisions_total", count, feature=feature, arm=arm, reason=reason)

    def hash_user(self, project: str, user: str) -> str | None:
        """The user as it is kept, or nothing where there is no key: HMAC-SHA-256 (RFC 2104) with a key of its own for
        each project, cut to 128 bits; as ingest does it, so that decisions and calls of a user meet."""
        if self._user_hash_key is None:
            return None
        project_key = hmac.digest(self._user_hash_key, project.encode(), "sha256")
        return hmac.digest(project_key, user.encode(), "sha256").hex()[:32]


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace id inside a W3C ``traceparent``; None where there is none or it is malformed."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return found[1] if found and found[1] != _NO_TRACE else None
