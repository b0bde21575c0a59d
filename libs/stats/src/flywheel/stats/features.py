"""Contexts of requests as numbers that a reward model can look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Value = str | int | float | bool

MOST_VALUES: Final = 12
"""Values of a category that get a column of their own; the rest share none."""
MOST_COLUMNS: Final = 64
_LEAST_NUMBERS: Final = 8


def context_features(contexts: Sequence[Mapping[str, Value]]) -> Array:
    """Return one row per context (n, d), d at most 64, fields in alphabetical order.

    A field whose every value is a number, with at least 8 different ones, is one column, standardised, 0 where absent;
    any other is a column for each of its 12 most frequent values (ties in alphabetical order).
    """
    columns: list[Array] = []
    for name in sorted({field for context in contexts for field in context}):
        columns += _columns([context.get(name) for context in contexts])
    return np.column_stack(columns[:MOST_COLUMNS]) if columns else np.zeros((len(contexts), 0))


def _columns(values: Sequence[Value | None]) -> list[Array]:
    there = [value for value in values if value is not None]
    numbers = [float(v) for v in there if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(there) and len(set(numbers)) >= _LEAST_NUMBERS:
        mean, sd = float(np.mean(numbers)), float(np.std(numbers))
        return [np.array([0.0 if v is None else (float(v) - mean) / sd for v in values])]
    counts = Counter(str(value) for value in there)
    kept = sorted(counts, key=lambda text: (-counts[text], text))[:MOST_VALUES]
    return [np.array([v is not None and str(v) == text for v in values], dtype=np.float64) for text in kept]
