"""Exact, mergeable sums of what requests used (money, time, quality, scores), beside those of rewards.

A cell is a list of whole numbers: the requests, then for each measure how many have it, its sum in units of 1e-9 and
its sum of squares in units of 1e-18. Adding them is associative, commutative and invertible, as in
``flywheel.policy.summary``; spans are as wide as those of ``flywheel.policy.moments``, of 67 seconds and more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from flywheel.policy.summary import NANO, Evidence, SpanSums, span_weights

Cell = list[int]


@dataclass(slots=True)
class UseSummary(SpanSums[Cell]):
    """Sums of one feature: requests, and count, sum and sum of squares of each measure."""

    kept: ClassVar[int] = 1
    lowest: ClassVar[int] = 10

    def add(self, unit: int, arm: str, uses: Sequence[int | None]) -> None:
        """Add one request decided in ``unit``: what it used of each measure, null where that is unknown."""
        self._move(unit, arm, 1, uses)

    def subtract(self, unit: int, arm: str, uses: Sequence[int | None]) -> None:
        """Take back one request added before, exactly."""
        self._move(unit, arm, -1, uses)

    def _move(self, unit: int, arm: str, sign: int, uses: Sequence[int | None]) -> None:
        if unit > self.newest:
            self.advance(unit)
        span = self.span_of(unit)
        arms = self.spans.get(span)
        if arms is None:
            arms = self.spans[span] = {}
        cell = arms.get(arm)
        if cell is None:
            cell = arms[arm] = [0] * (1 + 3 * len(uses))
        # In place, and without a call more than it takes: this happens to every outcome.
        cell[0] += sign
        place = 1
        for used in uses:
            if used is not None:
                signed = sign * used
                cell[place] += sign
                cell[place + 1] += signed
                cell[place + 2] += signed * used
            place += 3
        if not cell[0]:
            self._leave_out(span, arm, cell)

    def _put(self, span: int, arm: str, sums: Cell) -> None:
        arms = self.spans.setdefault(span, {})
        old = arms.get(arm)
        new = arms[arm] = list(sums) if old is None else [a + b for a, b in zip(old, sums, strict=True)]
        if not new[0]:
            self._leave_out(span, arm, new)

    def _leave_out(self, span: int, arm: str, cell: Cell) -> None:
        if not any(cell):
            del self.spans[span][arm]
            if not self.spans[span]:
                del self.spans[span]

    def rows(self) -> Iterator[tuple[int, str, Cell]]:
        """Yield span, arm and sums, sorted by span and arm."""
        for span in sorted(self.spans):
            for arm, sums in sorted(self.spans[span].items()):
                yield span, arm, sums

    @classmethod
    def from_rows(cls, newest: int, rows: Iterable[tuple[int, str, Cell]]) -> UseSummary:
        """Return the summary that ``rows`` describes."""
        summary = cls(newest=newest)
        for span, arm, sums in rows:
            summary._put(span, arm, sums)
        return summary


def evidence_at(sums: Cell, place: int, weight: float = 1.0) -> Evidence:
    """Return the evidence in a cell of the measure at ``place``, each request weighing ``weight``."""
    count, total, squares = sums[1 + 3 * place : 4 + 3 * place]
    return Evidence(weight * count, weight * (total / NANO), weight * (squares / (NANO * NANO)))


def weigh_uses(
    summary: UseSummary,
    measures: int,
    *,
    half_life_outcomes: float | None = None,
    half_life_s: float | None = None,
) -> Mapping[str, list[Evidence]]:
    """Return each arm's evidence of each measure after forgetting, as ``flywheel.policy.summary.weigh`` does."""
    counts = {span: sum(sums[0] for sums in arms.values()) for span, arms in summary.spans.items()}
    found: dict[str, list[Evidence]] = {}
    for span, weight in span_weights(
        counts, summary.newest, half_life_outcomes=half_life_outcomes, half_life_s=half_life_s
    ):
        _add(found, summary.spans[span], measures, dict.fromkeys(summary.spans[span], weight))
    return found


def newest_uses(summary: UseSummary, measures: int, *, half_life: float) -> Mapping[str, list[Evidence]]:
    """Return each arm's evidence of each measure, a request weighing half after ``half_life`` newer ones of its own
    arm: an arm that is seldom chosen is not forgotten because others are."""
    found: dict[str, list[Evidence]] = {}
    for arm in sorted({arm for arms in summary.spans.values() for arm in arms}):
        own = {span: arms[arm] for span, arms in summary.spans.items() if arm in arms}
        counts = {span: sums[0] for span, sums in own.items()}
        for span, weight in span_weights(counts, summary.newest, half_life_outcomes=half_life, half_life_s=None):
            _add(found, {arm: own[span]}, measures, {arm: weight})
    return found


def _add(
    found: dict[str, list[Evidence]], arms: Mapping[str, Cell], measures: int, weights: Mapping[str, float]
) -> None:
    for arm, sums in sorted(arms.items()):
        before = found.setdefault(arm, [Evidence()] * measures)
        found[arm] = [before[place] + evidence_at(sums, place, weights[arm]) for place in range(measures)]
