"""Intervals of a mean from its rows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]


def mean_interval(values: Array, *, alpha: float) -> tuple[float, float]:
    """Return the central interval of the mean of ``values`` (n >= 2), which may be skew.

    Student's t after Hall's cubic transformation, which takes the skewness out of the studentised mean to first order
    and is monotone, so that it can be turned round (Hall, 1992, JRSS B 54). Importance-weighted rewards are skew to the
    right: the plain interval lies too low.
    """
    rows = len(values)
    mean = float(values.mean())
    centred = values - mean
    variance = float((centred**2).sum()) / (rows - 1)
    if variance <= 0.0:
        return mean, mean
    skew = float(((centred / math.sqrt(variance)) ** 3).mean())
    quantile = float(special.stdtrit(rows - 1, 1 - alpha / 2))
    error = (variance / rows) ** 0.5
    return mean - error * _unskewed(quantile, skew, rows), mean - error * _unskewed(-quantile, skew, rows)


def _unskewed(quantile: float, skew: float, rows: int) -> float:
    """Return the studentised mean whose transform is ``quantile``: the inverse of Hall's cubic."""
    a = skew / rows**0.5
    if abs(a) < 1e-9:
        return quantile
    return float(3.0 / a * (np.cbrt(1.0 + a * (quantile - a / 6.0)) - 1.0))
