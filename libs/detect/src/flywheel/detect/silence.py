"""Silence: nothing came for longer than chance and the time of the week explain."""

from __future__ import annotations

from dataclasses import dataclass
from math import expm1, log
from typing import ClassVar, Final

from flywheel.detect.rhythm import Rhythm
from flywheel.detect.state import Stateful

KEPT: Final = 64
LEAST: Final = 20
TIMES_LONGEST: Final = 3.0
DAY_US: Final = 86_400_000_000.0
PER_DAY: Final = 0.01
MOST_LIKELY: Final = 1e-3
LEAST_LIKELY: Final = 1e-15


@dataclass(frozen=True, slots=True)
class Silence:
    """A silence since a time; its length, the typical interval and the limit, all in microseconds."""

    since_us: int
    gap_us: int
    typical_us: int
    limit_us: int


class SilenceDetector(Stateful):
    """Knows the last 64 intervals on the clock of the series' ``Rhythm``, and from when on a gap is a silence.

    Of events that come at random at a rate that only the hour changes (a Poisson process) false silences come at most
    about ``per_day`` times a day: intervals are then exponential on that clock, and the next one G and the sum S of n
    known ones satisfy P(G > t S) = (1 + t)⁻ⁿ exactly, whatever the rate. Three limits must be passed: this one for
    all intervals; the same for what the longer half exceeds the median by, which allows for events that come in bursts;
    three times the longest. Hours without events are learned too, so the usual quiet of a night or a weekend is none.
    """

    __slots__ = ("intervals", "last_us", "per_day", "place", "rhythm")
    PARTS: ClassVar = {"rhythm": Rhythm}

    def __init__(self, *, per_day: float = PER_DAY) -> None:
        self.per_day = per_day
        self.rhythm = Rhythm()
        self.intervals: list[float] = []
        self.place = 0
        self.last_us: int | None = None

    def overdue_us(self, since_us: int) -> int | None:
        """From how long a gap since a time (microseconds) on there is silence; None while too little is known, and
        where no gap would be one."""
        limit = self._limit()
        return None if limit is None else self.rhythm.reaches(since_us, limit)

    def _limit(self) -> float | None:
        """The least length of a silence, on the rhythm's clock."""
        count, total = len(self.intervals), sum(self.intervals)
        if count < LEAST:
            return None
        likely = min(max(self.per_day * total / count / DAY_US, LEAST_LIKELY), MOST_LIKELY)
        ordered = sorted(self.intervals)
        longer = ordered[count // 2 :]
        median = ordered[count // 2]
        excess = sum(longer) - len(longer) * median
        by_all = total * expm1(-log(likely) / count)
        by_longer = median + excess * expm1(-log(2.0 * likely) / (len(longer) - 1))
        return max(by_all, by_longer, TIMES_LONGEST * ordered[-1], 1.0)

    def update(self, at_us: int) -> Silence | None:
        """Take in that something came; the silence before it, if it was one. What is late counts as the last."""
        before = self.last_us
        if before is not None and at_us <= before:
            return None
        self.last_us = at_us
        if before is None:
            self.rhythm.learn(at_us)
            return None
        gap = self.rhythm.elapsed(before, at_us)
        found = self._silence(before, at_us, gap)
        self.rhythm.learn(at_us)
        if found is not None:
            return found
        if len(self.intervals) < KEPT:
            self.intervals.append(gap)
        else:
            self.intervals[self.place] = gap
            self.place = (self.place + 1) % KEPT
        return None

    def _silence(self, since_us: int, at_us: int, gap: float) -> Silence | None:
        # No gap below three times any one known interval can be a silence: the limit is for the others.
        if not self.intervals or gap <= TIMES_LONGEST * self.intervals[0]:
            return None
        limit_us = self.overdue_us(since_us)
        if limit_us is None or at_us - since_us <= limit_us:
            return None
        return Silence(since_us, at_us - since_us, int(sorted(self.intervals)[len(self.intervals) // 2]), limit_us)
