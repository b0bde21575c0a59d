"""What another policy would have earned on a log: estimates with intervals, confidence sequences, and a gate.

Pure, and the same for the same log: nothing is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flywheel.stats.estimators import NAMES, Estimated, estimate
from flywheel.stats.gate import Diagnosis, diagnose, refusals
from flywheel.stats.intervals import mean_interval
from flywheel.stats.logged import Log, Weighed
from flywheel.stats.reward_model import predict
from flywheel.stats.sequences import asymptotic_half_width, bet, bet_gain

Array = NDArray[np.float64]

ALPHA: Final = 0.05


@dataclass(frozen=True, slots=True)
class Bounds:
    """``low`` and ``high`` hold for this many rows; ``always_low`` and ``always_high`` for every number at once."""

    low: float
    high: float
    always_low: float
    always_high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A target's value by one estimator, and by how much it exceeds the logging policy's on the same rows.

    ``limit`` is the largest weight let through, None where nothing was held back.
    """

    name: str
    value: float
    bounds: Bounds
    gain: float
    gain_bounds: Bounds
    limit: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """``logged`` is the mean reward of the log; ``estimates`` are empty where there are ``refusals``.

    ``value_always`` and ``gain_always`` are exact confidence sequences of the target's value and gain, by betting.
    """

    diagnosis: Diagnosis
    refusals: tuple[str, ...]
    logged: float
    logged_interval: tuple[float, float]
    estimates: tuple[Estimate, ...]
    value_always: tuple[float, float] | None
    gain_always: tuple[float, float] | None


def evaluate(
    log: Log,
    target: Array,
    *,
    low: float,
    high: float,
    alpha: float = ALPHA,
    names: tuple[str, ...] = NAMES,
    model: Array | None = None,
) -> Evaluation:
    """Return what the policy that chooses with ``target`` (n, K) would have earned on ``log``.

    Rewards lie in ``[low, high]``. ``model`` (n, K) is the predicted reward of each row and arm; default: cross-fitted
    ridge regression on the log. Raises ``ValueError`` where ``target`` is no distribution or a reward out of range.
    """
    if len(target) != len(log.reward) or (target < 0).any() or not np.allclose(target.sum(axis=1), 1.0, atol=1e-6):
        raise ValueError("target is not a distribution over arms for every row")
    if not low < high or (len(log.reward) and not (low <= log.reward.min() and log.reward.max() <= high)):
        raise ValueError(f"a reward is outside of {low:g} to {high:g}")
    weighed = Weighed(log, target)
    found = diagnose(weighed)
    refused = refusals(found)
    logged = float(log.reward.mean()) if len(log.reward) else float("nan")
    interval = mean_interval(log.reward, alpha=alpha) if len(log.reward) > 1 else (low, high)
    if refused:
        return Evaluation(found, refused, logged, interval, (), None, None)
    predicted = predict(log, target.shape[1]) if model is None else model
    estimates = tuple(
        _bounded(one, log.reward, low=low, high=high, alpha=alpha)
        for one in estimate(weighed, predicted, low=low, high=high, names=names)
    )
    unit, caps = (log.reward - low) / (high - low), weighed.largest_weight
    value, gain = bet(unit, weighed.weight, caps, alpha=alpha), bet_gain(unit, weighed.weight, caps, alpha=alpha)
    return Evaluation(
        found, (), logged, interval, estimates,
        (low + (high - low) * value[0], low + (high - low) * value[1]),
        ((high - low) * gain[0], (high - low) * gain[1]),
    )  # fmt: skip


def better(found: Evaluation) -> bool:
    """Whether the target may replace the running policy: the log carries the claim, and the lower end of the exact
    confidence sequence of its gain is above 0. As it holds at all times, one may ask every day until it is so."""
    return found.gain_always is not None and found.gain_always[0] > 0.0


def _bounded(one: Estimated, reward: Array, *, low: float, high: float, alpha: float) -> Estimate:
    gains = one.rows - reward
    width = high - low
    return Estimate(
        one.name, one.value, _bounds(one, one.rows, (low, high), alpha),
        float(gains.mean()), _bounds(one, gains, (-width, width), alpha), one.limit,
    )  # fmt: skip


def _bounds(one: Estimated, rows: Array, within: tuple[float, float], alpha: float) -> Bounds:
    mean = float(rows.mean())
    below, above = mean_interval(rows, alpha=alpha)
    away = float(asymptotic_half_width(float(rows.std(ddof=1)), len(rows), alpha=alpha))
    ends = (below - one.bias_low, above + one.bias_high, mean - away - one.bias_low, mean + away + one.bias_high)
    return Bounds(*(float(min(max(end, within[0]), within[1])) for end in ends))
