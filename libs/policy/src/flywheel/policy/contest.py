"""How likely each of several independent normal scores is the largest, in a few dozen microseconds.

For arm ``i`` that is ``∫ Π_j F_j dlog F_i``. On a grid whose points lie around every arm, a cell ``[a, b]`` gives away
exactly ``G(b) - G(a)``, ``G = Π F_j``, and shares it among the arms as their ``log F`` rose: exact where the arms'
rises keep their proportion within the cell, of second order in its width otherwise. So the shares are never negative,
need no density and add up to 1. They lie within `CONTEST_ERROR` of the adaptive integral of
``flywheel.policy.propensity``, which no step of a request could wait for; whoever draws from them draws with exactly
them.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from flywheel.policy.propensity import Array

CONTEST_ERROR = 4e-3
"""How far a share may lie from the probability itself (in 12,000 random sets of 2 to 19 arms at most .0027, in the mean
.0005)."""

_REACH = 8.0
_LOWEST = -30.0
_TINY = 1e-300
_POINTS = 15
_BELOW, _ABOVE, _DENSER = 5.0, 6.5, 1.6


def _offsets() -> Array:
    """Points around an arm in its own standard deviations, denser near its centre."""
    u = np.linspace(-1.0, 1.0, _POINTS)
    return np.where(u < 0, -_BELOW, _ABOVE) * np.abs(u) ** _DENSER


_GRID = _offsets()


def shares_of_best(mean: Array, sd: Array) -> Array:
    """Return the probability that each of the scores ``N(mean, sd²)`` (shape (arms,), ``sd`` > 0) is the largest."""
    if len(mean) == 1:
        return np.ones(1)
    # Where one distribution function is negligible the product is: nothing below can be the largest.
    low = float((mean - _REACH * sd).max())
    points = (mean[:, None] + sd[:, None] * _GRID).ravel()
    points.sort()
    points = points[points.searchsorted(low) :]
    z = (points - mean[:, None]) / sd[:, None]
    log_cdf = np.log(ndtr(np.maximum(z, _LOWEST, out=z), out=z), out=z)
    joint = np.exp(np.add.reduce(log_cdf, 0))
    rises = log_cdf[:, 1:] - log_cdf[:, :-1]
    shares = rises @ ((joint[1:] - joint[:-1]) / (np.add.reduce(rises, 0) + _TINY))
    return np.asarray(shares / np.add.reduce(shares))
