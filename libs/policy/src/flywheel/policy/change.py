"""Whether an arm's reward changed, and since when: read off the summaries, so replay finds the same change.

For every border between an arm's spans, the rewards before and after are compared by the generalised likelihood ratio
of bounded rewards, ``n₁·kl(m₁, m) + n₂·kl(m₂, m)`` with the Bernoulli divergence (Besson, Kaufmann, Maillard and
Seznec, 2022), which never overstates the evidence of any reward in the range. A change is told where it passes
``ln(n / δ)``: with a look after every one of 10,000 Bernoulli rewards (.84 and .53, 300 runs each) the largest ratio
passed 12.8 and 13.4 in 1 % of the runs; ``ln(10,000 / .01)`` is 13.8. As spans widen with age, about eight per
doubling, this is ADWIN's exponential histogram (Bifet and Gavaldà, 2007) over time: some hundred borders, and a change
lies within an eighth of its age of where it is told.

Found again at every look, a change needs no state, and a false one mostly passes away by itself. The price: a change
with few rewards after it (its arm was left at once) can be lost again where spans widen over it; the arm is then tried
until the change is found with more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from flywheel.policy.propensity import Array
from flywheel.policy.summary import NANO, Summary, span_bounds

FALSE_CHANGE = 0.01
"""Probability of telling a change of an arm in some 10,000 rewards without one."""
KEPT_AFTER_CHANGE = 8.0
"""Outcomes that an arm's earlier rewards are worth after another arm changed."""
FEWEST = 8
"""An arm with fewer than twice as many rewards is not asked whether it changed."""


@dataclass(frozen=True, slots=True)
class Change:
    """``since``: first unit of time after it; ``statistic``: the likelihood ratio that passed ``threshold``; ``before``
    and ``after``: the arm's mean reward then and since."""

    since: int
    statistic: float
    threshold: float
    before: float
    after: float


class Weighed(Protocol):
    """What outcomes come to, in sums that can be added and weighed: ``weight`` is how many there are."""

    @property
    def weight(self) -> float: ...

    def __add__(self, other: Self) -> Self: ...

    def times(self, share: float) -> Self: ...


Sums = TypeVar("Sums", bound=Weighed)
Row = TypeVar("Row", bound=tuple[Any, ...])


def keep_after_changes(found: Mapping[str, Change], weighed: Callable[[int], Mapping[str, Sums]]) -> Mapping[str, Sums]:
    """Return what is believed of each arm: everything, or what came after changes.

    Of an arm that changed, what came before its last change is gone. When one arm changes others may have: of what
    came before the last change of any, at most ``KEPT_AFTER_CHANGE`` outcomes' worth is kept of each other arm.

    Args:
        found: the last change of each arm that changed.
        weighed: each arm's sums from a unit of time on, -1 for all of them.
    """
    everything = weighed(-1)
    if not found:
        return everything
    newest = weighed(max(change.since for change in found.values()))
    believed: dict[str, Sums] = {}
    for arm, whole in everything.items():
        nothing = whole.times(0.0)
        own = weighed(found[arm].since).get(arm, nothing) if arm in found else whole
        believed[arm] = _tempered(own, newest.get(arm, nothing))
    return believed


def _tempered(whole: Sums, recent: Sums) -> Sums:
    """Return ``recent`` and of the rest of ``whole`` at most ``KEPT_AFTER_CHANGE`` outcomes' worth."""
    older = whole.weight - recent.weight
    if older <= KEPT_AFTER_CHANGE:
        return whole
    return recent + (whole + recent.times(-1.0)).times(KEPT_AFTER_CHANGE / older)


def changes(
    summary: Summary, reward_range: tuple[float, float], *, probability: float = FALSE_CHANGE
) -> dict[str, Change]:
    """Return the last change of each arm that changed."""
    found = {
        arm: last_change(rows, reward_range, probability=probability) for arm, rows in rows_by_arm(summary).items()
    }
    return {arm: change for arm, change in found.items() if change is not None}


def rows_by_arm(summary: Summary) -> dict[str, list[tuple[int, int, int]]]:
    """Return of each arm the first unit, count and sum in nano units of its spans, sorted by time."""
    by_arm: dict[str, list[tuple[int, int, int]]] = {}
    for span, arm, count, total, _ in summary.rows():
        by_arm.setdefault(arm, []).append((span_bounds(span)[0], count, total))
    return by_arm


def last_change(
    rows: Sequence[tuple[int, int, int]], reward_range: tuple[float, float], *, probability: float = FALSE_CHANGE
) -> Change | None:
    """Return the last change in an arm's spans: first unit, count and sum in nano units, sorted by time."""
    return last_of(rows, lambda later: _strongest(later, reward_range, probability))


def last_of(rows: Sequence[Row], strongest: Callable[[Sequence[Row]], Change | None]) -> Change | None:
    """Return the last change in rows that begin with a unit, sorted by it: the strongest, then that of what follows."""
    change: Change | None = None
    while True:
        start = 0 if change is None else next(i for i, row in enumerate(rows) if row[0] >= change.since)
        later = strongest(rows[start:])
        if later is None:
            return change
        change = later


def _strongest(
    rows: Sequence[tuple[int, int, int]], reward_range: tuple[float, float], probability: float
) -> Change | None:
    """Return the change at the border with the largest likelihood ratio, where that passes the threshold."""
    low, high = reward_range
    counts, ratio, first, second = _borders(rows, reward_range)
    if len(rows) < 2 or counts[-1] < 2 * FEWEST:
        return None
    border = int(np.argmax(ratio))
    threshold = math.log(float(counts[-1]) / probability)
    if ratio[border] <= threshold:
        return None
    width = high - low
    return Change(
        since=rows[border + 1][0],
        statistic=float(ratio[border]),
        threshold=threshold,
        before=low + width * float(first[border]),
        after=low + width * float(second[border]),
    )


def likeliest_border(rows: Sequence[tuple[int, int, int]], reward_range: tuple[float, float]) -> int | None:
    """Return the first unit after the border with the largest likelihood ratio, whether or not it tells a change; None
    without a border. ``rows`` are as those of `last_change`."""
    return rows[int(np.argmax(_borders(rows, reward_range)[1])) + 1][0] if len(rows) > 1 else None


def _borders(
    rows: Sequence[tuple[int, int, int]], reward_range: tuple[float, float]
) -> tuple[Array, Array, Array, Array]:
    """Return cumulative counts (n,) and of each border (n - 1,) the likelihood ratio and the means before and after, as
    shares of the range."""
    low, high = reward_range
    counts = np.cumsum([float(row[1]) for row in rows])
    sums = (np.cumsum([row[2] / NANO for row in rows]) - low * counts) / (high - low)
    n = float(counts[-1]) if len(rows) else 0.0
    mean = float(np.clip(sums[-1] / n, 0.0, 1.0)) if n else 0.0
    before = np.maximum(counts[:-1], 1.0)
    after = np.maximum(n - counts[:-1], 1.0)
    first = np.clip(sums[:-1] / before, 0.0, 1.0)
    second = np.clip((sums[-1:] - sums[:-1]) / after, 0.0, 1.0)
    ratio = before * _divergence(first, mean) + after * _divergence(second, mean)
    ratio[(counts[:-1] < 1) | (n - counts[:-1] < 1)] = 0.0
    return counts, ratio, first, second


def _divergence(p: Array, q: float) -> Array:
    """Return the Bernoulli divergence kl(p, q) for p in [0, 1]; 0 where q is 0 or 1, as then p is."""
    if not 0.0 < q < 1.0:
        return np.zeros_like(p)
    tiny = np.finfo(float).tiny
    return np.asarray(p * np.log(np.maximum(p, tiny) / q) + (1.0 - p) * np.log(np.maximum(1.0 - p, tiny) / (1.0 - q)))
