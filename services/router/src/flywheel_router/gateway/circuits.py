"""A circuit breaker for each arm: stops sending to an arm that fails, and finds out when it works again. Pure: told of
the time (seconds of a clock that only goes forward) and of how each attempt ended.

The three states are those of Nygard (Release It!, 2007). Closed: a sliding window counts attempts; the circuit opens
when the share of failures, the share of timeouts or the 99th percentile of latency passes its limit. Open: nothing is
sent, for a time that doubles with each failed trial. Half open: a few probes at once; enough successes in a row close
it, one failure opens it again.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

State = Literal["closed", "open", "half_open"]
Outcome = Literal["ok", "error", "timeout", "neutral"]
"""How an attempt ended as far as the arm's health goes; ``neutral`` says nothing of it (the caller hung up)."""
Reason = Literal["error_rate", "timeouts", "p99", "probe_failed", "probe_due", "recovered"]

_SLOTS: Final = 10
# Latencies are counted in buckets 1.15 apart from 1 ms to 10 minutes: a percentile is off by at most 15 %.
_RATIO: Final = math.log(1.15)
_BUCKETS: Final = math.ceil(math.log(600_000) / _RATIO) + 1


@dataclass(frozen=True, slots=True)
class CircuitRules:
    """When a circuit opens and closes. Rates are shares from 0 to 1 of the attempts in the window."""

    window_s: float = 30.0
    least_attempts: int = 10
    """Fewer attempts in the window say nothing."""
    error_rate: float = 0.5
    """Errors and timeouts together."""
    timeout_rate: float = 0.3
    p99_ms: float | None = None
    """None: latency opens nothing."""
    open_s: float = 5.0
    most_open_s: float = 120.0
    probes: int = 1
    """Attempts at a time while half open."""
    successes: int = 2
    """Probes in a row that must go well."""
    probe_s: float = 600.0
    """A probe that was not heard of for so long no longer holds its place."""


class Transition(NamedTuple):
    """A circuit changed its state. Figures are of the window that made it so; ``until_s`` is when an open one is tried
    again."""

    before: State
    after: State
    reason: Reason
    attempts: int
    error_rate: float
    timeout_rate: float
    p99_ms: float | None
    until_s: float | None


@dataclass(slots=True)
class _Slot:
    number: int
    attempts: int = 0
    errors: int = 0
    timeouts: int = 0
    latencies: dict[int, int] = field(default_factory=dict)


class Circuit:
    """One arm's circuit. Each attempt is ``begin`` and later ``end``; ``admits`` asks first."""

    def __init__(self, rules: CircuitRules) -> None:
        self._rules = rules
        self.state: State = "closed"
        self._slots: deque[_Slot] = deque()
        self._open_until_s = 0.0
        self._failed_trials = 0
        self._successes = 0
        self._probes: list[float] = []

    def admits(self, now_s: float) -> bool:
        """Whether an attempt may be made now."""
        if self.state == "closed":
            return True
        if self.state == "open":
            return now_s >= self._open_until_s
        self._probes = [each for each in self._probes if now_s - each < self._rules.probe_s]
        return len(self._probes) < self._rules.probes

    @property
    def retry_at_s(self) -> float:
        """When an open circuit is tried again."""
        return self._open_until_s

    def begin(self, now_s: float) -> Transition | None:
        """An attempt that was admitted starts; the first after an open circuit's time makes it half open."""
        change = None
        if self.state == "open" and now_s >= self._open_until_s:
            change = self._become("half_open", "probe_due", now_s)
            self._successes, self._probes = 0, []
        if self.state == "half_open":
            self._probes.append(now_s)
        return change

    def end(self, outcome: Outcome, latency_ms: float, now_s: float) -> Transition | None:
        """An attempt ended after ``latency_ms``; what an open circuit hears late changes nothing."""
        if self.state == "open":
            return None
        if self.state == "half_open":
            return self._probed(outcome, now_s)
        if outcome == "neutral":
            return None
        self._count(outcome, latency_ms, now_s)
        reason = self._verdict() if outcome != "ok" or self._rules.p99_ms is not None else None
        return None if reason is None else self._open(reason, now_s)

    def percentile_ms(self, share: float, now_s: float, *, least: int = 20) -> float | None:
        """The latency below which ``share`` of the window's successful attempts lie; None for fewer than ``least``."""
        self._rotate(now_s)
        return self._percentile(share, least)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _probed(self, outcome: Outcome, now_s: float) -> Transition | None:
        if self._probes:
            self._probes.pop(0)
        if outcome == "neutral":
            return None
        if outcome != "ok":
            self._failed_trials += 1
            return self._open("probe_failed", now_s)
        self._successes += 1
        if self._successes < self._rules.successes:
            return None
        self._failed_trials = 0
        self._slots.clear()
        return self._become("closed", "recovered", now_s)

    def _count(self, outcome: Outcome, latency_ms: float, now_s: float) -> None:
        self._rotate(now_s)
        number = int(now_s / self._rules.window_s * _SLOTS)
        if not self._slots or self._slots[-1].number < number:
            self._slots.append(_Slot(number))
        slot = self._slots[-1]
        slot.attempts += 1
        slot.errors += outcome == "error"
        slot.timeouts += outcome == "timeout"
        if outcome == "ok":
            place = min(_BUCKETS, max(0, math.ceil(math.log(max(latency_ms, 1.0)) / _RATIO)))
            slot.latencies[place] = slot.latencies.get(place, 0) + 1

    def _rotate(self, now_s: float) -> None:
        oldest = int(now_s / self._rules.window_s * _SLOTS) - _SLOTS
        while self._slots and self._slots[0].number <= oldest:
            self._slots.popleft()

    def _totals(self) -> tuple[int, int, int]:
        return (
            sum(slot.attempts for slot in self._slots),
            sum(slot.errors for slot in self._slots),
            sum(slot.timeouts for slot in self._slots),
        )

    def _verdict(self) -> Reason | None:
        rules = self._rules
        attempts, errors, timeouts = self._totals()
        if attempts < rules.least_attempts:
            return None
        if timeouts >= rules.timeout_rate * attempts:
            return "timeouts"
        if errors + timeouts >= rules.error_rate * attempts:
            return "error_rate"
        if rules.p99_ms is not None:
            # One slow answer in a hundred is what the limit allows, so a hundred are needed to say more.
            p99 = self._percentile(0.99, max(rules.least_attempts, 100))
            if p99 is not None and p99 > rules.p99_ms:
                return "p99"
        return None

    def _percentile(self, share: float, least: int) -> float | None:
        counts: dict[int, int] = {}
        for slot in self._slots:
            for place, count in slot.latencies.items():
                counts[place] = counts.get(place, 0) + count
        total = sum(counts.values())
        if total < least:
            return None
        rank = math.ceil(share * total)
        seen = 0
        for place in sorted(counts):
            seen += counts[place]
            if seen >= rank:
                return math.exp(place * _RATIO)
        return None

    def _open(self, reason: Reason, now_s: float) -> Transition:
        rules = self._rules
        self._open_until_s = now_s + min(rules.most_open_s, rules.open_s * 2.0 ** min(self._failed_trials, 30))
        self._probes = []
        return self._become("open", reason, now_s)

    def _become(self, after: State, reason: Reason, now_s: float) -> Transition:
        attempts, errors, timeouts = self._totals()
        before, self.state = self.state, after
        return Transition(
            before=before,
            after=after,
            reason=reason,
            attempts=attempts,
            error_rate=(errors + timeouts) / attempts if attempts else 0.0,
            timeout_rate=timeouts / attempts if attempts else 0.0,
            p99_ms=self._percentile(0.99, 1),
            until_s=self._open_until_s if after == "open" else None,
        )


class Circuits:
    """The circuits of every arm, by key; one that was never asked for is closed. Keys come from policies and the
    providers' file, never from callers, so there is no bound to keep."""

    def __init__(self, rules: CircuitRules) -> None:
        self._rules = rules
        self._held: dict[str, Circuit] = {}

    def admits(self, key: str, now_s: float) -> bool:
        """Whether an attempt at the arm may be made now."""
        circuit = self._held.get(key)
        return circuit is None or circuit.admits(now_s)

    def of(self, key: str) -> Circuit:
        """The arm's circuit."""
        circuit = self._held.get(key)
        if circuit is None:
            circuit = self._held[key] = Circuit(self._rules)
        return circuit

    @property
    def not_closed(self) -> int:
        """How many arms are cut off or on trial."""
        return sum(circuit.state != "closed" for circuit in self._held.values())
