"""What HTTP and gRPC share: from a read request to a logged decision."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.trace import SpanKind, Tracer

from flywheel import observe
from flywheel.observe import Metrics
from flywheel.policy import DecideRequest, Decision
from flywheel_router.core import Course, Decider, Usable
from flywheel_router.decision_log import DecisionLog
from flywheel_router.leases import Leases
from flywheel_router.reading import read_request
from flywheel_router.recent import Recent
from flywheel_router.spending import Unaffordable

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_NO_TRACE: Final = "0" * 32
_SAMPLED_EVERY: Final = 8
_WAITED_S: Final = 0.001
_PROJECTS_KEPT: Final = 1024


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
        leases: Leases | None = None,
        lease_wait_s: float = 0.0,
    ) -> None:
        self._decider = decider
        self._log = log
        self._metrics = metrics
        self._user_hash_key = user_hash_key
        self._tracer = tracer
        self._leases = leases
        self._lease_wait_s = lease_wait_s
        self._project_keys: Recent[str, bytes] = Recent(_PROJECTS_KEPT)
        self._counts: dict[tuple[str, str, str], int] = {}
        self._asked = 0

    def decide(
        self, body: object, traceparent: str | None, transport: str, usable: Usable | None = None
    ) -> tuple[Decision, DecideRequest]:
        """Decide a request as it came off the wire; return the decision and the request as it was read.

        Raises:
            RequestInvalid: naming every field that is wrong.
            LogFull: nothing can be logged, so nothing was decided.
            Unaffordable: hard budgets leave no arm now; `decide_patiently` waits for a lease.
            NothingUsable: ``usable`` leaves none.
        """
        if self._tracer is None:
            return self._decide(body, traceparent, transport, usable)
        parent = observe.extract({"traceparent": traceparent} if traceparent else {})
        with observe.span(self._tracer, "decide", parent=parent, kind=SpanKind.SERVER, transport=transport) as span:
            decision, request = self._decide(body, observe.traceparent(), transport, usable)
            span.set_attributes(
                {"request_id": request.request_id, "decision_id": decision.decision_id, "arm": decision.arm}
            )
            return decision, request

    def _decide(
        self, body: object, traceparent: str | None, transport: str, usable: Usable | None
    ) -> tuple[Decision, DecideRequest]:
        started_s = time.perf_counter()
        trace_id = trace_id_of(traceparent)
        request = read_request(body, trace_id, self.hash_user)

        def log(event: Mapping[str, Any]) -> None:
            self._log.append(event, traceparent if trace_id else None)
            # Names that no policy vouches for come from callers, without bound, and are no labels.
            known = event["policy_version"] > 0
            labels = (event["feature"], event["arm"], event["reason"]) if known else ("", "", event["reason"])
            self._counts[labels] = self._counts.get(labels, 0) + 1

        try:
            decision = self._decider.decide(request, wall_clock_us(), log, now_s=time.monotonic(), usable=usable)
        finally:
            if self._leases is not None:
                self._leases.wake()
        self._asked += 1
        if self._asked % _SAMPLED_EVERY == 0:
            self._metrics.observe("decide_seconds", time.perf_counter() - started_s, transport=transport)
        return decision, request

    async def decide_patiently(
        self,
        body: object,
        traceparent: str | None,
        transport: str,
        *,
        until_s: float | None = None,
        usable: Usable | None = None,
    ) -> tuple[Decision, DecideRequest]:
        """Decide, and where a lease is on its way wait for it: for the time that is set, or until ``until_s`` of the
        loop's clock.

        Raises:
            RequestInvalid, LogFull, NothingUsable: as `decide`.
            Unaffordable: no money came in time, or none is to be expected.
        """
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        deadline_s = started_s + self._lease_wait_s if until_s is None else until_s
        while True:
            changed = self._leases.changed if self._leases is not None else None
            try:
                decided = self.decide(body, traceparent, transport, usable)
            except Unaffordable as error:
                waited_s = loop.time() - started_s
                if error.why != "budget_wait" or changed is None or loop.time() >= deadline_s:
                    self._metrics.observe("lease_wait_seconds", waited_s, ended="refused")
                    self._metrics.count("budget_refusals_total", 1, budget=declared(error.budget), reason=error.why)
                    raise
                await _until(changed, deadline_s)
                continue
            if loop.time() - started_s > _WAITED_S:
                self._metrics.observe("lease_wait_seconds", loop.time() - started_s, ended="decided")
            return decided

    def course(self, decision: Decision, request: DecideRequest) -> Course:
        """The chosen arm and those that may serve in its place; see ``Decider.course``."""
        return self._decider.course(decision, request, wall_clock_us())

    def read(self, body: object, traceparent: str | None) -> DecideRequest:
        """A request as deciding would read it; nothing is decided. Raises ``RequestInvalid``."""
        return read_request(body, trace_id_of(traceparent), self.hash_user)

    def bound(self, project: str) -> bool:
        """Whether a budget that may refuse holds in a project. Raises ``Unaffordable`` while nobody knows."""
        return self._leases is not None and self._leases.spending.bears_on(project, decided_by_policy=True)

    def budgeted(self, project: str) -> bool:
        """Whether decisions of a project are held by a budget, or may be: then they are made here alone."""
        try:
            return self.bound(project)
        except Unaffordable:
            return True

    def wait_until_s(self) -> float:
        """When a request that comes now has waited long enough, by the loop's clock."""
        return asyncio.get_running_loop().time() + self._lease_wait_s

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
        project_key = self._project_keys.get(project)
        if project_key is None:
            project_key = self._project_keys[project] = hmac.digest(self._user_hash_key, project.encode(), "sha256")
        return hmac.digest(project_key, user.encode(), "sha256").hex()[:32]


def declared(instance: str | None) -> str:
    """The budget of an instance, for a label: values of its ``each`` dimensions are without bound."""
    return "/".join(instance.split("/")[:2]) if instance else ""


async def _until(changed: asyncio.Event, deadline_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(deadline_s):
            await changed.wait()


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace id inside a W3C ``traceparent``; None where there is none or it is malformed."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return found[1] if found and found[1] != _NO_TRACE else None
