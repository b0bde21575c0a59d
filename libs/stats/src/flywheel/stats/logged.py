"""Logged feedback, and how it weighs for another policy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Log:
    """Rows of one log, in the order of their decisions: n rows, K arms.

    ``reward`` (n); ``arm`` (n) the index of the arm that served; ``propensity`` (n) the probability with which it was
    chosen, above 0; ``logging`` (n, K) the probability of every arm, 0 where it could not be chosen, or None where only
    that of the chosen arm was logged; ``features`` (n, d) what a reward model may look at, d may be 0.

    Raises ``ValueError`` where shapes differ, a number is not finite, or a propensity is not in (0, 1].
    """

    reward: Array
    arm: Indices
    propensity: Array
    logging: Array | None
    features: Array

    def __post_init__(self) -> None:
        rows = len(self.reward)
        if not rows == len(self.arm) == len(self.propensity) == len(self.features):
            raise ValueError("reward, arm, propensity and features differ in length")
        if self.logging is not None and len(self.logging) != rows:
            raise ValueError("reward and logging differ in length")
        if not (np.isfinite(self.reward).all() and np.isfinite(self.features).all()):
            raise ValueError("a reward or feature is not finite")
        if not ((self.propensity > 0) & (self.propensity <= 1 + 1e-9)).all():
            raise ValueError("a propensity is not above 0 and at most 1")

    def take(self, rows: NDArray[np.bool_]) -> Log:
        """Return the rows where the mask is true."""
        logging = None if self.logging is None else self.logging[rows]
        return Log(self.reward[rows], self.arm[rows], self.propensity[rows], logging, self.features[rows])


@dataclass(frozen=True)
class Weighed:
    """A log seen from a target policy: ``target`` (n, K) is the probability with which it chooses each arm."""

    log: Log
    target: Array

    @cached_property
    def weight(self) -> Array:
        """Importance weight of each row: the target's probability of the arm that served over the logged one (n)."""
        return np.asarray(self.target[np.arange(len(self.log.arm)), self.log.arm] / self.log.propensity)

    @cached_property
    def weights(self) -> Array | None:
        """Weight of every arm, 0 where the target never chooses it or the log never could (n, K); None: not known."""
        if self.log.logging is None:
            return None
        possible = self.log.logging > 0
        return np.asarray(np.where(possible, self.target / np.where(possible, self.log.logging, 1.0), 0.0))

    @cached_property
    def largest_weight(self) -> Array | None:
        """Largest weight that a row could have had (n), known before its arm was drawn; None: not known."""
        weights = self.weights
        return None if weights is None else np.maximum(weights.max(axis=1), self.weight)

    @cached_property
    def unsupported(self) -> float | None:
        """Mean probability of the target for arms that the log could not choose; None: not known."""
        if self.log.logging is None:
            return None
        return float(np.where(self.log.logging > 0, 0.0, self.target).sum(axis=1).mean())

    def mass_above(self, limit: float) -> float:
        """Return the target's mean probability of arms whose weight exceeds ``limit``."""
        weights = self.weights
        if weights is None:  # E[w; w > limit] under the logging policy is the same, but for noise.
            return float(np.mean(self.weight * (self.weight > limit)))
        return float(np.where(weights > limit, self.target, 0.0).sum(axis=1).mean())
