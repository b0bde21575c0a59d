"""Stage 2: the controller itself, a fold of the ledger alone. Its clock is the broker's, on the ledger's records.

The ledger is one order of alerts, declarations, a person's orders and the time. State and outputs are a function of it:
read again, in any batches, it gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any, Final

from flywheel.control import ControlInvalid, Record, RulesInvalid, Silence, Tree, parse_rules
from flywheel.stream import Event, FoldResult, Output, Reject, Skip, StateView, body_of, check_form
from flywheel_controller.core.book import Book, Declared
from flywheel_controller.core.desk import Desk
from flywheel_controller.core.ground import Charters, Place
from flywheel_controller.core.ledger import KINDS, LEDGER, alert_in, declared_in

FORM: Final = 1
"""Of the state; another one when what the tables hold changes."""
_SEP: Final = "\x1f"
Apply = Callable[[Desk, str, dict[str, Any], int], bool]


class ActFold:
    """The fold of stage 2. ``default``: the rules of projects that declare none."""

    def __init__(self, default: Tree) -> None:
        self._default = default

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
        """Take a batch of entries."""
        check_form(state, FORM, stage="controller-act", shard=shard)
        batch = _Batch(state, self._default)
        verdicts: dict[int, Skip | Reject] = {}
        for index, event in enumerate(events):
            verdict = batch.take(event)
            if verdict is not None:
                verdicts[index] = verdict
        batch.write()
        return FoldResult(batch.outputs, verdicts)


class _Batch:
    def __init__(self, state: StateView, default: Tree) -> None:
        self._state, self._default = state, default
        self.outputs: list[Output] = []
        self._now_us = int(state.get("clock", "now") or b"0")
        self._charters: dict[str, Charters] = {}
        self._desks: dict[str, Desk] = {}
        self._stored: dict[str, bytes] = {}
        for project, stored in state.scan("books"):
            self._stored[project] = stored
            self._open(Book.decode(stored))

    def take(self, event: Event) -> Skip | Reject | None:
        if event.event != "control_entry":
            return Skip("not_an_input")
        raw, value = event.raw, event.value
        self._now_us = max(self._now_us, raw.timestamp_ms * 1000)
        place = Place(self._now_us, raw.partition, raw.offset)
        if value["kind"] == "tick":
            for project in sorted(self._desks):
                self._desks[project].time(place)
            return None
        apply = _APPLY.get(value["kind"])
        if apply is None:
            return Reject("unknown_kind", "kind", f"{value['kind']!r} is none of {', '.join(KINDS)}")
        body = body_of(value)
        if isinstance(body, Reject):
            return body
        desk = self._desks.get(value["project"])
        if desk is None:
            desk = self._open(Book(value["project"]))
        desk.at(place)
        try:
            taken = apply(desk, value["feature"], body, self._now_us)
        except (KeyError, TypeError, AttributeError, ControlInvalid, RulesInvalid) as error:
            return Reject("entry_invalid", "body", f"{type(error).__name__}: {error}"[:300])
        if not taken:
            return Skip("older")
        desk.settle()
        return None

    def write(self) -> None:
        """Put what changed into the state."""
        self._state.put("clock", "now", str(self._now_us).encode())
        for project, desk in sorted(self._desks.items()):
            encoded = desk.book.encode()
            if self._stored.get(project) != encoded:
                self._state.put("books", project, encoded)
            charters = self._charters[project]
            for feature in sorted(charters.changed):
                held = json.dumps([asdict(each) for each in charters.of(feature)], separators=(",", ":"))
                self._state.put("charters", f"{project}{_SEP}{feature}", held.encode())

    def _open(self, book: Book) -> Desk:
        def load(feature: str) -> list[Declared]:
            stored = self._state.get("charters", f"{book.project}{_SEP}{feature}")
            return [Declared(**each) for each in json.loads(stored)] if stored else []

        tree = _tree(book.rules_text) if book.rules_text else self._default
        charters = self._charters[book.project] = Charters(load)
        desk = self._desks[book.project] = Desk(book, tree, charters, self.outputs)
        return desk


def _alert(desk: Desk, feature: str, body: dict[str, Any], now_us: int) -> bool:
    return desk.alert(alert_in(body, now_us))


def _charter(desk: Desk, feature: str, body: dict[str, Any], now_us: int) -> bool:
    declared, default, arms = declared_in(body, now_us)
    return desk.charter(feature, declared, default, arms)


def _policy(desk: Desk, feature: str, body: dict[str, Any], now_us: int) -> bool:
    return desk.policy(feature, body["version"], {arm["name"]: (arm["mean"], arm["price"]) for arm in body["arms"]})


def _control(desk: Desk, feature: str, body: dict[str, Any], now_us: int) -> bool:
    return desk.override(Record.from_event(body))


def _silence(desk: Desk, feature: str, body: dict[str, Any], now_us: int) -> bool:
    return desk.silence(Silence.from_event(body))


def _rules(desk: Desk, feature: str, body: dict[str, Any], now_us: int) -> bool:
    return desk.rules(body["revision"], body["text"], _tree(body["text"]))


_APPLY: Mapping[str, Apply] = {
    "alert": _alert, "charter": _charter, "policy": _policy, "control": _control, "silence": _silence, "rules": _rules,
}  # fmt: skip


@lru_cache(maxsize=256)
def _tree(text: str) -> Tree:
    return parse_rules(text)


__all__ = ["LEDGER", "ActFold"]
