"""Events into windows: each counts once in every grain that still keeps its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from flywheel_monitor.core.readings import Reading
from flywheel_monitor.core.series import Roster, Series
from flywheel_monitor.core.spans import GRAINS, Grain
from flywheel_monitor.core.windows import Window


class Slot(NamedTuple):
    """Where a window is kept. By input partition, so that whoever reads a partition alone writes its windows."""

    grain: Grain
    partition: int
    series: Series
    start_us: int


class Shelf(Protocol):
    """The windows that are kept."""

    def get(self, slot: Slot) -> dict[str, Any] | None:
        """What was put there, or None."""

    def put(self, slot: Slot, record: dict[str, Any]) -> None:
        """Keep a record."""


class Place(NamedTuple):
    """Where an event lies in the log."""

    topic: str
    partition: int
    offset: int


@dataclass(slots=True)
class _Open:
    """A window being counted into, and the last offset of each topic that is in it."""

    window: Window
    upto: dict[str, int]
    changed: bool = False


@dataclass(slots=True)
class Folded:
    """How many events were counted, were in their windows already, or came after their windows were forgotten."""

    counted: int = 0
    repeated: int = 0
    late: int = 0
    slots: list[Slot] = field(default_factory=list)


def fold(readings: Sequence[tuple[Place, Reading]], roster: Roster, shelf: Shelf, now_us: int) -> Folded:
    """Count readings, in the order of their offsets. ``now_us``: by which it is judged what is still kept.

    A window remembers the last offset of each topic that it holds. So what is read again after a crash, in the order
    of the log as before, is in each window once.
    """
    opened: dict[Slot, _Open] = {}
    folded = Folded()
    for place, reading in readings:
        kept = counted = False
        for series in roster.places(reading.project, reading.feature, reading.arm):
            for grain in GRAINS:
                start_us = grain.start_of(reading.at_us)
                if not grain.keeps(start_us, now_us):
                    continue
                kept = True
                slot = Slot(grain, place.partition, series, start_us)
                found = opened.get(slot)
                if found is None:
                    found = opened[slot] = _open(shelf.get(slot))
                if place.offset > found.upto.get(place.topic, -1):
                    found.window.add(reading.adds)
                    found.upto[place.topic] = place.offset
                    found.changed = counted = True
        folded.counted += counted
        folded.repeated += kept and not counted
        folded.late += not kept
    for slot, found in opened.items():
        if found.changed:
            shelf.put(slot, found.window.record() | {"at": found.upto})
            folded.slots.append(slot)
    return folded


def _open(record: dict[str, Any] | None) -> _Open:
    if record is None:
        return _Open(Window(), {})
    return _Open(Window.of(record), dict(record["at"]))
