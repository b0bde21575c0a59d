"""Off-policy estimators of a target policy's value: each gives a value, and the rows whose mean it is.

Of self-normalised ones the rows are the influence function, so that every interval is one of a mean. Where ``w`` is the
weight, ``r`` the reward, ``q`` the cross-fitted model and ``m`` the model's value under the target:

- ``ips``: mean of ``w r`` (Horvitz and Thompson, 1952). Unbiased, also while the logging policy learns.
- ``snips``: ``sum w r / sum w`` (Hajek, 1971; Swaminathan and Joachims, 2015). Does not depend on where rewards begin.
- ``clipped``: IPS with weights of at most ``limit`` (Ionides, 2008).
- ``dr``: mean of ``m + w (r - q)`` (Robins, Rotnitzky and Zhao, 1994; Dudik et al., 2011), with cross-fitting
  (Chernozhukov et al., 2018).
- ``sndr``: the same with self-normalised weights (Thomas and Brunskill, 2016).
- ``switch``: ``m`` alone where the weight exceeds ``limit``, else DR (Wang, Agarwal and Dudik, 2017).

The two limits are those with the least bound on the mean squared error (Wang, Agarwal and Dudik, 2017, section 4): the
variance over n, plus the square of the largest bias possible. What bias may be left is told, and the interval is as
much wider on the side, or sides, where the value may lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flywheel.stats.logged import Weighed

Array = NDArray[np.float64]

NAMES: Final = ("ips", "snips", "clipped", "dr", "sndr", "switch")
_LIMITS: Final = 24


@dataclass(frozen=True, slots=True)
class Estimated:
    """``value`` is the mean of ``rows`` (n); the truth may be ``bias_low`` below and ``bias_high`` above what the rows
    are unbiased for; ``limit`` of the weights where there is one."""

    name: str
    value: float
    rows: Array
    bias_low: float = 0.0
    bias_high: float = 0.0
    limit: float | None = None


def estimate(
    weighed: Weighed, model: Array, *, low: float, high: float, names: tuple[str, ...] = NAMES
) -> list[Estimated]:
    """Return every estimate named. ``model`` (n, K) is the predicted reward; rewards lie in ``[low, high]``."""
    w, r = weighed.weight, weighed.log.reward
    q = model[np.arange(len(r)), weighed.log.arm]
    m = (weighed.target * model).sum(axis=1)
    makers: dict[str, Callable[[], Estimated]] = {
        "ips": lambda: _mean("ips", w * r),
        "snips": lambda: _normalised("snips", np.zeros_like(r), w, r),
        "clipped": lambda: _clipped(weighed, low, high),
        "dr": lambda: _mean("dr", m + w * (r - q)),
        "sndr": lambda: _normalised("sndr", m, w, r - q),
        "switch": lambda: _switch(weighed, m, r - q, high - low),
    }
    return [makers[name]() for name in names]


def _mean(name: str, rows: Array) -> Estimated:
    return Estimated(name, float(rows.mean()), rows)


def _normalised(name: str, base: Array, w: Array, rest: Array) -> Estimated:
    """``mean(base) + sum(w rest) / sum(w)``, and its influence function around itself."""
    mean_weight = float(w.mean())
    ratio = float((w * rest).mean()) / mean_weight
    return Estimated(name, float(base.mean()) + ratio, base + ratio + w * (rest - ratio) / mean_weight)


def _clipped(weighed: Weighed, low: float, high: float) -> Estimated:
    w, r = weighed.weight, weighed.log.reward

    def lost(limit: float) -> float:
        """Weight that clipping takes away on average: exactly where all propensities are known."""
        weights = weighed.weights
        if weights is None:
            return float(np.maximum(w - limit, 0.0).mean())
        kept = np.where(weights > limit, limit / np.where(weights > 0, weights, 1.0), 1.0)
        return float((weighed.target * (1.0 - kept)).sum(axis=1).mean())

    largest = max(abs(low), abs(high))
    limit = _best_limit(w, lambda at: np.minimum(w, at) * r, lambda at: lost(at) * largest)
    away = lost(limit)
    rows = np.minimum(w, limit) * r
    return Estimated("clipped", float(rows.mean()), rows, max(-low, 0.0) * away, max(high, 0.0) * away, _told(limit, w))


def _switch(weighed: Weighed, m: Array, left: Array, width: float) -> Estimated:
    w = weighed.weight

    def rows_at(limit: float) -> Array:
        return np.asarray(m + np.where(w <= limit, w, 0.0) * left)

    limit = _best_limit(w, rows_at, lambda at: weighed.mass_above(at) * width)
    bias = weighed.mass_above(limit) * width
    rows = rows_at(limit)
    return Estimated("switch", float(rows.mean()), rows, bias, bias, _told(limit, w))


def _best_limit(w: Array, rows_at: Callable[[float], Array], bias_at: Callable[[float], float]) -> float:
    """Return the limit, of quantiles of the weights, with the least bound on the mean squared error."""
    limits = np.unique(np.quantile(w, 1.0 - np.geomspace(1.0 / len(w), 0.5, _LIMITS), method="higher"))
    limits = np.unique(np.append(limits, w.max()))
    bounds = [float(np.var(rows_at(limit))) / len(w) + bias_at(float(limit)) ** 2 for limit in limits]
    return float(limits[int(np.argmin(bounds))])


def _told(limit: float, w: Array) -> float | None:
    """The limit where it holds anything back."""
    return limit if (w > limit).any() else None
