"""A cross-fitted model of the reward: what doubly robust estimators lean on, and nothing that they rest on.

Two ridge regressions: one on the features for all arms together, one per arm on what that leaves. An arm with few rows
is so drawn to the others. A row is predicted from folds that it is not in, so that the model cannot know its reward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flywheel.stats.logged import Log

Array = NDArray[np.float64]

FOLDS: Final = 5
POOLED_RIDGE: Final = 1.0
ARM_RIDGE: Final = 10.0
"""Rows' worth of belief that an arm is like the others."""


def predict(log: Log, arms: int) -> Array:
    """Return the predicted reward of every row and arm (n, arms), within the range of the rewards seen."""
    rows = len(log.reward)
    fold = np.arange(rows) % FOLDS
    design = np.column_stack([np.ones(rows), log.features])
    predicted = np.empty((rows, arms))
    for out in range(FOLDS):
        held = fold == out
        predicted[held] = _fit(design[~held], log.arm[~held], log.reward[~held], arms).predict(design[held])
    low, high = (float(log.reward.min()), float(log.reward.max())) if rows else (0.0, 0.0)
    return np.clip(predicted, low, high)


@dataclass(frozen=True, slots=True)
class _Fitted:
    """Coefficients of all arms together (d + 1) and of what each arm adds (arms, d + 1)."""

    pooled: Array
    own: Array

    def predict(self, design: Array) -> Array:
        return np.asarray((design @ self.pooled)[:, None] + design @ self.own.T)


def _fit(design: Array, arm: NDArray[np.int64], reward: Array, arms: int) -> _Fitted:
    pooled = _ridge(design, reward, POOLED_RIDGE)
    left = reward - design @ pooled
    return _Fitted(pooled, np.stack([_ridge(design[arm == k], left[arm == k], ARM_RIDGE) for k in range(arms)]))


def _ridge(design: Array, wanted: Array, strength: float) -> Array:
    penalty = strength * np.eye(design.shape[1])
    return np.asarray(np.linalg.solve(design.T @ design + penalty, design.T @ wanted))
