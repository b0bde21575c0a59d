"""Intervals for what trials show: queries and seeds are drawn again together, the same draws for every router.

Percentile intervals (Efron, Tibshirani 1993, chapter 13); because draws are shared, differences between routers are
paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from flywheel.routing.metrics import weighted_apgr
from flywheel.routing.trials import Trial

Floats = npt.NDArray[np.float64]

DRAWS: Final = 500
LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Draws:
    """One figure of each seed, as it came and in every draw: shapes (seeds,) and (seeds, draws)."""

    values: Floats
    drawn: Floats


def query_weights(count: int, *, draws: int = DRAWS, seed: int = 0) -> Floats:
    """How often each query is in each draw, (draws, count); the first row is once each: the data as they are."""
    rng = np.random.default_rng((seed, 5))
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
    return np.vstack((np.ones(count), weights))


def apgr_draws(trials: Sequence[Trial], scores: Floats, strong: int, weights: Floats) -> Draws:
    """APGR of two models' trials under the weights of ``query_weights``."""
    gain = scores[:, strong] - scores[:, 1 - strong]
    rows = []
    for trial in trials:
        wanted = trial.predicted[:, strong] - trial.predicted[:, 1 - strong]
        rows.append(weighted_apgr(wanted, gain[trial.places], weights[:, trial.places]))
    found = np.array(rows)
    return Draws(found[:, 0], found[:, 1:])


def gap_draws(trials: Sequence[Trial], scores: Floats, weights: Floats) -> Draws:
    """The share of the gap between the best single model and the oracle that sending each query to the best
    prediction closes.

    Both ends are of the same draw and queries.
    """
    rows = []
    for trial in trials:
        mine, counts = scores[trial.places], weights[:, trial.places]
        had = counts @ mine[np.arange(len(mine)), trial.predicted.argmax(axis=1)]
        single, oracle = (counts @ mine).max(axis=1), counts @ mine.max(axis=1)
        reach = oracle - single
        rows.append(np.where(reach > 0, (had - single) / np.where(reach > 0, reach, 1.0), np.nan))
    found = np.array(rows)
    return Draws(found[:, 0], found[:, 1:])


def interval(draws: Draws, *, seed: int = 0) -> Interval:
    """The mean over seeds; in each draw seeds are drawn again, too. Draws in which nothing can be told are left out."""
    seeds, count = draws.drawn.shape
    picked = np.random.default_rng((seed, 6)).integers(0, seeds, size=(seeds, count))
    again = draws.drawn[picked, np.arange(count)]
    known = np.isfinite(again)
    means = np.where(known, again, 0.0).sum(axis=0)[known.any(axis=0)] / known.sum(axis=0)[known.any(axis=0)]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(np.nanmean(draws.values)), float(low), float(high))


def difference(one: Draws, other: Draws) -> Interval:
    """How much higher ``one`` is than ``other``, draw by draw and seed by seed."""
    return interval(Draws(one.values - other.values, one.drawn - other.drawn))


def above_all(best: str, found: Mapping[str, Draws], others: Sequence[str]) -> dict[str, Interval]:
    """``best`` less each of ``others``."""
    return {name: difference(found[best], found[name]) for name in others if name != best}
