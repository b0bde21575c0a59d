"""Mean and deviation of the last observations, in constant time and bounded memory."""

from __future__ import annotations

from math import sqrt

from flywheel.detect.state import Stateful


class Window(Stateful):
    """The last ``size`` values: mean and (population) standard deviation.

    Sums are kept around a value of the window and made anew once per ``size`` values, so rounding cannot pile up.
    """

    __slots__ = ("around", "place", "size", "squares", "sum", "values")

    def __init__(self, size: int) -> None:
        self.size = size
        self.values: list[float] = []
        self.place = 0
        self.around = 0.0
        self.sum = 0.0
        self.squares = 0.0

    def push(self, value: float) -> None:
        """Take in a value; the oldest goes."""
        if len(self.values) < self.size:
            self.around = self.around if self.values else value
            self.values.append(value)
        else:
            old = self.values[self.place] - self.around
            self.values[self.place] = value
            self.place = (self.place + 1) % self.size
            self.sum -= old
            self.squares -= old * old
            if self.place == 0:
                self._recount()
                return
        new = value - self.around
        self.sum += new
        self.squares += new * new

    def _recount(self) -> None:
        self.around = self.values[0]
        self.sum = sum(each - self.around for each in self.values)
        self.squares = sum((each - self.around) ** 2 for each in self.values)

    @property
    def mean(self) -> float:
        """Mean of the values; 0 without any."""
        return self.around + self.sum / len(self.values) if self.values else 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation of the values; 0 without any."""
        count = len(self.values)
        return sqrt(max(self.squares / count - (self.sum / count) ** 2, 0.0)) if count else 0.0


class Everything(Stateful):
    """Mean and standard deviation of all values so far (Welford 1962)."""

    __slots__ = ("count", "mean", "squares")

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0

    def push(self, value: float) -> None:
        """Take in a value."""
        self.count += 1
        step = value - self.mean
        self.mean += step / self.count
        self.squares += step * (value - self.mean)

    @property
    def deviation(self) -> float:
        """Standard deviation of the values; 0 without any."""
        return sqrt(self.squares / self.count) if self.count else 0.0


class Delayed(Stateful):
    """Mean, deviation and count of a window as they were ``lag`` pushes ago."""

    __slots__ = ("lag", "past", "place")

    def __init__(self, lag: int) -> None:
        self.lag = lag
        self.past: list[list[float]] = []
        self.place = 0

    def push(self, mean: float, deviation: float, count: int) -> list[float] | None:
        """Remember these; give those of ``lag`` pushes ago, None before."""
        now = [mean, deviation, float(count)]
        if len(self.past) < self.lag:
            self.past.append(now)
            return None
        then, self.past[self.place] = self.past[self.place], now
        self.place = (self.place + 1) % self.lag
        return then
