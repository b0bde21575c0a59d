"""The level of a little while ago: what comes is judged by it while nobody knows yet how the day swings."""

from __future__ import annotations

from typing import Final

from flywheel.detect.season import DAY_US
from flywheel.detect.state import Stateful

REACH: Final = 0.9
"""Of a day: what the number of a block's observations times its time comes to, so n = √(0.9 · observations a day). A
level that swings by a standard deviation either way within a day moves so little in that time that a quarter of the day
holds some 2 nats of evidence of a change, at any rate; a jump of δ deviations holds 0.2 n δ² until it is the level."""
ALLOWANCE: Final = 2.0
"""The over-dispersion of differences from it: the level errs as much as the mean of a block, so a sum of m ≤ n of them
varies by m + m² / n, at most twice as much as of m independent ones."""
LEAST: Final = 4
BLOCKS: Final = 32


class NearLevel(Stateful):
    """The mean of the block of observations before the one that is being filled: of 36 at one observation a minute
    (36 minutes), of 280 at one a second (5 minutes). After a gap of more than two blocks' time it begins anew."""

    __slots__ = ("count", "first_us", "last_us", "levels", "sizes", "span_us", "total")

    def __init__(self) -> None:
        self.last_us = 0
        self.begin()

    def begin(self, level: float | None = None) -> None:
        """Begin anew, at a level where one is known."""
        self.levels: list[float] = [] if level is None else [level]
        self.sizes: list[int] = [] if level is None else [0]
        self.count, self.total, self.first_us, self.span_us = 0, 0.0, 0, 0

    @property
    def level(self) -> float | None:
        """The level, None before the first block was full."""
        return self.levels[-1] if self.levels else None

    def update(self, at_us: int, value: float) -> None:
        """Take in an observation."""
        if self.span_us and at_us - self.last_us > 2 * self.span_us:
            self.begin()
        self.last_us = at_us
        if not self.count:
            self.first_us = at_us
        self.count += 1
        self.total += value
        if self.count >= LEAST and self.count * (at_us - self.first_us) >= REACH * DAY_US:
            self.levels = [*self.levels[1 - BLOCKS :], self.total / self.count]
            self.sizes = [*self.sizes[1 - BLOCKS :], self.count]
            self.span_us = at_us - self.first_us
            self.count, self.total = 0, 0.0

    def of_last(self, length: int) -> tuple[float, float]:
        """The level by which the first of the last ``length`` observations was judged, and the mean over all of them;
        of those that came after ``update`` was last called, and before."""
        taken, summed, place = min(self.count + 1, length), 0.0, len(self.levels) - 1
        summed = taken * self.levels[place]
        while taken < length and place > 0:
            some = min(self.sizes[place], length - taken)
            place -= 1
            taken, summed = taken + some, summed + some * self.levels[place]
        return self.levels[place], summed / taken
