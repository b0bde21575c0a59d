"""How observations hang together: what is predicted from the one before, and how much sums still over-disperse."""

from __future__ import annotations

from math import sqrt
from typing import Final

from flywheel.detect.state import Stateful

LEAST_FOR_AR: Final = 32
SIGNIFICANT: Final = 2.5
LARGEST_AR: Final = 0.98
BLOCKS: Final = (2, 4, 8, 16, 32, 64, 128, 256, 512)
LEAST_BLOCKS: Final = 4


class Whitener(Stateful):
    """Takes out autocorrelation of order one: ``x_t − φ (x_{t−1} − mean)``; φ from the past, 0 until significant."""

    __slots__ = ("before", "count", "cross", "mean", "squares")

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0
        self.cross = 0.0
        self.before: float | None = None

    @property
    def coefficient(self) -> float:
        """φ, 0 until it lies 2.5 standard errors from 0."""
        if self.count < LEAST_FOR_AR or self.squares <= 0.0:
            return 0.0
        found = self.cross / self.squares
        if abs(found) < SIGNIFICANT / sqrt(self.count):
            return 0.0
        return max(-LARGEST_AR, min(LARGEST_AR, found))

    def innovation(self, value: float) -> float:
        """What the observation before does not explain of a value."""
        return value if self.before is None else value - self.coefficient * (self.before - self.mean)

    def learn(self, value: float) -> None:
        """Take in a value."""
        self.count += 1
        off = value - self.mean
        self.mean += off / self.count
        if self.before is not None:
            self.cross += (self.before - self.mean) * (value - self.mean)
        self.squares += off * (value - self.mean)
        self.before = value


class Overdispersion(Stateful):
    """By which factor sums of scores vary more than sums of independent ones would: the long-run variance, at least 1.

    The largest over dyadic block lengths b of b · Var(block means), each less one standard error (√(2/blocks)) and
    from four blocks on: a slow swing that a detector must not take for a change shows in the long blocks, and
    independent scores give 1 (Bartlett's batch means; the idea of inflating by it: Carlstein 1986).
    """

    __slots__ = ("count", "counts", "open", "squares")

    def __init__(self) -> None:
        self.count = 0
        self.open: list[float] = [0.0] * len(BLOCKS)
        self.squares: list[float] = [0.0] * len(BLOCKS)
        self.counts: list[int] = [0] * len(BLOCKS)

    def learn(self, score: float) -> None:
        """Take in a score of mean 0 and variance 1."""
        self.count += 1
        carried = score
        for level in range(len(BLOCKS)):
            self.open[level] += carried
            if self.count % BLOCKS[level]:
                return
            carried, self.open[level] = self.open[level], 0.0
            self.squares[level] += carried * carried / BLOCKS[level]
            self.counts[level] += 1

    @property
    def factor(self) -> float:
        """The factor, 1 or more."""
        largest = 1.0
        for level, count in enumerate(self.counts):
            if count < LEAST_BLOCKS:
                break
            largest = max(largest, self.squares[level] / count * (1.0 - sqrt(2.0 / count)))
        return largest
