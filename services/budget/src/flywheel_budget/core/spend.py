"""Stage 1: counts what is spent. Folds decisions and calls, joined by request, into rows of the budget ledger.

A row is what one shard knows of one account (or of what was spent without one) in one window of one instance: absolute,
and numbered by the facts behind it. State tables of a shard: ``requests`` (the parts of each request), ``rows``,
``leaving`` (which request is let go when), ``said`` (the day each definition was last said) and ``clock`` (event time
by topic). Rows and numbers are a function of the set of facts read, whatever their order, repeats and batches, as long
as topics are read within ``remember_s`` of event time of one another: a fact older than that is skipped, as nobody
could tell any more whether it was counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flywheel.budget import Budget, Matcher, budget_key_of, to_usd
from flywheel.events import event_id
from flywheel.stream import Event, FoldResult, Output, Reject, Skip, StateView, check_form
from flywheel_budget.core.entries import LEDGER
from flywheel_budget.core.intake import call_part, decision_part, definition_of, time_problem
from flywheel_budget.core.requests import NOTHING, Call, Counts, Decision, Request, RowKey, rows_of

FORM: Final = 1
"""Of the state; another one when what the tables hold changes."""
_DAY_US: Final = 86_400 * 1_000_000
SEPARATOR: Final = "\x1f"
_CLOCKS: Final = ("llm-decisions", "llm-calls")


@dataclass(frozen=True, slots=True)
class SpendSettings:
    """``remember_s``: seconds of event time a request is known after its newest part; ``max_future_s``: how far a fact
    may lie ahead of its Kafka record."""

    remember_s: float = 86_400.0
    max_future_s: float = 3_600.0


class SpendFold:
    """The fold of stage 1. ``matcher`` returns the budgets known now; the fold keeps nothing between batches."""

    def __init__(self, matcher: Callable[[], Matcher], settings: SpendSettings | None = None) -> None:
        self._matcher = matcher
        self._settings = settings or SpendSettings()

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
        """Count a batch; see ``flywheel.stream.Fold``."""
        check_form(state, FORM, stage="budget-spend", shard=shard)
        batch = _Batch(shard, state, self._matcher(), self._settings)
        verdicts: dict[int, Skip | Reject] = {}
        for index, event in enumerate(events):
            verdict = batch.take(event)
            if verdict is not None:
                verdicts[index] = verdict
        return FoldResult(batch.finish(), verdicts)


@dataclass(slots=True)
class _Row:
    version: int
    newest_us: int
    counts: Counts
    before: Counts


class _Batch:
    def __init__(self, shard: int, state: StateView, matcher: Matcher, settings: SpendSettings) -> None:
        self._source = f"spend/{shard}"
        self._state, self._matcher = state, matcher
        self._remember_us = round(settings.remember_s * 1e6)
        self._max_future_us = round(settings.max_future_s * 1e6)
        self._rows: dict[RowKey, _Row] = {}
        self._definitions: list[Output] = []
        found = state.get_many("clock", _CLOCKS)
        self._clock = {topic: int(found.get(topic, b"0")) for topic in _CLOCKS}

    def take(self, event: Event) -> Skip | Reject | None:
        value = event.value
        if event.event == "budget":
            return self._define(value)
        if event.event not in ("decision", "llm_call"):
            return Skip("not_an_input")
        problem = time_problem(value, event.raw.timestamp_ms, self._max_future_us)
        if problem is not None:
            return problem
        topic, at_us = _CLOCKS[event.event == "llm_call"], value["occurred_at"]
        self._clock[topic] = max(self._clock[topic], at_us)
        if at_us < self._clock[topic] - self._remember_us:
            return Skip("too_late")
        part: Decision | Call | Skip | Reject
        if event.event == "decision":
            part = decision_part(value, self._matcher)
        else:
            part = call_part(value, self._matcher, event.raw.timestamp_ms * 1000 or at_us)
        if isinstance(part, Skip | Reject):
            return part
        return self._join(f"{value['project']}{SEPARATOR}{value['request_id']}", part)

    def _define(self, value: Mapping[str, Any]) -> Skip | Reject | None:
        budget = definition_of(value)
        if isinstance(budget, Reject):
            return budget
        self._definitions.append(_definition(budget, value["occurred_at"]))
        return None

    def _say_again(self) -> None:
        """Put a budget's definition on the ledger again on every day on which something is spent from it.

        The ledger is kept for longer than any window, but not for ever: a guard that lost its disk must find each
        definition before whatever still matters of its budget.
        """
        newest: dict[str, int] = {}
        for (instance, _, _), row in self._rows.items():
            key = budget_key_of(instance)
            newest[key] = max(newest.get(key, 0), row.newest_us)
        for key in sorted(newest):
            day, budget = newest[key] // _DAY_US, self._matcher.budgets.get(key)
            if budget is not None and day > int(self._state.get("said", key) or b"-1"):
                self._state.put("said", key, str(day).encode())
                self._definitions.append(_definition(budget, newest[key]))

    def _join(self, key: str, part: Decision | Call) -> Skip | Reject | None:
        known = self._known(key)
        grown = known.with_part(part)
        if isinstance(grown, str):
            return Skip(grown) if grown == "duplicate" else Reject(grown, "request_id", "too many parts of a request")
        before, after = rows_of(known), rows_of(grown)
        for row_key, counts in after.items():
            row = self._row(row_key)
            row.counts = row.counts.plus(counts.minus(before.get(row_key, NOTHING)))
            row.version += grown.parts - (known.parts if row_key in before else 0)
            row.newest_us = max(row.newest_us, grown.newest_us)
        self._state.put("requests", key, grown.encode())
        if known.parts and known.newest_us != grown.newest_us:
            self._state.delete("leaving", _leaving(known, key))
        self._state.put("leaving", _leaving(grown, key), b"")
        return None

    def _known(self, key: str) -> Request:
        """What is known of a request; nothing when it would be let go at the end of a batch that ended before."""
        stored = self._state.get("requests", key)
        if stored is None:
            return Request()
        known = Request.decode(stored)
        if known.newest_us >= self._past_us():
            return known
        self._state.delete("leaving", _leaving(known, key))
        return Request()

    def _past_us(self) -> int:
        """Requests older than this are forgotten. A topic that stands still holds them back as long again, no
        longer.
        """
        clocks = self._clock.values()
        return max(min(clocks), max(clocks) - self._remember_us) - self._remember_us

    def _row(self, key: RowKey) -> _Row:
        row = self._rows.get(key)
        if row is None:
            stored = self._state.get("rows", SEPARATOR.join(key))
            if stored is None:
                row = _Row(0, 0, NOTHING, NOTHING)
            else:
                version, newest_us, *counts = json.loads(stored)
                row = _Row(version, newest_us, Counts(*counts), Counts(*counts))
            self._rows[key] = row
        return row

    def finish(self) -> list[Output]:
        """Store what changed and return the entries: definitions, then rows that rose, then rows that fell.

        Money that moves from one row to another is in both for a moment rather than in none.
        """
        for key, row in self._rows.items():
            stored = json.dumps([row.version, row.newest_us, *row.counts], separators=(",", ":")).encode()
            self._state.put("rows", SEPARATOR.join(key), stored)
        for topic, at_us in self._clock.items():
            if at_us:
                self._state.put("clock", topic, str(at_us).encode())
        self._let_go()
        self._say_again()
        changed = [(key, row) for key, row in self._rows.items() if row.counts != row.before]
        changed.sort(key=lambda pair: (pair[1].counts.spent < pair[1].before.spent, pair[0]))
        return [*self._definitions, *(self._entry(key, row) for key, row in changed)]

    def _let_go(self) -> None:
        """Forget requests whose every part would be skipped if it came again."""
        past_us = self._past_us()
        if past_us <= 0:
            return
        for timer, _ in list(self._state.scan("leaving", "", f"{past_us:020d}")):
            self._state.delete("requests", timer.partition(SEPARATOR)[2])
            self._state.delete("leaving", timer)

    def _entry(self, key: RowKey, row: _Row) -> Output:
        instance, window, account = key
        budget = budget_key_of(instance)
        project, _, name = budget.partition("/")
        counts = row.counts
        entry = {
            "event_id": event_id("spend", instance, window, account, self._source, row.version),
            "project": project,
            "budget": name,
            "occurred_at": row.newest_us,
            "kind": "spend",
            "instance": instance,
            "window": window,
            "account": account,
            "source": self._source,
            "version": row.version,
            "spent_usd": to_usd(counts.spent),
            "settled_usd": to_usd(counts.settled),
            "calls": counts.calls,
            "unpriced": counts.unpriced,
            "above_bound": counts.above_bound,
        }
        return Output(LEDGER, instance, "budget_entry", entry, budget)


def _definition(budget: Budget, occurred_at_us: int) -> Output:
    entry = {
        "event_id": event_id("definition", budget.project, budget.name, budget.revision),
        "project": budget.project,
        "budget": budget.name,
        "occurred_at": occurred_at_us,
        "kind": "definition",
        "instance": budget.key,
        "terms": budget.terms(),
    }
    return Output(LEDGER, budget.key, "budget_entry", entry, budget.key)


def _leaving(request: Request, key: str) -> str:
    return f"{request.newest_us:020d}{SEPARATOR}{key}"
