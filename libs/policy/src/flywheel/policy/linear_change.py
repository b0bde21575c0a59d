"""Whether an arm changed whose reward depends on the request: what its features do not explain, before and after.

A linear kind that learns sends an arm the requests that suit it, so the arm's mean reward rises though nothing changed.
What must not move is the reward less that expected at its features. For every border between an arm's spans, one
regression over all its rewards is held against the same with another constant from the border on (Chow, 1960;
Quandt, 1960): with ``r`` the residuals' sum after the border and ``w`` what the features leave of the number of rewards
there, ``w = n₂ - s'A⁻¹s``, the likelihood ratio is ``r² / (2 w σ²)``. A quarter of the squared range stands for ``σ²``,
the most that a bounded reward's moments can show (Hoeffding, 1963), so without features it never exceeds the ratio of
``flywheel.policy.change``, and shares its threshold.

All is read off the exact sums of ``flywheel.policy.moments``. Their spans are wide, so a change is told within a third
of its age; one that leaves an arm's reward alone where the arm is chosen is not seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from flywheel.policy.change import FALSE_CHANGE, FEWEST, Change, last_of
from flywheel.policy.linear import Moments
from flywheel.policy.moments import MomentSummary, moments_of
from flywheel.policy.summary import span_bounds

_NOISE = 0.25
_RIDGE = 0.01
"""Outcomes that the coefficients' prior is worth: enough for a feature that never varied."""
Row = tuple[int, Moments]
"""First unit of a span, and an arm's moments in it."""


def linear_changes(
    summary: MomentSummary, reward_range: tuple[float, float], *, probability: float = FALSE_CHANGE
) -> dict[str, Change]:
    """Return the last change of each arm that changed; ``before`` and ``after`` are expected rewards at the mean
    features since."""
    by_arm: dict[str, list[Row]] = {}
    for span in sorted(summary.spans):
        for arm, sums in summary.spans[span].items():
            by_arm.setdefault(arm, []).append((span_bounds(span)[0], moments_of(sums)))
    found = {
        arm: last_of(rows, lambda later: _strongest(later, reward_range, probability))
        for arm, rows in sorted(by_arm.items())
    }
    return {arm: change for arm, change in found.items() if change is not None}


def _strongest(rows: Sequence[Row], reward_range: tuple[float, float], probability: float) -> Change | None:
    """Return the change at the border with the largest likelihood ratio, where that passes the threshold."""
    counts = np.cumsum([moments.weight for _, moments in rows])
    n = float(counts[-1])
    if len(rows) < 2 or n < 2 * FEWEST:
        return None
    features = np.sum([moments.features for _, moments in rows], axis=0)
    products = np.cumsum([moments.products for _, moments in rows], axis=0)
    # The constant is the first feature, so the first row of X'X is the sum of features, and X'y begins with that of y.
    totals = np.cumsum([moments.features[0] for _, moments in rows], axis=0)
    later, earned = totals[-1] - totals[:-1], products[-1, 0] - products[:-1, 0]
    solved = np.linalg.solve(features + _RIDGE * np.eye(len(features)), np.vstack([products[-1], later]).T).T
    coefficients, leverage = solved[0], np.vecdot(later, solved[1:])
    after = n - counts[:-1]
    left = np.maximum(after - leverage, 1e-9)
    residual = earned - later @ coefficients
    ratio = residual**2 / (2 * _NOISE * left)
    ratio[(counts[:-1] < 1) | (after < 1)] = 0.0
    border = int(np.argmax(ratio))
    threshold = math.log(n / probability)
    if ratio[border] <= threshold:
        return None
    low, high = reward_range
    mean = float(earned[border] / after[border])
    step = float(residual[border] / left[border])
    return Change(
        since=rows[border + 1][0],
        statistic=float(ratio[border]),
        threshold=threshold,
        before=low + (high - low) * (mean - step),
        after=low + (high - low) * mean,
    )
