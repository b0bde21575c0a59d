"""Constraints as prices: what a dollar and what a second cost in reward, learned while deciding.

Maximising reward subject to a mean spend of at most ``rate`` per decision is, by duality, choosing the arm with the
largest ``reward - price · cost`` at the right price (bandits with knapsacks: Badanidiyuru, Kleinberg and Slivkins,
2013). The price is found online: it rises while more is spent than the plan allows and falls while less is (Agrawal
and Devanur, 2016). Here it follows the plan's balance: with ``owed`` the money spent beyond plan so far,

    ``log price ← log price + gain · ((used - rate) / rate + owed / slack)``

multiplicative, as prices are positive and differ by orders of magnitude, and pulled back by what is owed, so that the
sum is kept and not only the rate. A `Price` is a value: whoever replays the spending has the same price.

The same holds for any constraint with a mean: ``p95 latency at most L`` is ``at most 5 % of calls slower than L``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.policy.propensity import Array

_MOST_STEP = 0.5
_LARGEST_LOG = 60.0


@dataclass(frozen=True, slots=True)
class Constraint:
    """``rate``: what a decision may use in the mean; ``slack``: how much may be owed before the price follows at full
    strength; ``start``: first price, reward per unit used; ``gain``: step of the logarithm at twice the rate."""

    rate: float
    slack: float
    start: float = 1.0
    gain: float = 0.02

    def __post_init__(self) -> None:
        for name in ("rate", "slack", "start", "gain"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: must be positive")


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one unit now: its logarithm, and what was used beyond plan (negative: less than planned)."""

    log: float
    owed: float = 0.0

    @classmethod
    def first(cls, constraint: Constraint) -> Price:
        """Return the price before anything was used."""
        return cls(math.log(constraint.start))

    @property
    def value(self) -> float:
        """Reward that one unit must bring."""
        return math.exp(self.log)

    def after(self, used: float, constraint: Constraint) -> Price:
        """Return the price after a decision that used ``used``."""
        owed = self.owed + used - constraint.rate
        step = constraint.gain * ((used - constraint.rate) / constraint.rate + owed / constraint.slack)
        step = min(_MOST_STEP, max(-_MOST_STEP, step))
        return Price(min(_LARGEST_LOG, max(-_LARGEST_LOG, self.log + step)), owed)


def priced(mean: Array, use: Array, price: float) -> Array:
    """Return the arms' means less what they are expected to use (K,) at its price."""
    return np.asarray(mean - price * use)


def affordable(use: Sequence[float], left: float) -> int:
    """Return the arms, a bit each, whose use fits into what is left; the one that uses least if none does."""
    fits = sum(1 << arm for arm, needed in enumerate(use) if needed <= left)
    return fits or 1 << min(range(len(use)), key=use.__getitem__)


def quality_floor(mean: Sequence[float], sd: Sequence[float], floor: float, *, confidence: float = 1.645) -> int:
    """Return the arms, a bit each, that are not shown to be below ``floor``: ``mean + confidence · sd`` reaches it. The
    one with the largest lower bound ``mean - confidence · sd`` always stays, so that something serves."""
    safest = max(range(len(mean)), key=lambda arm: mean[arm] - confidence * sd[arm])
    kept = sum(1 << arm for arm in range(len(mean)) if mean[arm] + confidence * sd[arm] >= floor)
    return kept | 1 << safest


def proven_floor(mean: Sequence[float], sd: Sequence[float], floor: float, *, confidence: float = 1.645) -> int:
    """Return the arms, a bit each, that are shown to reach ``floor``: ``mean - confidence · sd`` does; the one with the
    largest lower bound where none is."""
    lower = [mean[arm] - confidence * sd[arm] for arm in range(len(mean))]
    kept = sum(1 << arm for arm, bound in enumerate(lower) if bound >= floor)
    return kept or 1 << lower.index(max(lower))


def pareto_front(quality: Sequence[float], use: Sequence[float]) -> tuple[int, ...]:
    """Return the arms (their places) that no other beats in quality without using more, cheapest first."""
    order = sorted(range(len(use)), key=lambda arm: (use[arm], -quality[arm]))
    front: list[int] = []
    for arm in order:
        if not front or quality[arm] > quality[front[-1]]:
            front.append(arm)
    return tuple(front)
