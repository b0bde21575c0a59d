"""What an e-detector bets on: shifts of a normal score, or of the odds of a few values."""

from __future__ import annotations

from bisect import bisect_left
from math import exp, log
from typing import Final

from flywheel.detect.state import Stateful

_SIZES: Final = (0.125, 0.25, 0.5, 1.0, 2.0)
_ODDS: Final = (0.4, 0.7, 1.1, 1.6, 2.5)
_SHARES: Final = (0.04, 0.08, 0.08, 0.16, 0.04)
SHIFTS: Final = tuple(size * sign for sign in (1.0, -1.0) for size in _SIZES)
"""Shifts bet on, in standard deviations of the normal score."""
TILTS: Final = tuple(odds * sign for sign in (1.0, -1.0) for odds in _ODDS)
"""Tilts bet on, in log-odds of the largest value against the smallest."""
TAIL: Final = 0.1
HEAVY: Final = 0.25
"""The two last bets: that the upper, or the lower, tenth of ranks has become a quarter. A level that splits into two,
or a tail that grows, moves the mean and leaves the middle where it was."""
WEIGHTS: Final = (*_SHARES, *_SHARES, 0.1, 0.1)
"""The mixture over shifts (or tilts) and tails; sums to 1."""
NO_BET: Final = -50.0
_IN_TAIL: Final = log(HEAVY / TAIL)
_OUTSIDE: Final = log((1.0 - HEAVY) / (1.0 - TAIL))


def shift_bets(rank: float, score: float, factor: float) -> list[float]:
    """Log of each bet for a rank in (0, 1) and its normal score; ``factor`` ≥ 1 is the over-dispersion to allow for."""
    half = factor / 2.0
    logs = [shift * (score - shift * half) for shift in SHIFTS]
    logs.append((_IN_TAIL if rank > 1.0 - TAIL else _OUTSIDE) / factor)
    logs.append((_IN_TAIL if rank < TAIL else _OUTSIDE) / factor)
    return logs


MOST_VALUES: Final = 12
REFRESH: Final = 16


class FewValues(Stateful):
    """Counts of a series' values while they are at most 12 different ones, and bets on a tilt of their odds.

    The unit interval is parted by the shares so far, and the bet of a rank is the tilt of the part in which it lies
    over the mean tilt. It integrates to 1 over the interval whatever the shares are, so an estimate costs no validity.
    """

    __slots__ = ("counts", "holds", "norms", "parts", "scaled", "since_refresh", "values")

    def __init__(self) -> None:
        self.values: list[float] = []
        self.counts: list[int] = []
        self.holds = True
        self.since_refresh = REFRESH
        self.parts: list[float] = []
        self.scaled: list[float] = []
        self.norms: list[float] = []

    def learn(self, value: float) -> None:
        """Count a value; the thirteenth different one ends this for good."""
        if not self.holds:
            return
        self.since_refresh += 1
        place = bisect_left(self.values, value)
        if place < len(self.values) and self.values[place] == value:
            self.counts[place] += 1
        elif len(self.values) < MOST_VALUES:
            self.values.insert(place, value)
            self.counts.insert(place, 1)
            self.since_refresh = REFRESH
        else:
            self.holds = False

    def logs(self, rank: float, factor: float) -> list[float]:
        """Log of each bet for a rank in (0, 1); ``factor`` ≥ 1 is the over-dispersion to allow for."""
        if len(self.values) < 2:
            return [NO_BET] * len(WEIGHTS)
        if self.since_refresh >= REFRESH:
            self._refresh()
        scaled = self.scaled[min(bisect_left(self.parts, rank), len(self.scaled) - 1)]
        mean = self.norms[-1]
        off = scaled - mean
        logs = [tilt * off - factor * (norm - tilt * mean) for tilt, norm in zip(TILTS, self.norms, strict=False)]
        logs += (NO_BET, NO_BET)
        return logs

    def _refresh(self) -> None:
        """Parts, scaled values and log mean tilts by the counts now; the last norm is the mean of the scaled values."""
        total, low, width = sum(self.counts), self.values[0], self.values[-1] - self.values[0]
        shares = [count / total for count in self.counts]
        self.scaled = [(value - low) / width for value in self.values]
        self.parts, below = [], 0.0
        for share in shares:
            below += share
            self.parts.append(below)
        self.norms = [
            log(sum(share * exp(tilt * scaled) for share, scaled in zip(shares, self.scaled, strict=True)))
            for tilt in TILTS
        ]
        self.norms.append(sum(share * scaled for share, scaled in zip(shares, self.scaled, strict=True)))
        self.since_refresh = 0
