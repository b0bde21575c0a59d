"""Two samples of the same thing: are their distributions the same, at critical values that know the sample sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats
from scipy.spatial import distance

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]
SMOOTHING: Final = 0.5
LEAST_EXPECTED: Final = 5.0
PERMUTATIONS: Final = 499
ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Tested:
    """A statistic, the value it exceeds with probability ``alpha`` where nothing changed, and its p-value."""

    statistic: float
    critical: float
    p_value: float

    @property
    def drifted(self) -> bool:
        """Whether the statistic lies above its critical value."""
        return self.statistic > self.critical


def psi(reference: Sequence[int], recent: Sequence[int], *, alpha: float = 0.05) -> Tested:
    """Population stability index of two samples counted in the same bins, with its χ² critical value.

    Where nothing changed PSI is about ``(1/n + 1/m) χ²`` with bins − 1 degrees of freedom (Yurdakul & Naranjo 2020):
    0.1 means nothing without n: at 200 and ten bins it is exceeded 35 % of the time. Half a count joins each bin,
    so that an empty one does not make it infinite. Raises ``ValueError`` for fewer than two bins or unequal ones.
    """
    first, second = _counts("reference", reference), _counts("recent", recent)
    if len(first) != len(second) or len(first) < 2:
        raise ValueError("recent: as many bins as the reference, and two or more")
    bins = len(first)
    p = (first + SMOOTHING) / (first.sum() + SMOOTHING * bins)
    q = (second + SMOOTHING) / (second.sum() + SMOOTHING * bins)
    value = float(np.sum((p - q) * np.log(p / q)))
    scale = float(1.0 / first.sum() + 1.0 / second.sum())
    law = stats.chi2(bins - 1)
    return Tested(value, float(scale * law.ppf(1.0 - alpha)), float(law.sf(value / scale)))


def categorical(reference: Mapping[str, int], recent: Mapping[str, int], *, alpha: float = 0.05) -> Tested:
    """Pearson's χ² test of homogeneity of two samples of categories.

    Categories too rare for the χ² law (expected below 5 in either sample) are counted together. With nothing left to
    compare the p-value is 1. Raises ``ValueError`` for an empty sample or a negative count.
    """
    names = sorted(set(reference) | set(recent))
    first = _counts("reference", [reference.get(name, 0) for name in names])
    second = _counts("recent", [recent.get(name, 0) for name in names])
    least = min(first.sum(), second.sum()) / (first.sum() + second.sum())
    common = (first + second) * least >= LEAST_EXPECTED
    table = np.array([[*sample[common], sample[~common].sum()] for sample in (first, second)])
    table = table[:, table.sum(axis=0) > 0]
    freedom = table.shape[1] - 1
    if freedom < 1:
        return Tested(0.0, 0.0, 1.0)
    statistic, p_value, _, _ = stats.chi2_contingency(table, correction=False)
    return Tested(float(statistic), float(stats.chi2(freedom).ppf(1.0 - alpha)), float(p_value))


def vectors(
    reference: Sequence[Sequence[float]],
    recent: Sequence[Sequence[float]],
    *,
    alpha: float = 0.05,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Tested:
    """Energy distance of two samples of vectors (embeddings, encoded features), a row each, by permutation.

    ``2 E|X − Y| − E|X − X'| − E|Y − Y'|`` is 0 only where the distributions are the same (Székely & Rizzo 2013). A
    change of means shows soonest, one of spreads or of what goes together takes more rows. Coordinates are in units of
    their deviation over both samples; those that never change drop out. The critical value is that of ``permutations``
    divisions of all rows at random, the same for the same ``seed``: of rows that are exchangeable it is exceeded with
    probability at most ``alpha``, whatever their law and dimension. Takes memory and time of the square of the number
    of rows: some hundreds. Raises ``ValueError`` for samples of fewer than two rows, of unequal widths or with numbers
    that are not finite, and for fewer permutations than ``alpha`` needs.
    """
    first, second = _rows("reference", reference), _rows("recent", recent)
    if first.shape[1] != second.shape[1]:
        raise ValueError("recent: rows as wide as the reference's")
    exceeding = int(alpha * (permutations + 1))
    if not 0 < alpha < 1 or exceeding < 1:
        raise ValueError("permutations: at least 1 / alpha, for an alpha between 0 and 1")
    pooled = np.vstack([first, second])
    spread = pooled.std(axis=0)
    pooled = (pooled / np.where(spread > 0, spread, 1.0))[:, spread > 0]
    apart = distance.squareform(distance.pdist(pooled)) if pooled.shape[1] else np.zeros((len(pooled), len(pooled)))
    signs = np.concatenate([np.full(len(first), 1.0 / len(first)), np.full(len(second), -1.0 / len(second))])
    dice = np.random.default_rng(seed)
    drawn = dice.permuted(np.tile(signs, (permutations, 1)), axis=1)
    # A division that is the same but for rounding must not count as smaller.
    statistic, chance = float(-signs @ apart @ signs), -np.sum((drawn @ apart) * drawn, axis=1) * (1.0 + ROUNDING)
    reached = int(np.sum(chance >= statistic))
    return Tested(statistic, float(np.sort(chance)[-exceeding]), (1 + reached) / (permutations + 1))


def _rows(name: str, rows: Sequence[Sequence[float]]) -> Matrix:
    try:
        made = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: rows of numbers, all as wide") from error
    if made.ndim != 2 or len(made) < 2 or not made.shape[1] or not np.isfinite(made).all():
        raise ValueError(f"{name}: two rows or more of finite numbers")
    return made.reshape(len(made), made.shape[1])


def _counts(name: str, counts: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    made = np.asarray(counts, dtype=np.float64)
    if made.ndim != 1 or not np.isfinite(made).all() or (made < 0).any() or made.sum() <= 0:
        raise ValueError(f"{name}: counts of 0 or more, not all 0")
    return made
