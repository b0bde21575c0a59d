"""What is known of a series that is off its level, and when it is over."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import Any, Final

TRAIL: Final = 60
"""Windows remembered while a series is off its level."""
LEAST_TO_RESOLVE: Final = 20
SURE: Final = 3.0
"""Standard errors by which the mean must lie on the right side of the middle to be believed."""


@dataclass(slots=True)
class Off:
    """What is known of a series that is off its level, in the figures the detector is fed.

    ``keeps``: the level before is still known and nothing is learned until it is over. ``trail``: start, count, sum and
    sum of squares of each window since.
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
        del self.trail[:-TRAIL]

    def lately(self, span_us: int) -> tuple[float, float, float]:
        """Count, mean and standard error over the newest windows: as few of those remembered as span the time and hold
        20 observations."""
        count, total, squares = 0.0, 0.0, 0.0
        newest_us = self.trail[-1][0] if self.trail else 0.0
        for start_us, n, part, of_squares in reversed(self.trail):
            if count >= LEAST_TO_RESOLVE and newest_us - start_us >= span_us:
                break
            count, total, squares = count + n, total + part, squares + of_squares
        if not count:
            return 0.0, self.observed, 0.0
        mean = total / count
        spread = sqrt(max(squares / count - mean * mean, 0.0))
        return count, mean, max(spread, self.scale) / sqrt(count)

    def is_over(self, span_us: int) -> bool:
        """Whether the mean is surely nearer to what was expected than to what was seen at first, the time after the
        alarm at the earliest."""
        if self.kind != "level_change" or not self.trail or self.trail[-1][0] - self.at_us < span_us:
            return False
        count, mean, error = self.lately(span_us)
        middle = (self.expected + self.observed) / 2.0
        apart = middle - mean if self.observed > self.expected else mean - middle
        return count >= LEAST_TO_RESOLVE and apart > SURE * error

    def plain(self) -> list[Any]:
        """Return its parts as JSON values."""
        return [getattr(self, name) for name in Off.__slots__]
