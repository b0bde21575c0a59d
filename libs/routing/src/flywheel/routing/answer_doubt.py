"""Doubt about an answer, learned from answers whose worth is known: linear in cheap signals of question and answer.

An answer says more of how hard its question was than the question does. What was learned is a row of numbers, small
enough to be declared: the constant, then a weight for each signal of the question, then for each of the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from flywheel.routing.bayes import Moments, Posterior, learned_prior
from flywheel.routing.folds import cross_folds
from flywheel.routing.texts import SIGNALS, excerpt, signals

Floats = npt.NDArray[np.float64]

WEIGHTS: Final = 1 + 2 * SIGNALS
_BLOCKS: Final = (slice(0, SIGNALS), slice(SIGNALS, 2 * SIGNALS))
_DIGITS: Final = 6


def answer_signals(question: str, answer: str) -> list[float]:
    """Return the signals of both texts, of at most their first and last 2,000 characters each."""
    return [*signals(excerpt(question)), *signals(excerpt(answer))]


def learned_doubt(weights: Sequence[float], question: str, answer: str) -> float:
    """Return the doubt, 0 to 1, by weights that ``fit_doubt`` found.

    Raises:
        ValueError: there are not as many as signals and a constant.
    """
    found = answer_signals(question, answer)
    return _share(weights[0] + math.fsum(w * x for w, x in zip(weights[1:], found, strict=True)))


def fit_doubt(rows: Floats, wrong: Floats, counts: Floats) -> tuple[float, ...]:
    """Return the weights of a doubt that foretells ``wrong`` (n,), 0 to 1, from signals (n, 84).

    Linear regression, its shrinkage for questions and for answers learned by the evidence (``flywheel.routing.bayes``).
    ``counts`` (n,): how many answers each row stands for.
    """
    mean = np.average(rows, axis=0, weights=counts)
    spread = np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=counts))
    spread = np.where(spread > 1e-9, spread, np.inf)  # what never varies says nothing
    share = float(np.average(wrong, weights=counts))
    root = np.sqrt(counts)
    moments = Moments.of((rows - mean) / spread * root[:, None], (wrong - share) * root)
    found = Posterior.of(moments, learned_prior(moments, _BLOCKS)).mean / spread
    constant = share - float(found @ mean)
    return tuple(float(f"{value:.{_DIGITS}g}") for value in (constant, *found.tolist()))


def doubts_of(weights: Sequence[float], rows: Floats) -> Floats:
    """Return the doubts of many answers from their signals (n, 84)."""
    found: Floats = np.clip(weights[0] + rows @ np.asarray(weights[1:]), 0.0, 1.0)
    return found


def cross_fitted_doubts(rows: Floats, wrong: Floats, counts: Floats, *, folds: int, seed: int) -> Floats:
    """Return each answer's doubt by weights that never saw it."""
    found = np.empty(len(rows))
    for held, kept in cross_folds(len(rows), folds, (seed, 9)):
        found[held] = doubts_of(fit_doubt(rows[kept], wrong[kept], counts[kept]), rows[held])
    return found


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))
