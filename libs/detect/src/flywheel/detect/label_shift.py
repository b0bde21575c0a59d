"""Fewer right answers: because other things are asked, or because the same things are answered worse?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from scipy.special import chdtrc

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Vector = np.ndarray[tuple[int], np.dtype[np.float64]]
Verdict = Literal["nothing", "label_shift", "accuracy", "both"]
MOST_CONDITION: Final = 1e6


@dataclass(frozen=True, slots=True)
class Shares:
    """Corrected shares of classes without labels.

    ``weights`` are q(y)/p(y), ``shares`` q(y) as solved, in class order. ``plausible``: no share lies below 0 by more
    than sampling explains; where one does, the answers changed for another reason than the mix of classes.
    """

    weights: tuple[float, ...]
    shares: tuple[float, ...]
    plausible: bool


def corrected_shares(joint: Sequence[Sequence[float]], answered: Sequence[float], *, z: float = 3.0) -> Shares:
    """Black-box shift estimation (Lipton, Wang & Smola 2018): w = C⁻¹ μ.

    ``joint``: counts (or shares) of answer i (row) for class j (column) in the labelled reference; ``answered``: counts
    (or shares) of each answer now. Counts make ``plausible`` a test at ``z`` standard errors; shares, whose sums are
    1, leave no room. Raises ``ValueError`` for shapes that do not fit and for answers that do not tell classes apart.
    """
    counts, now = np.asarray(joint, dtype=np.float64), np.asarray(answered, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or now.shape != counts.shape[:1]:
        raise ValueError("joint: a square table, answered: one figure for each of its rows")
    if not (np.isfinite(counts).all() and np.isfinite(now).all()) or min(counts.min(), now.min()) < 0:
        raise ValueError("joint, answered: figures of 0 or more")
    if counts.sum() <= 0 or now.sum() <= 0 or (counts.sum(axis=0) <= 0).any():
        raise ValueError("joint: every class must occur in the reference")
    c, mu = counts / counts.sum(), now / now.sum()
    if np.linalg.cond(c) > MOST_CONDITION:
        raise ValueError("joint: answers do not tell the classes apart")
    inverse, prior = np.linalg.inv(c), c.sum(axis=0)
    weights = inverse @ mu
    # Delta method: of the counts now and of the reference's (column by column, given its classes).
    of_now = (np.diag(mu) - np.outer(mu, mu)) / max(now.sum(), 1.0)
    spread = (np.diag(c @ weights**2) - np.outer(c @ weights, c @ weights)) / max(counts.sum(), 1.0)
    errors = prior * np.sqrt(np.maximum(np.diag(inverse @ (of_now + spread) @ inverse.T), 0.0))
    slack = z * errors if counts.sum() > 1.5 and now.sum() > 1.5 else np.full(len(mu), 1e-9)
    shares = weights * prior
    return Shares(tuple(map(float, weights)), tuple(map(float, shares)), bool((shares >= -slack).all()))


@dataclass(frozen=True, slots=True)
class Explained:
    """A change of accuracy in its two parts, and what is certain of it.

    ``change = from_mix + from_accuracy``. ``p_mix``: is the mix of classes the same; ``p_accuracy``: is each class
    answered as rightly as before.
    """

    change: float
    from_mix: float
    from_accuracy: float
    p_mix: float
    p_accuracy: float
    verdict: Verdict


def explain(
    before: Sequence[tuple[float, float]], after: Sequence[tuple[float, float]], *, alpha: float = 0.01
) -> Explained:
    """Tell label shift from a change of accuracy, of labelled calls: (right, wrong) of each class, before and after.

    The parts are Kitagawa's (1955) decomposition. The mix is tested by Pearson's χ²; accuracy within classes by the sum
    over classes of χ² of two shares. Raises ``ValueError`` for shapes that do not fit or a period without calls.
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 2 or first.shape[1] != 2 or min(first.min(), second.min()) < 0:
        raise ValueError("before, after: (right, wrong) of the same classes, counts of 0 or more")
    if first.sum() <= 0 or second.sum() <= 0:
        raise ValueError("before, after: at least one call")
    n1, n2 = first.sum(axis=1), second.sum(axis=1)
    a1, a2 = _shares_right(first, second)
    s1, s2 = n1 / n1.sum(), n2 / n2.sum()
    from_mix = float(np.sum((s2 - s1) * (a1 + a2) / 2.0))
    from_accuracy = float(np.sum((a2 - a1) * (s1 + s2) / 2.0))
    p_mix = _p_mix(n1, n2)
    p_accuracy = _p_accuracy(first, second)
    return Explained(
        from_mix + from_accuracy,
        from_mix,
        from_accuracy,
        p_mix,
        p_accuracy,
        _verdict(p_mix < alpha, p_accuracy < alpha),
    )


def _verdict(mix: bool, accuracy: bool) -> Verdict:
    if mix:
        return "both" if accuracy else "label_shift"
    return "accuracy" if accuracy else "nothing"


def _shares_right(first: Matrix, second: Matrix) -> tuple[Vector, Vector]:
    """Accuracy of each class; of a class that occurs in one period only, that period's for both."""
    n1, n2 = first.sum(axis=1), second.sum(axis=1)
    a1 = np.divide(first[:, 0], n1, out=np.zeros(len(n1)), where=n1 > 0)
    a2 = np.divide(second[:, 0], n2, out=np.zeros(len(n2)), where=n2 > 0)
    return np.where(n1 > 0, a1, a2), np.where(n2 > 0, a2, a1)


def _p_mix(n1: Vector, n2: Vector) -> float:
    table = np.array([n1, n2])[:, n1 + n2 > 0]
    return float(chdtrc(table.shape[1] - 1, _pearson(table))) if table.shape[1] > 1 else 1.0


def _p_accuracy(first: Matrix, second: Matrix) -> float:
    statistic, freedom = 0.0, 0
    for one, two in zip(first, second, strict=True):
        table = np.array([one, two])
        if (table.sum(axis=0) > 0).all() and (table.sum(axis=1) > 0).all():
            statistic += _pearson(table)
            freedom += 1
    return float(chdtrc(freedom, statistic)) if freedom else 1.0


def _pearson(table: Matrix) -> float:
    """Pearson's χ² of a table without empty rows and columns."""
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    return float(np.sum((table - expected) ** 2 / expected))
