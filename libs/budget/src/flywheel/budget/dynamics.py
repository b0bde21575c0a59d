"""How a spend goes on: a bank of dynamic linear models, weighed by how well each foretold what came. Pure.

Each model has three states: level, damped slope, and a deviation that returns to the level (bursts that last). Time
runs by exposure: a slot in which the season expects twice as much counts as two. The variance is unknown and learnt, so
predictions are Student's t: West and Harrison (1997), Bayesian Forecasting and Dynamic Models: the variance learnt by
conjugacy with a discount, and multi-process models of class I, a mixture over fixed models by their predictive
likelihoods. The grid and its prior weights are a belief about traffic in general, fitted to no data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Floats = NDArray[np.float64]

SLOTS: Final = 64
"""Slots a window is cut into."""

_LEVEL_STEPS: Final = ((0.0, 0.4), (0.1, 0.3), (0.25, 0.2), (0.8, 0.1))
"""How far the level walks in a window (standard deviation, of the level), and the prior weight of that."""
_SLOPE_STEPS: Final = ((0.0, 0.7), (0.5, 0.2), (1.5, 0.1))
"""How steep slopes are (standard deviation of the level's change in a window, of the level), and the prior weight."""
_DEVIATIONS: Final = ((0.0, 0.0, 0.5), (0.8, 0.5, 0.3), (0.8, 3.0, 0.2))
"""Deviation: what is left of it a slot later, its variance (of the noise's), and the prior weight."""
_SLOPE_KEPT: Final = 0.95
"""The slope halves in a fifth of a window: trends do not go on for ever (damped trend, Gardner and McKenzie 1985)."""
_VARIANCE_KEPT: Final = 0.98
_DIFFUSE: Final = 1e6
_PRIOR_SPREAD: Final = 0.5
"""Before anything is known a slot's noise is taken for half a slot's spend, with the weight of one slot."""

_GRID: Final = np.array(
    [
        (level, slope, kept, variance, by_level * by_slope * by_deviation)
        for (level, by_level), (slope, by_slope), (kept, variance, by_deviation) in product(
            _LEVEL_STEPS, _SLOPE_STEPS, _DEVIATIONS
        )
    ]
).T
_LEVEL_SD, _SLOPE_SD, _DEVIATION_KEPT, _DEVIATION, _PRIOR = _GRID
_BISECTIONS: Final = 20
_LEAST_SCALE: Final = 1e-9
_MOST_RATIO: Final = 1e8
_NEGLIGIBLE: Final = 1e-5
"""Models that weigh less are left out of a prediction."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A stretch of time: how much of a slot it is, the exposure in it, and what was spent (in any unit)."""

    length: float
    exposure: float
    spent: float = 0.0


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is still to come: a mixture of Student's t distributions with the same degrees of freedom."""

    weights: Floats
    means: Floats
    scales: Floats
    freedom: float

    @property
    def mean(self) -> float:
        """Expected sum."""
        return float(self.weights @ self.means)

    def chance_above(self, value: float) -> float:
        """Probability of a sum above ``value``."""
        return float(self.weights @ stdtr(self.freedom, (self.means - value) / self.scales))

    def quantile(self, share: float) -> float:
        """The sum that stays below with probability ``share``: between the models' own quantiles, by bisection."""
        own = self.means + float(stdtrit(self.freedom, share)) * self.scales
        low, high = float(own.min()), float(own.max())
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2.0
            low, high = (middle, high) if 1.0 - self.chance_above(middle) < share else (low, middle)
        return (low + high) / 2.0


@dataclass(frozen=True, slots=True)
class Bank:
    """Every model after some slots: means (3, models), covariances (3, 3, models) over the noise's variance."""

    means: Floats
    covariances: Floats
    freedom: float
    squares: Floats
    log_weights: Floats

    @classmethod
    def before(cls, unit: float) -> Bank:
        """Nothing seen; ``unit`` is the order of magnitude of a slot's spend."""
        models = len(_PRIOR)
        covariances = np.zeros((3, 3, models))
        covariances[0, 0] = _DIFFUSE
        covariances[2, 2] = _DEVIATION
        squares = np.full(models, (_PRIOR_SPREAD * unit) ** 2)
        return cls(np.zeros((3, models)), covariances, 1.0, squares, np.log(_PRIOR))

    def after(self, slot: Slot) -> Bank:
        """The bank having seen one more slot."""
        steps = self._steps()
        means, covariances = _evolved(self.means, self.covariances, steps, slot.length)
        exposure = slot.exposure
        seen = (covariances[:, 0] + covariances[:, 2]) * exposure
        spread = (seen[0] + seen[2]) * exposure + exposure
        error = slot.spent - (means[0] + means[2]) * exposure
        gain = seen / spread
        kept = _VARIANCE_KEPT**slot.length
        scale = self.squares / self.freedom * spread
        fit = np.log(scale) + (self.freedom + 1.0) * np.log1p(error**2 / (self.freedom * scale))
        return Bank(
            means + gain * error,
            covariances - gain[:, None] * gain[None, :] * spread,
            kept * self.freedom + slot.length,
            kept * self.squares + slot.length * error**2 / spread,
            self.log_weights - 0.5 * slot.length * fit,
        )

    def _steps(self) -> tuple[Floats, Floats]:
        """Variances by which level and slope change in a slot, over the noise's; the grid has shares of the level."""
        ratio = np.minimum(self.means[0] ** 2 * self.freedom / self.squares, _MOST_RATIO)
        return _LEVEL_SD**2 / SLOTS * ratio, (_SLOPE_SD / SLOTS) ** 2 * (1.0 - _SLOPE_KEPT**2) * ratio

    def ahead(self, slots: Iterable[Slot], doubt: float) -> Ahead:
        """The sum over the stretches to come, each taken as if its level were that of its middle.

        ``doubt`` is exposure that may be missing or too much, as its season is unknown; a standard deviation.
        """
        means, covariances = self.means, self.covariances
        total, variance, with_total = np.zeros_like(means[0]), np.zeros_like(means[0]), np.zeros_like(means)
        steps = self._steps()
        for slot in slots:
            half = slot.length / 2.0
            means, covariances = _evolved(means, covariances, steps, half)
            with_total = _moved(with_total, half)
            seen = (covariances[:, 0] + covariances[:, 2]) * slot.exposure
            total = total + (means[0] + means[2]) * slot.exposure
            crossed = with_total[0] + with_total[2]
            variance = variance + (2.0 * crossed + seen[0] + seen[2]) * slot.exposure + slot.exposure
            with_total = _moved(with_total + seen, half)
            means, covariances = _evolved(means, covariances, steps, half)
        level = np.maximum(self.means[0], 0.0)
        noise = self.squares / self.freedom
        scales = np.maximum(np.sqrt(noise * variance + (level * doubt) ** 2), _LEAST_SCALE)
        weights = np.exp(self.log_weights - self.log_weights.max())
        heavy = weights > _NEGLIGIBLE
        weights = weights[heavy]
        return Ahead(weights / weights.sum(), total[heavy], scales[heavy], self.freedom)


def _moved(state: Floats, length: float) -> Floats:
    """A state (3, …) so many slots later, without surprise."""
    moved = np.empty_like(state)
    moved[0] = state[0] + state[1] * length
    moved[1] = state[1] * _SLOPE_KEPT**length
    moved[2] = state[2] * _DEVIATION_KEPT**length
    return moved


def _evolved(means: Floats, covariances: Floats, steps: tuple[Floats, Floats], length: float) -> tuple[Floats, Floats]:
    """Means and covariances so many slots later, where level and slope change by such variances in a slot."""
    moved = _moved(_moved(covariances, length).swapaxes(0, 1), length).swapaxes(0, 1)
    moved[0, 0] += steps[0] * length
    moved[1, 1] += steps[1] * length
    moved[2, 2] += _DEVIATION * (1.0 - _DEVIATION_KEPT ** (2.0 * length))
    return _moved(means, length), moved
