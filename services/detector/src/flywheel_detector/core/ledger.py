"""Entries of the ledger: what stage 1 writes and stage 2 reads. What comes back is input like any other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeGuard

from flywheel.events import event_id
from flywheel.policy import Charter
from flywheel.stream import Output, Reject, as_body
from flywheel_detector.core.facts import MAX_CLASS, MAX_CLASSES, MOST, Fact
from flywheel_detector.core.measures import is_measure

LEDGER: Final = "detection-ledger"
EVENT: Final = "detection_entry"
MAX_OBSERVATIONS: Final = 500
MAX_TEXT: Final = 250_000
"""Characters in one entry, beside those of its last observation, so that none is too large for a record."""
LATEST_US: Final = 253_402_300_800_000_000
"""The end of the year 9999: no later time can be written down."""


class Cell(NamedTuple):
    """What observations are about: an arm and a model (``provider/model``) of a feature; both empty: all of it."""

    arm: str
    model: str


class Observation(NamedTuple):
    """One fact's figures. ``seen``: how it came about, e.g. the version of the prompt; ``classes``: of a score, what
    kind of request it was, by the fields of the decision's context."""

    cell: Cell
    at_us: int
    mark: str
    request_id: str
    measured: Mapping[str, float]
    seen: Mapping[str, str]
    classes: Mapping[str, str]


def observation_entries(project: str, feature: str, facts: Sequence[tuple[Fact, str]]) -> Iterator[Output]:
    """Return entries for a feature's facts with their request ids, in order of time."""
    ordered = sorted(facts, key=lambda pair: (pair[0].at_us, pair[0].mark))
    cells: dict[str, int] = {}
    made: list[str] = []
    size = newest_us = 0
    for fact, request_id in ordered:
        if made and (len(made) >= MAX_OBSERVATIONS or size >= MAX_TEXT):
            yield _entry("observations", project, feature, newest_us, _observations_text(cells, made))
            cells, made, size = {}, [], 0
        classes = {"classes": fact.classes} if fact.kind == "score" and fact.classes else {}
        cell = as_body({"arm": fact.arm, "model": fact.model, "seen": fact.seen, **classes})
        size += 0 if cell in cells else len(cell)
        place = cells.setdefault(cell, len(cells))
        made.append(as_body([place, fact.at_us, fact.mark, request_id, fact.measured]))
        size, newest_us = size + len(made[-1]), fact.at_us
    if made:
        yield _entry("observations", project, feature, newest_us, _observations_text(cells, made))


def _observations_text(cells: Mapping[str, int], observations: Sequence[str]) -> str:
    return f'{{"cells":[{",".join(cells)}],"observations":[{",".join(observations)}]}}'


def charter_entry(value: Mapping[str, Any], charter: Charter) -> Output:
    """Return the entry of a charter: when it was declared, which arms it has and which bounds it sets. Objectives
    (``slo``) are not among them: the monitor watches their error budgets."""
    bounds = {name: [limit.min, limit.max] for name, limit in charter.constraints.items()}
    body = {
        "revision": value["revision"],
        "at_us": value["occurred_at"],
        "arms": [[arm.name, arm.model, arm.enabled] for arm in charter.policy_arms],
        "bounds": bounds,
    }
    return _entry("charter", value["project"], value["feature"], value["occurred_at"], as_body(body))


def tick_entry(number: int, keys: Sequence[str], now_us: int) -> Output:
    """Return the time for one of the ledger's partitions, of which ``keys`` each choose one."""
    body = as_body({"partitions": len(keys)})
    value = {"event_id": event_id("tick", number, now_us), "project": "", "occurred_at": now_us, "kind": "tick"}
    return Output(LEDGER, keys[number], EVENT, {**value, "body": body})


def _entry(kind: str, project: str, feature: str, at_us: int, body: str) -> Output:
    value = {
        "event_id": event_id("detection_entry", kind, project, feature, body), "project": project,
        "occurred_at": at_us, "kind": kind, "feature": feature, "body": body,
    }  # fmt: skip
    return Output(LEDGER, f"{project}/{feature}", EVENT, value)


def observations_in(body: Mapping[str, Any]) -> list[Observation] | Reject:
    """Return the observations of a body."""
    try:
        cells = [(Cell(each["arm"], each["model"]), each["seen"], each.get("classes", {})) for each in body["cells"]]
        found = [
            Observation(cells[place][0], at_us, mark, request, measured, *cells[place][1:])
            for place, at_us, mark, request, measured in body["observations"]
        ]
        sound = all(_texts(*cell, *seen, *seen.values()) and _categories(of) for cell, seen, of in cells) and all(
            is_whole(each.at_us, LATEST_US) and _texts(each.mark, each.request_id) and _figures(each.measured)
            for each in found
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        return Reject("entry_invalid", "body", f"{type(error).__name__}: {error}"[:300])
    return found if sound else Reject("entry_invalid", "body", "an unknown measure, or a value out of its range")


def is_whole(value: Any, most: int) -> TypeGuard[int]:
    """Whether a value is a whole number from 1 to ``most``."""
    return type(value) is int and 1 <= value <= most


def _texts(*values: Any) -> bool:
    return all(isinstance(each, str) for each in values)


def _categories(classes: Mapping[str, Any]) -> bool:
    texts = [*classes, *classes.values()]
    return _texts(*texts) and all(len(each) <= MAX_CLASS for each in texts) and len(classes) <= MAX_CLASSES


def _figures(measured: Mapping[str, Any]) -> bool:
    """Whether all are known measures, with figures such as facts may have (``0 <= nan`` is false)."""
    return all(is_measure(name) and 0 <= value < MOST for name, value in measured.items())
