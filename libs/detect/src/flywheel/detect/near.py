"""The level of a little while ago: what comes is judged by it while nobody knows yet how the day swings."""

from __future__ import annotations

from statistics import NormalDist
from typing import ClassVar, Final

from flywheel.detect.ranks import GrowingReference
from flywheel.detect.season import DAY_US
from flywheel.detect.state import Stateful

REACH: Final = 0.9
"""Of a day: what the number of a block's observations times its time comes to, so n = √(0.9 · observations a day). A
level that swings by a standard deviation either way within a day moves so little in that time that a quarter of the day
holds some 2 nats of evidence of a change, at any rate; a jump of δ deviations holds 0.2 n δ² until it is the level."""
ALLOWANCE: Final = 2.0
"""The over-dispersion of differences from it: the level errs as much as a block's mean, so a sum of m ≤ n of them
varies by m + m² / n, at most twice as much as of m independent ones."""
LEAST: Final = 4
BLOCKS: Final = 32
RECENT: Final = 64
NORMAL: Final = NormalDist()


class NearLevel(Stateful):
    """The mean of the block of observations before the one that is being filled: of 36 at one observation a minute
    (36 minutes), of 280 at one a second (5 minutes). After a gap of more than two blocks' time it begins anew.

    It is that of normal scores of sequential ranks, in which a level errs alike whatever the law of the values is; by
    the mean of skewed values small ones would seem to come and go.
    """

    __slots__ = (
        "count", "first_us", "last_us", "levels", "means", "recent", "reference", "salt", "scores", "sizes", "span_us",
        "total",
    )  # fmt: skip
    PARTS: ClassVar = {"reference": GrowingReference}

    def __init__(self, salt: str = "") -> None:
        self.salt = salt
        self.begin()

    def begin(self) -> None:
        """Begin anew: what was before is not near."""
        self.reference = GrowingReference(self.salt)
        self.levels: list[float] = []
        self.means: list[float] = []
        self.sizes: list[int] = []
        self.recent: list[float] = []
        self.count, self.scores, self.total = 0, 0.0, 0.0
        self.first_us, self.last_us, self.span_us = 0, 0, 0

    def update(self, at_us: int, value: float) -> float | None:
        """Take in an observation; by how much its score differs from the level before it, None while there is none."""
        if self.span_us and at_us - self.last_us > 2 * self.span_us:
            self.begin()
        rank = min(max(self.reference.place(value), 1e-12), 1.0 - 1e-12)
        self.reference.learn(value)
        score, level = NORMAL.inv_cdf(rank), self.levels[-1] if self.levels else None
        self.last_us = at_us
        if not self.count:
            self.first_us = at_us
        self.count += 1
        self.scores += score
        self.total += value
        self.recent = [*self.recent[1 - RECENT :], value]
        if self.count >= LEAST and self.count * (at_us - self.first_us) >= REACH * DAY_US:
            self._close(at_us)
        return None if level is None else score - level

    def _close(self, at_us: int) -> None:
        self.levels = [*self.levels[1 - BLOCKS :], self.scores / self.count]
        self.means = [*self.means[1 - BLOCKS :], self.total / self.count]
        self.sizes = [*self.sizes[1 - BLOCKS :], self.count]
        self.span_us = at_us - self.first_us
        self.count, self.scores, self.total = 0, 0.0, 0.0

    def before(self, length: int) -> float:
        """Mean of the values by whose level the first of the last ``length`` was judged."""
        place, taken = len(self.means) - 1, self.count
        while taken < length and place > 0:
            taken += self.sizes[place]
            place -= 1
        return self.means[place]

    def since(self, length: int) -> float:
        """Mean of the last ``length`` values, of 64 at most."""
        last = self.recent[-length:]
        return sum(last) / len(last)
