"""What is known of a series that is off its level, and when it is over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, Final

TRAIL: Final = 60
"""Windows remembered while a series is off its level; older ones are put together, two and two."""
LEAST_TO_RESOLVE: Final = 20
SURE: Final = 3.0
"""Standard errors by which the mean must lie on the right side of the middle to be believed."""


@dataclass(slots=True)
class Off:
    """What is known of a series that is off its level, in the figures the detector is fed.

    ``keeps``: the level before is still known and nothing is learned until it is over. ``trail``: start, count, sum and
    sum of squares of each window since. Of a bound that is broken ``expected`` is the bound.
    """

    kind: str
    since_us: int
    at_us: int
    expected: float
    observed: float
    e_value: float
    run_length: float
    scale: float
    keeps: bool
    exemplars: list[str]
    trail: list[list[float]] = field(default_factory=list)

    def add(self, start_us: int, values: list[float]) -> None:
        """Take in what a window shows."""
        self.trail.append([start_us, len(values), sum(values), sum(each * each for each in values)])
        if len(self.trail) > TRAIL:
            older, newer = self.trail[: TRAIL // 2], self.trail[TRAIL // 2 :]
            pairs = zip(older[::2], older[1::2], strict=True)
            self.trail = [[one[0], *(a + b for a, b in zip(one[1:], two[1:], strict=True))] for one, two in pairs]
            self.trail += newer

    def lately(self, span_us: int) -> tuple[float, float]:
        """Count and mean over the newest windows: as few of those remembered as span the time and hold 20
        observations."""
        count, mean, _ = next(self._ends(span_us), (0.0, self.observed, 0.0))
        return count, mean

    def is_over(self, span_us: int) -> bool:
        """Whether the mean is surely nearer to what was expected than to what was seen at first, the time after the
        alarm at the earliest; that of a broken bound must also keep it. Asked of the newest windows that span the time,
        and of twice, four times, … as many observations: the smaller a change, the more it takes."""
        if self.kind == "drift" or not self.trail or self.trail[-1][0] - self.at_us < span_us:
            return False
        middle = (self.expected + self.observed) / 2.0
        for count, mean, error in self._ends(span_us):
            apart = middle - mean if self.observed > self.expected else mean - middle
            if count >= LEAST_TO_RESOLVE and apart > SURE * error and (self.kind == "level_change" or self._kept(mean)):
                return True
        return False

    def _kept(self, mean: float) -> bool:
        return mean <= self.expected

    def _ends(self, span_us: int) -> Iterator[tuple[float, float, float]]:
        """Count, mean and standard error of ends of the trail: the shortest that spans the time and holds 20, then
        each that holds twice as many as the one before it; the whole trail where that is shorter."""
        count, total, squares, wanted = 0.0, 0.0, 0.0, float(LEAST_TO_RESOLVE)
        newest_us = self.trail[-1][0] if self.trail else 0.0
        for start_us, n, part, of_squares in reversed(self.trail):
            if count >= wanted and newest_us - start_us >= span_us:
                yield self._mean(count, total, squares)
                wanted = 2.0 * count
            count, total, squares = count + n, total + part, squares + of_squares
        if count and (count >= wanted or wanted == LEAST_TO_RESOLVE):
            yield self._mean(count, total, squares)

    def _mean(self, count: float, total: float, squares: float) -> tuple[float, float, float]:
        mean = total / count
        spread = sqrt(max(squares / count - mean * mean, 0.0))
        return count, mean, max(spread, self.scale) / sqrt(count)

    def plain(self) -> list[Any]:
        """Return its parts as JSON values."""
        return [getattr(self, name) for name in Off.__slots__]
