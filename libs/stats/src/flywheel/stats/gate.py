"""Whether a log can carry a claim about another policy, and if not, why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from flywheel.stats.logged import Weighed

LEAST_ROWS: Final = 100
LEAST_EFFECTIVE: Final = 100.0
LEAST_EFFECTIVE_SHARE: Final = 0.01
MOST_STANDARD_ERRORS: Final = 3.0
MOST_UNSUPPORTED: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the weights say. ``effective`` is the number of rows that equally weighted would know as much (Kish, 1965);
    ``unsupported`` None: not known, as only the chosen arms' propensities were logged."""

    rows: int
    mean_weight: float
    mean_weight_error: float
    effective: float
    largest_weight: float
    largest_share: float
    unsupported: float | None


def diagnose(weighed: Weighed) -> Diagnosis:
    """Return what the weights of a log say."""
    w = weighed.weight
    rows, total = len(w), float(w.sum())
    if rows == 0 or total <= 0:
        return Diagnosis(rows, 0.0, 0.0, 0.0, 0.0, 0.0, weighed.unsupported if rows else None)
    error = float(w.std(ddof=1)) / rows**0.5 if rows > 1 else float("inf")
    effective = total**2 / float(np.square(w).sum())
    return Diagnosis(rows, total / rows, error, effective, float(w.max()), float(w.max()) / total, weighed.unsupported)


def refusals(found: Diagnosis) -> tuple[str, ...]:
    """Return every reason not to believe an estimate; none: the log carries it.

    Weights have mean 1 whatever the policies are: where theirs is not within 3 standard errors of it, propensities are
    wrong, or weights so seldom and so large are due that this log has none, or too many, of them.
    """
    reasons = []
    if found.rows < LEAST_ROWS:
        reasons.append(f"too few rows: {found.rows}, at least {LEAST_ROWS} are needed")
    if found.unsupported is not None and found.unsupported > MOST_UNSUPPORTED:
        reasons.append(
            f"no support: {found.unsupported:.2%} of the target's choices are arms the log never tries there"
        )
    least = max(LEAST_EFFECTIVE, LEAST_EFFECTIVE_SHARE * found.rows)
    if found.rows >= LEAST_ROWS and found.effective < least:
        reasons.append(
            f"too few effective rows: {found.effective:.1f} of {found.rows}, at least {least:.0f} are needed"
            f" (one row has {found.largest_share:.0%} of the weight)"
        )
    away = abs(found.mean_weight - 1.0)
    if found.rows >= LEAST_ROWS and away > max(MOST_STANDARD_ERRORS * found.mean_weight_error, 1e-9):
        reasons.append(
            f"the mean weight is {found.mean_weight:.3f}, not 1 within 3 standard errors of"
            f" {found.mean_weight_error:.3f}: propensities are wrong or too small"
        )
    return tuple(reasons)
