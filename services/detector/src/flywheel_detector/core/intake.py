"""Stage 1: joins facts by request and passes them on to the ledger as observations, by feature.

State tables of a shard: ``requests``; ``waiting`` (which request has a fact that waits since when), ``leaving`` (which
is let go when) and ``clock`` (event time by topic). Each is a function of the set of facts read, as long as topics are
read within ``remember_s`` of event time of one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flywheel.policy import CharterInvalid, parse_charter
from flywheel.stream import Event, FoldResult, Output, Reject, Skip, StateView, check_form
from flywheel_detector.core.facts import Fact, fact_of
from flywheel_detector.core.ledger import charter_entry, observation_entries
from flywheel_detector.core.requests import MAX_FACTS, Request

FORM: Final = 1
"""Of the state; another one when what the tables hold changes."""
INPUTS: Final = ("llm-calls", "llm-decisions", "llm-evaluations", "llm-feedback", "charters")
SEPARATOR: Final = "\x1f"


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """``remember_s``: seconds of event time a request is known after its newest fact, and a fact is taken late;
    ``wait_s``: how long a fact waits for the one that says whose it is, by the time of the topic that has it, and
    ``wait_longest_s`` by that of any; ``max_future_s``: how far a fact may lie ahead of its Kafka record."""

    remember_s: float = 21_600.0
    wait_s: float = 60.0
    wait_longest_s: float = 3_600.0
    max_future_s: float = 300.0


class IntakeFold:
    """The fold of stage 1."""

    def __init__(self, settings: IntakeSettings | None = None) -> None:
        self._settings = settings or IntakeSettings()

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
        """Pass a batch on; see ``flywheel.stream.Fold``."""
        check_form(state, FORM, stage="detector-intake", shard=shard)
        batch = _Batch(state, self._settings)
        verdicts: dict[int, Skip | Reject] = {}
        for index, event in enumerate(events):
            verdict = batch.take(event)
            if verdict is not None:
                verdicts[index] = verdict
        return FoldResult(batch.finish(), verdicts)


class _Batch:
    def __init__(self, state: StateView, settings: IntakeSettings) -> None:
        self._state = state
        self._remember_us = round(settings.remember_s * 1e6)
        self._wait_us = round(settings.wait_s * 1e6)
        self._wait_longest_us = round(settings.wait_longest_s * 1e6)
        self._max_future_us = round(settings.max_future_s * 1e6)
        self._charters: list[Output] = []
        self._taken: dict[tuple[str, str], list[tuple[Fact, str]]] = {}
        self._clock = {topic: int(text) for topic, text in state.get_many("clock", INPUTS).items()}

    def take(self, event: Event) -> Skip | Reject | None:
        value = event.value
        if event.event == "charter":
            return self._charter(value)
        fact = fact_of(event, self._max_future_us)
        if not isinstance(fact, Fact):
            return fact
        newest_us = self._clock[event.topic] = max(self._clock.get(event.topic, 0), fact.at_us)
        if fact.at_us < newest_us - self._remember_us:
            return Skip("too_late")
        key = f"{value['project']}{SEPARATOR}{value['request_id']}"
        request = self._request(key)
        if fact.mark in request.marks:
            return Skip("duplicate")
        if len(request.marks) >= MAX_FACTS:
            return Reject("too_many", "request_id", f"more than {MAX_FACTS} facts of one request")
        before = self._timers(request, key)
        request.add(fact)
        self._release(key, request)
        self._keep(key, request, before)
        return None

    def _charter(self, value: Mapping[str, Any]) -> Skip | None:
        try:
            charter = parse_charter(value["charter_yaml"])
        except CharterInvalid:
            return Skip("charter_invalid")  # the bandit reads the same record and sends it to the dead letters
        if (charter.project, charter.feature) != (value["project"], value["feature"]):
            return Skip("charter_invalid")
        self._charters.append(charter_entry(value, charter))
        return None

    def _request(self, key: str) -> Request:
        """What is known of a request; nothing where it would have been let go by now."""
        stored = self._state.get("requests", key)
        known = Request() if stored is None else Request.decode(stored)
        if stored is None or known.newest_us >= self._past_us():
            return known
        self._drop(key, known)
        return Request()

    def _release(self, key: str, request: Request) -> None:
        for fact in request.released(self._waited_us()):
            project, _, request_id = key.partition(SEPARATOR)
            if fact.measured:
                self._taken.setdefault((project, fact.feature), []).append((fact, request_id))

    def _keep(self, key: str, request: Request, before: set[tuple[str, str]]) -> None:
        after = self._timers(request, key)
        for table, timer in sorted(before - after):
            self._state.delete(table, timer)
        for table, timer in sorted(after - before):
            self._state.put(table, timer, b"")
        self._state.put("requests", key, request.encode())

    def _drop(self, key: str, request: Request) -> None:
        for table, timer in sorted(self._timers(request, key)):
            self._state.delete(table, timer)
        self._state.delete("requests", key)

    def _timers(self, request: Request, key: str) -> set[tuple[str, str]]:
        if not request.marks:
            return set()
        found = {("leaving", f"{request.newest_us:020d}{SEPARATOR}{key}")}
        if request.waiting:
            found.add(("waiting", f"{request.waiting[0].at_us:020d}{SEPARATOR}{key}"))
        return found

    def _waited_us(self) -> int:
        """Facts older than this wait no longer. What they wait for is older than they are, so it is judged by how far
        its topic was read; a topic in which nothing happens holds them back no longer than the longest wait."""
        read_us = min(self._clock.get("llm-calls", 0), self._clock.get("llm-decisions", 0))
        return max(read_us - self._wait_us, max(self._clock.values(), default=0) - self._wait_longest_us, 0)

    def _past_us(self) -> int:
        """Requests whose newest fact is older than this are forgotten."""
        return max(self._clock.values(), default=0) - 2 * self._remember_us

    def finish(self) -> list[Output]:
        """Let go what has waited long enough and what is old; return the entries."""
        for topic, at_us in sorted(self._clock.items()):
            self._state.put("clock", topic, str(at_us).encode())
        self._let_go()
        entries = [entry for key in sorted(self._taken) for entry in observation_entries(*key, self._taken[key])]
        return [*self._charters, *entries]

    def _let_go(self) -> None:
        for timer, _ in list(self._state.scan("waiting", "", f"{self._waited_us():020d}")):
            key = timer.partition(SEPARATOR)[2]
            request = self._request(key)
            before = self._timers(request, key)
            if before:
                self._release(key, request)
                self._keep(key, request, before)
        for timer, _ in list(self._state.scan("leaving", "", f"{max(self._past_us(), 0):020d}")):
            key = timer.partition(SEPARATOR)[2]
            stored = self._state.get("requests", key)
            if stored is not None:
                self._drop(key, Request.decode(stored))
