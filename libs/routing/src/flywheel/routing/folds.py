"""Cross-fitting: who is judged by what was learned without them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.intp]


def cross_folds(count: int, folds: int, seed: tuple[int, int]) -> Iterator[tuple[Places, Places]]:
    """Yield of each fold the places that are held out and those to learn from, both in one random order."""
    order = np.random.default_rng(seed).permutation(count)
    for fold in range(folds):
        yield order[fold::folds], np.delete(order, np.s_[fold::folds])
