"""Silence: nothing came for much longer than is usual for this series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flywheel.detect.state import Stateful

KEPT: Final = 64
LEAST: Final = 20
TIMES_MEDIAN: Final = 10.0
TIMES_LONGEST: Final = 3.0


@dataclass(frozen=True, slots=True)
class Silence:
    """A silence since a time; its length, the typical interval and the limit, all in microseconds."""

    since_us: int
    gap_us: int
    typical_us: int
    limit_us: int


class SilenceDetector(Stateful):
    """Knows the last 64 intervals; a gap is a silence above ten times their median and three times their longest."""

    __slots__ = ("intervals", "last_us", "place")

    def __init__(self) -> None:
        self.intervals: list[int] = []
        self.place = 0
        self.last_us: int | None = None

    def overdue_us(self) -> int | None:
        """From how long a gap (microseconds) on there is silence; None while too little is known."""
        if len(self.intervals) < LEAST:
            return None
        ordered = sorted(self.intervals)
        return int(max(TIMES_MEDIAN * ordered[len(ordered) // 2], TIMES_LONGEST * ordered[-1], 1.0))

    def update(self, at_us: int) -> Silence | None:
        """Take in that something came; the silence before it, if it was one. What is late counts as the last."""
        before, self.last_us = self.last_us, at_us if self.last_us is None else max(at_us, self.last_us)
        if before is None or at_us <= before:
            return None
        gap = at_us - before
        # No gap below three times any one known interval can be a silence: the sort is for the others.
        limit = self.overdue_us() if self.intervals and gap > TIMES_LONGEST * self.intervals[0] else None
        if limit is not None and gap > limit:
            return Silence(before, gap, sorted(self.intervals)[len(self.intervals) // 2], limit)
        if len(self.intervals) < KEPT:
            self.intervals.append(gap)
        else:
            self.intervals[self.place] = gap
            self.place = (self.place + 1) % KEPT
        return None
