"""Is a declared bound broken? Evidence that holds however often one looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flywheel.detect.state import Stateful

BETS: Final = 8
BOLDEST: Final = 0.9
MOST_TIMID: Final = 0.02
LEAST_SEEN: Final = 20
"""Observations below which nothing is said, however bad they are."""
SMALLEST: Final = 1e-6
"""What a bound of 0 is taken as: nobody can bet against it."""
MOST_WEALTH: Final = 1e15


@dataclass(frozen=True, slots=True)
class Breach:
    """A bound that is broken: the mean since it probably began, since when (microseconds since the epoch), of how many
    observations, and the evidence M against the threshold A."""

    mean: float
    since_us: int
    length: int
    statistic: float
    threshold: float


class BoundDetector(Stateful):
    """Alarms when the mean of figures of 0 or more lies above a bound m.

    Each figure x multiplies a bettor's wealth by ``1 + λ (x / m − 1)``, 0 < λ < 1: never negative, and of mean at most
    1 while the mean of what comes, given what came, is m or less, whatever the law and however large x may be
    (betting, Waudby-Smith & Ramdas 2024). Eight λ from 0.02 (for a small bound: m / 4) to 0.9 bet at once. Their
    Shiryaev–Roberts sums ``M ← (M + 1) e``, averaged, are an e-detector (Shin, Ramdas & Rinaldo 2023, theorem 2.4):
    within n figures that keep the bound an alarm ``M ≥ A`` has probability at most n / A, and comes on average not
    before A. Nothing is estimated and there is no warm-up; below 20 figures nothing is said. An alarm makes it start
    anew.
    """

    __slots__ = ("bound", "count", "cusums", "lengths", "starts", "sums", "wealth")

    def __init__(self, bound: float) -> None:
        """``bound``: m. Raises ``ValueError`` where it lies below 0."""
        if not bound >= 0.0:
            raise ValueError("bound: a number of 0 or more")
        self.bound = max(bound, SMALLEST)
        self.forget()

    def forget(self) -> None:
        """Start anew."""
        self.count = 0
        self.wealth: list[float] = [0.0] * BETS
        self.cusums: list[float] = [0.0] * BETS
        self.starts: list[int] = [0] * BETS
        self.lengths: list[int] = [0] * BETS
        self.sums: list[float] = [0.0] * BETS

    def update(self, at_us: int, figure: float, run_length: float) -> Breach | None:
        """Take in a figure, finite and 0 or more, at a time; ``run_length``: A.

        Raises ``ValueError`` for a figure below 0, on which nobody may bet.
        """
        if not figure >= 0.0:
            raise ValueError("figure: a number of 0 or more")
        self.count += 1
        surplus, timid = figure / self.bound - 1.0, min(MOST_TIMID, self.bound / 4.0)
        step = (BOLDEST / timid) ** (1.0 / (BETS - 1))
        stake, evidence, best = timid, 0.0, 0
        for place in range(BETS):
            bet = 1.0 + stake * surplus
            stake *= step
            # When it began is told by the bet's largest wealth over all starts, Page's CUSUM.
            if self.cusums[place] > 1.0:
                self.cusums[place] = min(self.cusums[place] * bet, MOST_WEALTH)
                self.lengths[place] += 1
                self.sums[place] += figure
            else:
                self.starts[place], self.cusums[place] = at_us, bet
                self.lengths[place], self.sums[place] = 1, figure
            self.wealth[place] = min((self.wealth[place] + 1.0) * bet, MOST_WEALTH)
            evidence += self.wealth[place] / BETS
            if self.cusums[place] > self.cusums[best]:
                best = place
        if evidence < run_length or self.count < LEAST_SEEN:
            return None
        length = self.lengths[best]
        found = Breach(self.sums[best] / length, self.starts[best], length, evidence, run_length)
        self.forget()
        return found
