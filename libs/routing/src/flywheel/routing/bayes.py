"""Linear regression whose strengths of shrinkage, one for each block of features, are learned from the labels.

y = X w + noise with w_b ~ N(0, a_b I) in block b. Noise and a_b maximise the evidence by MacKay's fixed point (MacKay
1992, "Bayesian interpolation"; Tipping 2001 for a variance per block). A block that says nothing gets a variance near
zero, so more features cost little. The posterior is exact, whole or observation by observation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, lapack

Floats = npt.NDArray[np.float64]

ITERATIONS: Final = 20
LEAST_VARIANCE: Final = 1e-8
MOST_VARIANCE: Final = 1e4
TOLERANCE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Prior:
    """Variances of the weights, by feature, and of the noise."""

    weights: Floats
    noise: float


@dataclass(frozen=True, slots=True)
class Moments:
    """What labels have said so far, sufficient for every prior: X'X, X'y, y'y and how many."""

    xx: Floats
    xy: Floats
    yy: float
    count: int

    @classmethod
    def of(cls, features: Floats, labels: Floats) -> Moments:
        """Of a whole table: features (n, d), labels (n,)."""
        return cls(features.T @ features, features.T @ labels, float(labels @ labels), len(labels))


def _inverse(matrix: Floats) -> Floats:
    """The inverse of a positive definite matrix."""
    factor, failed = lapack.dpotrf(matrix, lower=1)
    if failed:
        raise np.linalg.LinAlgError("the posterior's precision is not positive definite")
    inverse, _ = lapack.dpotri(factor, lower=1)
    lower: Floats = np.tril(inverse)
    whole: Floats = lower + np.tril(lower, -1).T
    return whole


def learned_prior(moments: Moments, blocks: Sequence[slice], *, iterations: int = ITERATIONS) -> Prior:
    """The prior under which the labels are most likely; blocks must cover the features without overlap."""
    size, count = len(moments.xy), moments.count
    spread = max(moments.yy / max(1, count), 1e-12)
    noise = spread
    scale = np.array([max(float(np.trace(moments.xx[b, b])) / max(1, count), 1e-12) for b in blocks])
    variances = 0.1 * spread / scale / len(blocks)
    for _ in range(iterations):
        weights = np.empty(size)
        for block, variance in zip(blocks, variances, strict=True):
            weights[block] = variance
        covariance = _inverse(moments.xx / noise + np.diag(1 / weights))
        mean = covariance @ moments.xy / noise
        before, determined = variances.copy(), 0.0
        diagonal = np.diag(covariance)
        for place, block in enumerate(blocks):
            effective = max(mean[block].size - float(diagonal[block].sum()) / variances[place], 1e-6)
            determined += effective
            ceiling = MOST_VARIANCE * spread / scale[place]
            found = float(mean[block] @ mean[block]) / effective
            variances[place] = min(max(found, LEAST_VARIANCE * spread / scale[place]), ceiling)
        residual = moments.yy - 2 * float(mean @ moments.xy) + float(mean @ moments.xx @ mean)
        noise = max(residual / max(count - determined, 1.0), 1e-4 * spread)
        if np.all(np.abs(np.log(variances / before)) < TOLERANCE):
            break
    weights = np.empty(size)
    for block, variance in zip(blocks, variances, strict=True):
        weights[block] = variance
    return Prior(weights, noise)


@dataclass(frozen=True, slots=True)
class Posterior:
    """Weights given labels: mean (d,) and precision (d, d)."""

    mean: Floats
    precision: Floats
    noise: float

    @classmethod
    def of(cls, moments: Moments, prior: Prior) -> Posterior:
        """All labels at once."""
        precision = moments.xx / prior.noise + np.diag(1 / prior.weights)
        return cls(cho_solve(cho_factor(precision), moments.xy / prior.noise), precision, prior.noise)
