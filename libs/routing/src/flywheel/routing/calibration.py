"""How often an answer with so much doubt is wrong: a calibration from labelled answers, and how well it holds.

Arrays have one entry an answer: ``raw`` doubts (0 to 1), ``wrong`` (1 less its score, 0 to 1) and ``weights`` (how many
answers each stands for, above 0). Lower is better for both errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from flywheel.routing.bootstrap import LEVEL, Interval, query_weights
from flywheel.routing.folds import cross_folds

Floats = npt.NDArray[np.float64]
Knots = tuple[tuple[float, float], ...]

MOST_POINTS: Final = 32
BINS: Final = 10
_DIGITS: Final = 4


class TooFew(ValueError):
    """There are too few answers, or all of them are alike."""


@dataclass(frozen=True, slots=True)
class Errors:
    """How well probabilities hold, with 95 % intervals over answers.

    ``calibration``: expected calibration error over bins of equally many answers (Naeini, Cooper and Hauskrecht, 2015),
    which chance alone makes larger than 0, and drawing answers again larger still, so its interval lies high;
    ``brier``: mean squared error (Brier, 1950); ``auc``: how often a wrong answer is doubted more than a right one, of
    which 0.5 is by chance, and which no rising calibration but by ties can change.
    """

    calibration: Interval
    brier: Interval
    auc: Interval


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration fitted on all answers, and the errors of raw doubts beside those of cross-fitted ones: each answer
    judged by a calibration that never saw it. ``doubts``: the latter. ``brier_less``: by how much their Brier score is
    lower than the raw ones'."""

    knots: Knots
    wrong: float
    raw: Errors
    fitted: Errors
    brier_less: Interval
    doubts: Floats


def fit_knots(raw: Floats, wrong: Floats, weights: Floats) -> Knots:
    """Return the points (raw doubt, probability of being wrong), rising, of a calibration that is straight in between.

    Centred isotonic regression (Oron and Flournoy, 2017): the level pieces of the isotonic regression (Barlow et al.,
    1972) become points at their middle, so that it rises wherever the data do. More than 32 different doubts are first
    gathered into as many groups of equal weight.

    Raises:
        TooFew: no answer counts.
    """
    if not weights.sum() > 0:
        raise TooFew("no answer counts")
    values, groups = np.unique(raw, return_inverse=True)
    if len(values) > MOST_POINTS:
        order = np.argsort(raw, kind="stable")
        middle = np.cumsum(weights[order]) - weights[order] / 2
        groups = np.empty(len(raw), dtype=np.intp)
        groups[order] = np.minimum(MOST_POINTS - 1, (middle / weights.sum() * MOST_POINTS).astype(np.intp))
        # Equal doubts belong together: all of them to the group of the first.
        groups = np.minimum.reduceat(groups[order], np.flatnonzero(np.diff(raw[order], prepend=-1.0)))[
            np.searchsorted(values, raw)
        ]
    mass = np.bincount(groups, weights)
    kept = np.flatnonzero(mass > 0)
    mass = mass[kept]
    at = np.bincount(groups, weights * raw)[kept] / mass
    share = np.clip(np.bincount(groups, weights * wrong)[kept] / mass, 0.0, 1.0)
    fitted = isotonic_regression(share, weights=mass)
    blocks = fitted.blocks
    total = np.add.reduceat(mass, blocks[:-1])
    middles = np.add.reduceat(mass * at, blocks[:-1]) / total
    points = dict(
        zip(np.round(middles, _DIGITS).tolist(), np.round(fitted.x[blocks[:-1]], _DIGITS).tolist(), strict=True)
    )
    return tuple(points.items())


def apply_knots(knots: Knots, raw: Floats) -> Floats:
    """Return the probabilities that a calibration gives raw doubts; what a cascade's plan does with one of them."""
    at, share = zip(*knots, strict=True)
    found: Floats = np.interp(raw, at, share)
    return found


def cross_fitted(raw: Floats, wrong: Floats, weights: Floats, *, folds: int, seed: int) -> Floats:
    """Return each answer's probability by a calibration fitted on the other folds."""
    found = np.empty(len(raw))
    for held, kept in cross_folds(len(raw), folds, (seed, 8)):
        found[held] = apply_knots(fit_knots(raw[kept], wrong[kept], weights[kept]), raw[held])
    return found


def check_enough(wrong: Floats, *, folds: int) -> None:
    """Say whether anything can be learned.

    Raises:
        TooFew: fewer than ten answers a fold, or all of them equally good.
    """
    if len(wrong) < 10 * folds:
        raise TooFew(f"{len(wrong)} answers are too few for {folds} folds: ten for each are needed")
    if wrong.max() == wrong.min():
        raise TooFew("all answers are equally good, so there is nothing to tell apart")


def calibrate(
    raw: Floats, wrong: Floats, weights: Floats, *, folds: int = 5, draws: int = 500, seed: int = 0
) -> Calibrated:
    """Fit a calibration and say how well it holds.

    Raises:
        TooFew: as ``check_enough``.
    """
    check_enough(wrong, folds=folds)
    fitted = cross_fitted(raw, wrong, weights, folds=folds, seed=seed)
    again = query_weights(len(raw), draws=draws, seed=seed) * weights
    first, second = _figures(raw, wrong, again), _figures(fitted, wrong, again)
    return Calibrated(
        knots=fit_knots(raw, wrong, weights),
        wrong=float(np.average(wrong, weights=weights)),
        raw=Errors(*map(_interval, first)),
        fitted=Errors(*map(_interval, second)),
        brier_less=_interval(first[1] - second[1]),
        doubts=fitted,
    )


def calibration_error(doubt: Floats, wrong: Floats, weights: Floats) -> float:
    """Return the mean distance between doubt and share of wrong answers, over bins of equally many answers; equal
    doubts are in one bin."""
    edges = np.quantile(doubt, np.linspace(0, 1, BINS + 1)[1:-1])
    return _calibration_error(np.searchsorted(edges, doubt, side="left"), doubt, wrong, weights)


def _calibration_error(bins: npt.NDArray[np.intp], doubt: Floats, wrong: Floats, weights: Floats) -> float:
    gap = np.bincount(bins, weights * (doubt - wrong))
    return float(np.abs(gap).sum() / weights.sum())


def area_under_curve(doubt: Floats, wrong: Floats, weights: Floats) -> float:
    """Return how often a wrong answer is doubted more than a right one, equal doubts counting half; a score between
    counts as both, in part."""
    order = np.argsort(doubt, kind="stable")
    starts = np.flatnonzero(np.diff(doubt[order], prepend=-np.inf))
    bad = np.add.reduceat((weights * wrong)[order], starts)
    good = np.add.reduceat((weights * (1 - wrong))[order], starts)
    below = np.cumsum(good) - good / 2
    pairs = bad.sum() * good.sum()
    return float((bad * below).sum() / pairs) if pairs > 0 else float("nan")


def _figures(doubt: Floats, wrong: Floats, again: Floats) -> tuple[Floats, Floats, Floats]:
    """Calibration error, Brier score and AUC under each row of weights; the first row is the data as they are."""
    edges = np.quantile(doubt, np.linspace(0, 1, BINS + 1)[1:-1])
    bins = np.searchsorted(edges, doubt, side="left")
    errors = np.array([_calibration_error(bins, doubt, wrong, row) for row in again])
    brier = again @ (doubt - wrong) ** 2 / again.sum(axis=1)
    return errors, brier, np.array([area_under_curve(doubt, wrong, row) for row in again])


def _interval(drawn: Floats) -> Interval:
    low, high = np.nanquantile(drawn[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = float(drawn[0])
    return Interval(value, min(value, float(low)), max(value, float(high)))
