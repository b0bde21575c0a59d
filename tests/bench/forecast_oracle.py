"""What is reachable: warnings of an oracle that knows the law by which a spend varies, though not its future.

The law: the rate returns to a known mean (an Ornstein-Uhlenbeck process, its spread and time of return read off the
whole trace, which nobody has beforehand), and calls with their costs are a compound Poisson process around it. Under it
everything is Gaussian, so the oracle's forecast is exact (Kalman, 1960), and so is its probability of an overrun. It
tells an overrun as ours does, when that probability first reaches `SURE`, and is judged as ours is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from flywheel.budget.warnings import SURE

Array = NDArray[np.float64]

MINUTE_US = 60_000_000
SLOTS = 64
RUNS = 1_500
HISTORY = 2
"""Windows before the one judged, so that the oracle knows the rate it begins with."""


@dataclass(frozen=True, slots=True)
class Law:
    """``per_minute`` calls on average; ``dispersion`` is 1 + the squared coefficient of variation of their cost;
    ``spread`` of the rate (standard deviation, of its mean) and the ``minutes`` in which a deviation falls to 1/e."""

    per_minute: float
    dispersion: float
    spread: float
    minutes: float


def law_of(calls: Sequence[tuple[int, int]]) -> Law:
    """The law of a trace of (microseconds, cost), by its spend per minute: what is left of the spread and of its
    autocorrelation at 1 to 5 minutes when the noise of the calls is taken away."""
    at_us, cost = np.array([at for at, _ in calls]), np.array([float(cost) for _, cost in calls])
    spend = np.bincount((at_us - at_us.min()) // MINUTE_US, weights=cost)[:-1]
    per_minute = len(calls) / (float(np.ptp(at_us)) / MINUTE_US)
    dispersion = 1.0 + float(cost.var() / cost.mean() ** 2)
    away = spend / spend.mean() - 1.0
    spread = max(float(np.mean(away**2)) - dispersion / per_minute, 1e-6)
    alike = [float(np.mean(away[lag:] * away[:-lag])) / spread for lag in range(1, 6)]
    return Law(per_minute, dispersion, spread**0.5, 1.0 / max(-np.log(np.clip(np.mean(alike), 0.01, 0.99)) / 3.0, 1e-3))


def oracle(law: Law, minutes: float, shares: Sequence[float], *, early: float, seed: int) -> tuple[float, float]:
    """In time, of the budgets exceeded; false, of the others: in percent, over simulated windows."""
    rng, each = np.random.default_rng(seed), minutes / SLOTS
    kept = float(np.exp(-each / law.minutes))
    steps, noise = law.spread**2 * (1 - kept**2), law.dispersion / (law.per_minute * each)
    rate, guess, doubt = law.spread * rng.normal(size=RUNS), np.zeros(RUNS), law.spread**2
    spent, means, spreads = np.zeros((RUNS, SLOTS)), np.zeros((RUNS, SLOTS)), np.zeros(SLOTS)
    total = np.zeros(RUNS)
    for slot in range(-HISTORY * SLOTS, SLOTS):
        rate = kept * rate + steps**0.5 * rng.normal(size=RUNS)
        seen = rate + noise**0.5 * rng.normal(size=RUNS)
        doubt = kept**2 * doubt + steps
        gain = doubt / (doubt + noise)
        guess, doubt = kept * guess + gain * (seen - kept * guess), (1 - gain) * doubt
        if slot >= 0:
            total = total + (1.0 + seen) / SLOTS
            ahead, variance = _rest(SLOTS - 1 - slot, kept, doubt, steps, noise)
            spent[:, slot], spreads[slot] = total, variance**0.5
            means[:, slot] = total + (SLOTS - 1 - slot + guess * ahead) / SLOTS
    return _judged(spent, means, spreads, shares, early)


def _rest(slots: int, kept: float, doubt: float, steps: float, noise: float) -> tuple[float, float]:
    """What a deviation now brings in the slots to come, and the variance of their sum over the window's slots."""
    powers = np.cumsum(kept ** np.arange(slots + 1))
    ahead = float(powers[-1] - 1.0)
    return ahead, (ahead**2 * doubt + steps * float(np.sum(powers[:slots] ** 2)) + slots * noise) / SLOTS**2


def _judged(spent: Array, means: Array, spreads: Array, shares: Sequence[float], early: float) -> tuple[float, float]:
    ends = np.arange(1, SLOTS + 1) / SLOTS
    in_time, false = [], []
    for share in shares:
        amount = share * spent[:, -1:]
        sure = (ndtr((means - amount) / np.maximum(spreads, 1e-9)) >= SURE) & (spent <= amount)
        sure[:, -1] = False
        told = np.where(sure.any(axis=1), ends[sure.argmax(axis=1)], np.inf)
        if share < 1:
            in_time.append(np.mean(told <= ends[(spent > amount).argmax(axis=1)] - early))
        else:
            false.append(np.mean(np.isfinite(told)))
    return 100.0 * float(np.mean(in_time)), 100.0 * float(np.mean(false))


def lines(
    calls: Sequence[tuple[int, int]],
    lengths: Sequence[int],
    *,
    features: int,
    early: float,
    shares: Sequence[float],
    seed: int,
) -> Iterator[str]:
    """A line for each kind of window that the benchmark judges."""
    law = law_of(calls)
    yield (
        f"an oracle of this law: rate ± {100 * law.spread:.0f} %, back in {law.minutes:.1f} min, "
        f"{law.per_minute:.0f} calls a minute, dispersion {law.dispersion:.2f}"
    )
    for name, split in (("feature", features), ("whole", 1)):
        thinned = Law(law.per_minute / split, law.dispersion, law.spread, law.minutes)
        for minutes in lengths:
            in_time, false = oracle(thinned, minutes, shares, early=early, seed=seed)
            yield f"{f'{name}, {minutes} min':16s} oracle: in time {in_time:5.1f} %, false {false:5.1f} %"
