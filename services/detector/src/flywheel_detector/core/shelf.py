"""All series of a shard: created on sight, bounded in number, and held in memory between batches.

What is held is only a copy: it is used where the state holds exactly the head it was last written with, else the state
is read, so a batch that failed leaves no trace.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from flywheel.detect import LevelDetector
from flywheel.stream import StateView
from flywheel_detector.core.book import key_of
from flywheel_detector.core.measures import GOLDEN, measure_of
from flywheel_detector.core.series import Glance, Series, drop_series, glance_of, read_series

HOUR_US: Final = 3_600_000_000
PROBE_WARM_UP: Final = 64
"""Probes come rarely, and have no slow swing that must show before bets begin."""

Held = OrderedDict[tuple[int, str], Series]


def series_key(book: str, place: str, measure: str) -> str:
    """48 hex digits: feature, cell and measure."""
    return f"{book}{place}{key_of(measure)}"


class Shelf:
    """The series of a shard during a batch.

    ``held``: those of former batches, at most ``most``; ``warm_up``: observations that only teach a new one.
    """

    def __init__(self, shard: int, state: StateView, held: Held, *, most: int, warm_up: int) -> None:
        self._shard, self._state, self._held, self._most, self._warm_up = shard, state, held, most, warm_up
        self._open: dict[str, Series] = {}
        self._ages: dict[str, int] = {}
        self.count = int(state.get("clock", "series") or b"0")

    def series(self, book: str, place: str, measure: str) -> Series:
        """Return a series, made where there is none."""
        key = series_key(book, place, measure)
        found = self._open.get(key)
        if found is None:
            found = self._open[key] = self._load(key, measure)
            self._ages[key] = _hour(found.last_us)
        return found

    def glance(self, book: str, place: str, measure: str) -> Glance | None:
        """Return what the head of a series tells, None where there is none."""
        key = series_key(book, place, measure)
        if key in self._open:
            self._open[key].write(self._state)
        stored = self._state.get("heads", key)
        return None if stored is None else glance_of(stored)

    def _load(self, key: str, measure: str) -> Series:
        stored = self._state.get("heads", key)
        held = self._held.pop((self._shard, key), None)
        if stored is not None and held is not None and held.stored == stored:
            return held
        warm_up = min(self._warm_up, PROBE_WARM_UP) if measure.startswith(GOLDEN) else self._warm_up
        fresh = LevelDetector(warm_up=warm_up, salt=key)
        if stored is None:
            self.count += 1
            return Series(key, measure_of(measure), fresh)
        return read_series(self._state, key, stored, fresh, measure_of(measure))

    def write(self) -> None:
        """Put what changed into the state, and hold the series for the next batch."""
        for key, series in self._open.items():
            series.write(self._state)
            hour = _hour(series.last_us)
            if hour != self._ages[key] or not self._ages[key]:
                self._state.delete("ages", f"{self._ages[key]:020d}{key}")
                self._state.put("ages", f"{hour:020d}{key}", b"")
            self._held[(self._shard, key)] = series
        self._open, self._ages = {}, {}
        while len(self._held) > self._most:
            self._held.popitem(last=False)
        self._state.put("clock", "series", str(self.count).encode())

    def evict(self) -> list[tuple[str, int]]:
        """Drop the series not heard of for longest while there are too many; their keys and numbers of observations.
        To be called when nothing is open."""
        gone: list[tuple[str, int]] = []
        for age, _ in list(self._state.scan("ages", limit=max(self.count - self._most, 0))):
            key = age[20:]
            self._state.delete("ages", age)
            gone.append((key, drop_series(self._state, key)))
            self._held.pop((self._shard, key), None)
        self.count -= len(gone)
        self._state.put("clock", "series", str(self.count).encode())
        return gone


def _hour(at_us: int) -> int:
    return at_us // HOUR_US * HOUR_US
