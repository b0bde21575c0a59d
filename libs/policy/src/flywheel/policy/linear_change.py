"""Whether an arm changed whose reward depends on the request: what its features do not explain, before and after.

A linear kind that learns sends an arm the requests that suit it, so the arm's mean reward rises though nothing changed.
What must not move is the reward less that expected at its features. For every border between an arm's spans, one
regression over all its rewards is held against the same with another constant from the border on (Chow, 1960;
Quandt, 1960): with ``r`` the residuals' sum after the border and ``w`` what the features leave of the number of rewards
there, ``w = n₂ - s'A⁻¹s``, the likelihood ratio is ``r² / (2 w σ²)``. A quarter of the squared range stands for ``σ²``,
the most that a bounded reward's moments can show (Hoeffding, 1963), so without features it never exceeds the ratio of
``flywheel.policy.change``, and shares its threshold.

All is read off the exact sums of ``flywheel.policy.moments``. Their spans are wide and a change falls into one of them:
where in the spans beside the border it was, the narrower spans of rewards without features tell. A change that leaves
an arm's mean reward alone at the requests it is sent is not seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flywheel.policy.change import FALSE_CHANGE, FEWEST, Change, last_of, likeliest_border, rows_by_arm
from flywheel.policy.linear import Moments
from flywheel.policy.moments import MomentSummary, moments_of
from flywheel.policy.summary import Summary, span_bounds

_NOISE = 0.25
_RIDGE = 0.01
"""Outcomes that the coefficients' prior is worth: enough for a feature that never varied."""
Row = tuple[int, int, Moments]
"""First unit of a span and one past its last, and an arm's moments in it."""


def linear_changes(
    moments: MomentSummary,
    summary: Summary,
    reward_range: tuple[float, float],
    *,
    probability: float = FALSE_CHANGE,
) -> dict[str, Change]:
    """Return the last change of each arm that changed; ``before`` and ``after`` are expected rewards at the mean
    features since. ``summary``: the same outcomes without features."""
    by_arm: dict[str, list[Row]] = {}
    for span in sorted(moments.spans):
        for arm, sums in moments.spans[span].items():
            by_arm.setdefault(arm, []).append((*span_bounds(span), moments_of(sums)))
    last = {
        arm: last_of(rows, lambda later: _strongest(later, reward_range, probability)) for arm, rows in by_arm.items()
    }
    found = {arm: change for arm, change in last.items() if change is not None}
    narrow = rows_by_arm(summary) if found else {}
    return {arm: _placed(found[arm], by_arm[arm], narrow.get(arm, []), reward_range) for arm in sorted(found)}


def _placed(
    change: Change, rows: Sequence[Row], narrow: Sequence[tuple[int, int, int]], reward_range: tuple[float, float]
) -> Change:
    """Return the change where it was in the spans beside its border."""
    border = next(place for place, row in enumerate(rows) if row[0] == change.since)
    first, last = rows[border - 1][0], rows[border][1]
    since = likeliest_border([row for row in narrow if first <= row[0] < last], reward_range)
    return change if since is None else replace(change, since=since)


def _strongest(rows: Sequence[Row], reward_range: tuple[float, float], probability: float) -> Change | None:
    """Return the change at the border with the largest likelihood ratio, where that passes the threshold."""
    counts = np.cumsum([moments.weight for *_, moments in rows])
    n = float(counts[-1])
    if len(rows) < 2 or n < 2 * FEWEST:
        return None
    features = np.sum([moments.features for *_, moments in rows], axis=0)
    products = np.cumsum([moments.products for *_, moments in rows], axis=0)
    # The constant is the first feature, so the first row of X'X is the sum of features, and X'y begins with that of y.
    totals = np.cumsum([moments.features[0] for *_, moments in rows], axis=0)
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
