"""Exact, mergeable sums of rewards over spans of event time, and how they are forgotten.

A reward becomes an integer number of nano units, and a summary keeps, per span and arm, the count, the sum and the
sum of squares as Python ints. Integer addition is associative, commutative and invertible, so a summary is the same
whatever the order, the batches and the shards its outcomes came in, and a late part can take an old contribution
back exactly.

Spans form an exponential histogram (after Datar, Gionis, Indyk and Motwani, 2002) on aligned powers of two. With
``newest`` the newest unit of time (about 66 ms), unit ``u`` lies in a span of level ``l``, the largest with
``(u >> l) < (newest >> l) - KEPT``. Levels only rise as ``newest`` does and spans nest, so compaction commutes with
adding in any order, the width of a span is at most a small share of its age, and the number of spans grows with the
logarithm of the time covered: about ``KEPT`` per doubling.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Self, TypeVar

NANO = 1_000_000_000
UNIT_SHIFT = 16
"""Microseconds to units of time: a unit is 65.536 ms."""
KEPT = 8
_LEVEL_BITS = 6
_LEVEL_MASK = (1 << _LEVEL_BITS) - 1

Cell = TypeVar("Cell")
Sums = tuple[int, int, int]
"""Count, sum in nano units, sum of squares in atto units."""


def nano(reward: float) -> int:
    """Return the reward in nano units, rounded half to even."""
    return round(reward * NANO)


def unit_of(occurred_at_us: int) -> int:
    """Return the unit of time an event falls in (microseconds since the epoch, UTC)."""
    return occurred_at_us >> UNIT_SHIFT


def span_of(unit: int, newest: int, *, kept: int = KEPT, lowest: int = 0) -> int:
    """Return the id of the span that holds ``unit`` when ``newest`` is the newest unit; ids sort by time.

    The id is ``start << 6 | level``: the span covers units ``start`` to ``start + 2**level``. About ``kept`` spans
    cover a doubling of age, none of them narrower than ``2**lowest`` units.
    """
    age = newest - unit
    if age <= kept:
        return unit >> lowest << lowest << _LEVEL_BITS | lowest
    # The level is about log2(age / kept); the exact condition decides between its neighbours.
    level = max(lowest, age.bit_length() - kept.bit_length() - 1)
    while (unit >> (level + 1)) < (newest >> (level + 1)) - kept:
        level += 1
    while level > lowest and (unit >> level) >= (newest >> level) - kept:
        level -= 1
    return (unit >> level << level) << _LEVEL_BITS | level


def unit_of_span(span: int) -> int:
    """Return the first unit of a span."""
    return span >> _LEVEL_BITS


def span_bounds(span: int) -> tuple[int, int]:
    """Return first and one past the last unit of a span."""
    start, level = span >> _LEVEL_BITS, span & _LEVEL_MASK
    return start, start + (1 << level)


@dataclass(slots=True)
class SpanSums(ABC, Generic[Cell]):
    """Cells of sums by span and arm; a kind of sums says how a cell is put to another. ``newest`` is the newest unit
    ever seen, -1 when empty."""

    kept: ClassVar[int] = KEPT
    lowest: ClassVar[int] = 0
    newest: int = -1
    spans: dict[int, dict[str, Cell]] = field(default_factory=dict)

    def span_of(self, unit: int) -> int:
        """Return the span that holds ``unit`` now."""
        return span_of(unit, self.newest, kept=self.kept, lowest=self.lowest)

    @abstractmethod
    def _put(self, span: int, arm: str, sums: Cell) -> None:
        """Add the sums to those of an arm in a span; what comes to nothing is not kept."""

    def advance(self, newest: int) -> None:
        """Let ``newest`` be the newest unit, joining spans that are now old enough."""
        if newest <= self.newest:
            return
        self.newest = newest
        moved = [(span, place) for span in self.spans if (place := self.span_of(unit_of_span(span))) != span]
        for span, place in moved:
            for arm, sums in self.spans.pop(span).items():
                self._put(place, arm, sums)

    def merge(self, other: Self) -> None:
        """Add every outcome of ``other``."""
        self.advance(other.newest)
        for span, arms in other.spans.items():
            place = self.span_of(unit_of_span(span))
            for arm, sums in arms.items():
                self._put(place, arm, sums)


@dataclass(slots=True)
class Summary(SpanSums[Sums]):
    """Sums of one feature: count, reward and its square."""

    def add(self, unit: int, arm: str, reward_nano: int) -> None:
        """Add one outcome decided in ``unit``."""
        self._move(unit, arm, 1, reward_nano)

    def subtract(self, unit: int, arm: str, reward_nano: int) -> None:
        """Take back one outcome added before, exactly."""
        self._move(unit, arm, -1, reward_nano)

    def _move(self, unit: int, arm: str, sign: int, reward_nano: int) -> None:
        if unit > self.newest:
            self.advance(unit)
        signed = sign * reward_nano
        self._put(self.span_of(unit), arm, (sign, signed, signed * reward_nano))

    def _put(self, span: int, arm: str, sums: Sums) -> None:
        arms = self.spans.get(span)
        if arms is None:
            arms = self.spans[span] = {}
        old = arms.get(arm)
        new = sums if old is None else (old[0] + sums[0], old[1] + sums[1], old[2] + sums[2])
        if new[0] or new[1] or new[2]:
            arms[arm] = new
            return
        arms.pop(arm, None)
        if not arms:
            del self.spans[span]

    def rows(self) -> Iterator[tuple[int, str, int, int, int]]:
        """Yield span, arm, count, sum and sum of squares, sorted by span and arm."""
        for span in sorted(self.spans):
            arms = self.spans[span]
            for arm in sorted(arms):
                yield (span, arm, *arms[arm])

    @classmethod
    def from_rows(cls, newest: int, rows: Iterable[tuple[int, str, int, int, int]]) -> Summary:
        """Return the summary that ``rows`` describes."""
        summary = cls(newest=newest)
        for span, arm, n, total, squares in rows:
            summary._put(span, arm, (n, total, squares))
        return summary

    @property
    def outcomes(self) -> int:
        """Rewarded outcomes in it, all arms, without forgetting."""
        return sum(self.outcomes_by_arm().values())

    def outcomes_by_arm(self) -> dict[str, int]:
        """Return rewarded outcomes of each arm, without forgetting."""
        found: dict[str, int] = {}
        for arms in self.spans.values():
            for arm, sums in arms.items():
                found[arm] = found.get(arm, 0) + sums[0]
        return found


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is left of an arm's outcomes after forgetting, in reward units: weight, weighted sum and sum of
    squares."""

    weight: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(self.weight + other.weight, self.total + other.total, self.squares + other.squares)

    def times(self, share: float) -> Evidence:
        """Return the evidence of the same outcomes, each weighing ``share`` of what it did."""
        return Evidence(share * self.weight, share * self.total, share * self.squares)


def weigh(
    summary: Summary,
    *,
    half_life_outcomes: float | None = None,
    half_life_s: float | None = None,
    since: int = -1,
) -> Mapping[str, Evidence]:
    """Return each arm's evidence after forgetting, from the spans that start at unit ``since`` or later.

    With a half-life in outcomes, an outcome weighs ``2 ** (-age / half_life)``, its age being the number of newer
    outcomes of the feature, all arms; inside a span the mean weight of its outcomes stands for each, as if the arms
    alternated. With a half-life in seconds, age is time from the middle of the span to the newest unit. Without
    either, nothing is forgotten.
    """
    found: dict[str, Evidence] = {}
    counts = {span: sum(sums[0] for sums in arms.values()) for span, arms in summary.spans.items()}
    for span, weight in span_weights(
        counts, summary.newest, half_life_outcomes=half_life_outcomes, half_life_s=half_life_s, since=since
    ):
        for arm, (count, total, squares) in sorted(summary.spans[span].items()):
            one = Evidence(weight * count, weight * (total / NANO), weight * (squares / (NANO * NANO)))
            found[arm] = found.get(arm, Evidence()) + one
    return found


def span_weights(
    counts: Mapping[int, int],
    newest: int,
    *,
    half_life_outcomes: float | None,
    half_life_s: float | None,
    since: int = -1,
) -> Iterator[tuple[int, float]]:
    """Yield the spans of ``counts`` (outcomes by span) that start at ``since`` or later, newest first, with the weight
    of each of their outcomes."""
    newer = 0
    for span in sorted(counts, reverse=True):
        if unit_of_span(span) < since:
            break
        if half_life_outcomes is not None:
            weight = _weight_by_outcomes(newer, counts[span], half_life_outcomes)
        elif half_life_s is not None:
            weight = _weight_by_time(span, newest, half_life_s)
        else:
            weight = 1.0
        newer += counts[span]
        yield span, weight


def _weight_by_outcomes(newer: int, n: int, half_life: float) -> float:
    """Return the mean of ``2 ** (-(newer + k) / half_life)`` over ``k = 0 … n - 1``."""
    rate = math.log(2.0) / half_life
    n = max(n, 1)
    return math.exp(-newer * rate) * math.expm1(-n * rate) / (n * math.expm1(-rate))


def _weight_by_time(span: int, newest: int, half_life_s: float) -> float:
    start, stop = span_bounds(span)
    age_units = max(0.0, newest + 0.5 - (start + stop) / 2)
    return float(2.0 ** (-age_units * (1 << UNIT_SHIFT) / 1e6 / half_life_s))
