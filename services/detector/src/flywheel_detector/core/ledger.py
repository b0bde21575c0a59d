"""Entries of the ledger: what stage 1 writes and stage 2 reads. What comes back is input like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, Final, NamedTuple

from flywheel.events import event_id
from flywheel.policy import Charter
from flywheel.stream import Output, Reject
from flywheel_detector.core.facts import Fact
from flywheel_detector.core.measures import is_measure

LEDGER: Final = "detection-ledger"
EVENT: Final = "detection_entry"
MAX_OBSERVATIONS: Final = 500
"""In one entry, so that none is too large for a record."""


class Cell(NamedTuple):
    """What observations are about: an arm and a model (``provider/model``) of a feature; both empty: all of it."""

    arm: str
    model: str


class Observation(NamedTuple):
    """One fact's figures. ``seen``: how it came about, e.g. the version of the prompt."""

    cell: Cell
    at_us: int
    mark: str
    request_id: str
    measured: Mapping[str, float]
    seen: Mapping[str, str]


def observation_entries(project: str, feature: str, facts: Sequence[tuple[Fact, str]]) -> Iterator[Output]:
    """Return entries for a feature's facts with their request ids, in order of time."""
    ordered = sorted(facts, key=lambda pair: (pair[0].at_us, pair[0].mark))
    for start in range(0, len(ordered), MAX_OBSERVATIONS):
        part = ordered[start : start + MAX_OBSERVATIONS]
        cells: dict[str, int] = {}
        observations = []
        for fact, request_id in part:
            cell = as_text({"arm": fact.arm, "model": fact.model, "seen": fact.seen})
            place = cells.setdefault(cell, len(cells))
            observations.append([place, fact.at_us, fact.mark, request_id, fact.measured])
        body = {"cells": [json.loads(cell) for cell in cells], "observations": observations}
        yield _entry("observations", project, feature, part[-1][0].at_us, as_text(body))


def charter_entry(value: Mapping[str, Any], charter: Charter) -> Output:
    """Return the entry of a charter: when it was declared, which arms it has and which bounds it sets."""
    bounds = {name: [limit.min, limit.max] for name, limit in charter.constraints.items()}
    for level in charter.slo:
        bounds.setdefault(level.metric, [level.min, level.max])
    body = {
        "revision": value["revision"],
        "at_us": value["occurred_at"],
        "arms": [[arm.name, arm.model, arm.enabled] for arm in charter.arms],
        "bounds": bounds,
    }
    return _entry("charter", value["project"], value["feature"], value["occurred_at"], as_text(body))


def tick_entry(number: int, keys: Sequence[str], now_us: int) -> Output:
    """Return the time for one of the ledger's partitions, of which ``keys`` each choose one."""
    body = as_text({"partitions": len(keys)})
    value = {"event_id": event_id("tick", number, now_us), "project": "", "occurred_at": now_us, "kind": "tick"}
    return Output(LEDGER, keys[number], EVENT, {**value, "body": body})


def _entry(kind: str, project: str, feature: str, at_us: int, body: str) -> Output:
    value = {
        "event_id": event_id("detection_entry", kind, project, feature, body), "project": project,
        "occurred_at": at_us, "kind": kind, "feature": feature, "body": body,
    }  # fmt: skip
    return Output(LEDGER, f"{project}/{feature}", EVENT, value)


def as_text(value: Any) -> str:
    """Return JSON; the same values give the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def body_of(value: Mapping[str, Any]) -> dict[str, Any] | Reject:
    """Return what an entry carries."""
    try:
        found = json.loads(value["body"])
    except (ValueError, RecursionError):
        return Reject("not_json", "body", "must be a JSON object")
    return found if isinstance(found, dict) else Reject("not_json", "body", "must be a JSON object")


def observations_in(body: Mapping[str, Any]) -> list[Observation] | Reject:
    """Return the observations of a body."""
    try:
        cells = [(Cell(each["arm"], each["model"]), each["seen"]) for each in body["cells"]]
        found = [
            Observation(cells[place][0], int(at_us), str(mark), str(request), measured, cells[place][1])
            for place, at_us, mark, request, measured in body["observations"]
        ]
        sound = all(is_measure(name) and isfinite(value) for each in found for name, value in each.measured.items())
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        return Reject("entry_invalid", "body", f"{type(error).__name__}: {error}"[:300])
    return found if sound else Reject("entry_invalid", "body", "an unknown measure, or a value that is no number")
