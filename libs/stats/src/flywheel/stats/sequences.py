"""Confidence sequences for off-policy values: intervals that hold at every number of rows at once, so that one may look
whenever one likes and stop when one has seen enough. They hold while the logging policy learns, as each row's weight
is known before its reward (Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro, 2024).

`bet` is exact at any number of rows: a gambler bets against each value ``v`` with factors ``1 + f (X_t - 1)``,
``X_t = (y_t + b_t) / (v + b_t) >= 0``, which have mean 1 where ``v`` is the truth. His wealth, mixed over the ``f`` and
over two ways to write ``y_t``, exceeds ``1/alpha`` ever with probability at most ``alpha`` (Ville, 1939;
Karampatziakis, Mineiro and Ramdas, 2021; Waudby-Smith and Ramdas, 2024, JRSS B); the values that did not make him rich
are kept. `bet_gain` is exact where the logging policy's value does not change; where it learns, its average is what the
target is compared to.

`asymptotic_half_width` needs the central limit theorem, and serves estimators that are no plain means (Waudby-Smith,
Arbour, Sinha, Kennedy and Ramdas, 2024, Annals of Statistics).

`stitched` is the empirical Bernstein sequence of Vowpal Wabbit, for comparison: simple and wide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

FRACTIONS: Final = (0.6, 0.25, 0.1, 0.04, 0.016, 0.006, 0.0025)
"""Shares of the largest admissible bet that the gambler mixes; a factor of 2.5 apart loses little between them."""
BEST_AT: Final = 10_000
"""Rows at which `asymptotic` is tightest: fixed, as it may not be chosen by the data."""
_HALVINGS: Final = 40


@dataclass(frozen=True, slots=True)
class Bettor:
    """One way to bet on a mean: observations ``y`` (n) with that mean, each at least ``-below`` (n), which is known
    before the observation."""

    y: Array
    below: Array


def value_bettors(reward: Array, weight: Array, largest_weight: Array | None) -> list[Bettor]:
    """Return the bettors on a target policy's value from below.

    ``reward`` lies in [0, 1]; ``largest_weight`` is, per row, the largest weight any arm would have had there. With it
    the second one bets on ``w (r - c) + c``, where ``c`` is the mean reward so far, whose variance is far smaller when
    rewards are large.
    """
    bettors = [Bettor(weight * reward, np.zeros(len(reward)))]
    if largest_weight is not None:
        c = _mean_so_far(reward, weight)
        bettors.append(Bettor(weight * (reward - c) + c, c * np.maximum(largest_weight - 1.0, 0.0)))
    return bettors


def gain_bettors(reward: Array, weight: Array, largest_weight: Array | None) -> list[Bettor]:
    """Return the bettors on the target policy's value less the logging one's, from below; rewards in [0, 1]."""
    bettors = [Bettor((weight - 1.0) * reward, np.ones(len(reward)))]
    if largest_weight is not None:
        c = _mean_so_far(reward, weight)
        below = np.maximum(c * np.maximum(largest_weight - 1.0, 0.0), 1.0 - c)
        bettors.append(Bettor((weight - 1.0) * (reward - c), below))
    return bettors


def log_wealth(bettors: list[Bettor], value: float) -> Array:
    """Return the logarithm of the mixed wealth after each row (n) of betting that the mean is above ``value``."""
    paths = []
    for bettor in bettors:
        shift = np.maximum(value + bettor.below, 1e-300)
        excess = (bettor.y + bettor.below) / shift - 1.0
        paths += [np.cumsum(np.log1p(f * excess)) for f in FRACTIONS]
    return np.asarray(special.logsumexp(np.stack(paths), axis=0) - math.log(len(paths)))


def lower_bound(bettors: list[Bettor], alpha: float, *, low: float, high: float) -> float:
    """Return the largest value in ``[low, high]`` that the gambler refutes, ``low`` where there is none."""
    threshold = math.log(1 / alpha)
    if _final(bettors, high) >= threshold:
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _final(bettors, middle) >= threshold:
            low = middle
        else:
            high = middle
    return low


def bet(reward: Array, weight: Array, largest_weight: Array | None, *, alpha: float) -> tuple[float, float]:
    """Return the exact confidence sequence, after all rows, of the target's value; rewards in [0, 1]."""
    low = lower_bound(value_bettors(reward, weight, largest_weight), alpha / 2, low=0.0, high=1.0)
    high = 1.0 - lower_bound(value_bettors(1.0 - reward, weight, largest_weight), alpha / 2, low=0.0, high=1.0)
    return min(low, high), max(low, high)


def bet_gain(reward: Array, weight: Array, largest_weight: Array | None, *, alpha: float) -> tuple[float, float]:
    """Return the exact confidence sequence, after all rows, of target less logging policy; rewards in [0, 1]."""
    low = lower_bound(gain_bettors(reward, weight, largest_weight), alpha / 2, low=-1.0, high=1.0)
    high = -lower_bound(gain_bettors(1.0 - reward, weight, largest_weight), alpha / 2, low=-1.0, high=1.0)
    return min(low, high), max(low, high)


def asymptotic_half_width(sd: Array | float, rows: Array | int, *, alpha: float, best_at: int = BEST_AT) -> Array:
    """Return the half width of the asymptotic sequence of a mean of ``rows`` values with standard deviation ``sd``."""
    rho2 = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / best_at
    scaled = np.asarray(rows, dtype=np.float64) * rho2 + 1
    spread = 2 * scaled / (np.asarray(rows, dtype=np.float64) ** 2 * rho2) * np.log(np.sqrt(scaled) / alpha)
    return np.asarray(np.asarray(sd) * np.sqrt(spread))


def stitched(reward: Array, weight: Array, *, alpha: float) -> tuple[float, float]:
    """Return Vowpal Wabbit's confidence sequence after all rows; rewards in [0, 1].

    Empirical Bernstein by stitching (Howard et al., 2021; Waudby-Smith et al., 2024) with ``eta = s = 1.1``.
    """
    return _stitched(weight * reward, alpha / 2), 1.0 - _stitched(weight * (1.0 - reward), alpha / 2)


def _stitched(y: Array, alpha: float) -> float:
    rows, eta, s = len(y), 1.1, 1.1
    total = np.concatenate([[0.0], np.cumsum(y)])
    foreseen = (total[:-1] + 0.5) / np.arange(1, rows + 1)
    v = max(float(np.sum((y - foreseen) ** 2)), 1.0)
    k1, k2 = (eta**0.25 + eta**-0.25) / math.sqrt(2), (math.sqrt(eta) + 1) / 2
    level = s * math.log(math.log(eta * v) / math.log(eta) + 1) + math.log(float(special.zeta(s)) / alpha)
    return float((total[-1] - math.sqrt(k1**2 * level * v + (k2 * level) ** 2) - k2 * level) / rows)


def _final(bettors: list[Bettor], value: float) -> float:
    """Return the last of `log_wealth`, without the path."""
    sums = []
    for bettor in bettors:
        shift = np.maximum(value + bettor.below, 1e-300)
        excess = (bettor.y + bettor.below) / shift - 1.0
        sums += [float(np.log1p(f * excess).sum()) for f in FRACTIONS]
    return float(special.logsumexp(sums) - math.log(len(sums)))


def _mean_so_far(reward: Array, weight: Array) -> Array:
    """Return, per row, the self-normalised mean of the rows before it, drawn to one half by one row's weight."""
    gained = np.concatenate([[0.0], np.cumsum(weight * reward)[:-1]])
    weighed = np.concatenate([[0.0], np.cumsum(weight)[:-1]])
    return np.asarray((gained + 0.5) / (weighed + 1.0))
