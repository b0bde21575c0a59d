"""Exact, mergeable sums of rewards with the features they came at: what `flywheel.policy.summary` is without features.

An outcome is one vector ``z`` of whole numbers: its features in units of 2⁻¹² (the first is the constant 1, so counts
are in it) and, last, the reward as a share of the charter's range in units of 2⁻¹⁴. A cell keeps ``Σ z z'``: ``X'X``,
``X'y`` and ``y'y`` in one matrix of 64-bit integers. Adding them is associative, commutative and invertible, so the
sums do not depend on order, batches and shards, and a late part takes an old contribution back to the last bit. No
entry of ``z`` exceeds 2¹⁴, so a cell of at most 2³⁴ outcomes (a thousand a second for 200 days, in one span) cannot
overflow; more are refused.

Spans of event time are those of ``Summary``, but wider, as a cell is a matrix: one or two to a doubling of age, of 67
seconds and more, so a year is in about 40. Centring and scaling are linear maps of the same sums, so "scaled online"
needs no statistic of its own and replays like everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from flywheel.policy.features import CLIP, ONE
from flywheel.policy.linear import LinearBelief, LinearPrior, Moments, believe
from flywheel.policy.propensity import Array
from flywheel.policy.summary import SpanSums, span_weights

REWARD_ONE = 1 << 14
"""The largest reward of the range in units of a reward; the smallest is 0."""
MOST_OUTCOMES = 1 << 34
Cell = NDArray[np.int64]


def outcome_vector(features: Sequence[int], reward: float, reward_range: tuple[float, float]) -> Cell:
    """Return ``z`` of an outcome (d + 1,) from its encoded features (d) and its reward, clipped to the range.

    Raises ``ValueError`` when the first feature is not the constant 1 or one is beyond the clip.
    """
    low, high = reward_range
    if features[0] != ONE or max(features) > CLIP or min(features) < -CLIP:
        raise ValueError("features: must begin with the constant and lie within the clip")
    share = min(1.0, max(0.0, (reward - low) / (high - low)))
    return np.array((*features, round(share * REWARD_ONE)), dtype=np.int64)


@dataclass(slots=True)
class MomentSummary(SpanSums[Cell]):
    """Sums of one feature: ``Σ z z'``."""

    kept: ClassVar[int] = 1
    lowest: ClassVar[int] = 10

    def add(self, unit: int, arm: str, outcome: Cell) -> None:
        """Add one outcome decided in ``unit``. Raises ``OverflowError`` beyond 2³⁴ of one arm in one span."""
        self._move(unit, arm, np.multiply.outer(outcome, outcome))

    def subtract(self, unit: int, arm: str, outcome: Cell) -> None:
        """Take back one outcome added before, exactly."""
        self._move(unit, arm, -np.multiply.outer(outcome, outcome))

    def _move(self, unit: int, arm: str, sums: Cell) -> None:
        if unit > self.newest:
            self.advance(unit)
        self._put(self.span_of(unit), arm, sums)

    def _put(self, span: int, arm: str, sums: Cell) -> None:
        arms = self.spans.setdefault(span, {})
        old = arms.get(arm)
        if old is None:
            arms[arm] = sums
            return
        if abs(int(old[0, 0])) + abs(int(sums[0, 0])) > MOST_OUTCOMES * ONE * ONE:
            raise OverflowError(f"more than {MOST_OUTCOMES} outcomes of {arm} in one span")
        new = arms[arm] = old + sums
        if not new[0, 0] and not new.any():
            del arms[arm]
            if not arms:
                del self.spans[span]

    def rows(self) -> Iterator[tuple[int, str, tuple[int, ...]]]:
        """Yield span, arm and the sums (upper triangle, row by row), sorted by span and arm."""
        for span in sorted(self.spans):
            for arm, sums in sorted(self.spans[span].items()):
                yield span, arm, tuple(sums[np.triu_indices(len(sums))].tolist())

    @classmethod
    def from_rows(cls, newest: int, rows: Iterable[tuple[int, str, tuple[int, ...]]]) -> MomentSummary:
        """Return the summary that ``rows`` describes."""
        summary = cls(newest=newest)
        for span, arm, packed in rows:
            size = (int((8 * len(packed) + 1) ** 0.5) - 1) // 2
            sums = np.zeros((size, size), dtype=np.int64)
            sums[np.triu_indices(size)] = packed
            summary._put(span, arm, sums + np.triu(sums, 1).T)
        return summary


def weigh_moments(
    summary: MomentSummary,
    *,
    half_life_outcomes: float | None = None,
    half_life_s: float | None = None,
    since: int = -1,
) -> Mapping[str, Moments]:
    """Return each arm's moments after forgetting, as ``flywheel.policy.summary.weigh`` does: features in their own
    units, rewards as shares of the range."""
    counts = {
        span: sum(int(sums[0, 0]) for sums in arms.values()) // (ONE * ONE) for span, arms in summary.spans.items()
    }
    found: dict[str, Moments] = {}
    for span, weight in span_weights(
        counts, summary.newest, half_life_outcomes=half_life_outcomes, half_life_s=half_life_s, since=since
    ):
        for arm, sums in sorted(summary.spans[span].items()):
            one = moments_of(sums, weight)
            found[arm] = found[arm] + one if arm in found else one
    return found


def moments_of(sums: Cell, weight: float = 1.0) -> Moments:
    """Return the moments of a cell, features in their own units and rewards as shares of the range."""
    scaled: Array = sums.astype(np.float64) * (weight / (ONE * ONE))
    rise = ONE / REWARD_ONE
    return Moments(float(scaled[0, 0]), scaled[:-1, :-1], scaled[:-1, -1] * rise, float(scaled[-1, -1]) * rise * rise)


def scaling(pooled: Moments) -> Array:
    """Return the map ``T`` (d, d) that centres and scales features by the mean and deviation they had in all arms;
    the constant stays, and so does a feature that never varied."""
    size = len(pooled.products)
    weight = max(pooled.weight, 1e-12)
    mean = pooled.features[0] / weight
    deviation = np.sqrt(np.maximum(np.diag(pooled.features) / weight - mean * mean, 0.0))
    scale = np.where(deviation > 1.0 / ONE, deviation, 1.0)
    mapped = np.diag(1.0 / scale)
    mapped[1:, 0] = -mean[1:] / scale[1:]
    mapped[0] = np.eye(size)[0]
    return mapped


def believe_scaled(found: Moments, prior: LinearPrior, mapped: Array) -> LinearBelief:
    """Return an arm's posterior under a prior on scaled features, ready for raw ones: ``x`` needs no scaling later."""
    scaled = Moments(found.weight, mapped @ found.features @ mapped.T, mapped @ found.products, found.squares)
    belief = believe(scaled, prior)
    return LinearBelief(mapped.T @ belief.coefficients, belief.root @ mapped, belief.noise_sd)
