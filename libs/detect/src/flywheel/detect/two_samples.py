"""Two samples of the same thing: are their distributions the same, at critical values that know the sample sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

SMOOTHING: Final = 0.5
LEAST_EXPECTED: Final = 5.0


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


def _counts(name: str, counts: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    made = np.asarray(counts, dtype=np.float64)
    if made.ndim != 1 or not np.isfinite(made).all() or (made < 0).any() or made.sum() <= 0:
        raise ValueError(f"{name}: counts of 0 or more, not all 0")
    return made
