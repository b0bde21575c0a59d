"""The hour-of-week pattern of a spend, learnt only as far as it repeats. Pure; money as integer pico-USD (1e-12 USD).

Sums per hour of the week (UTC), forgotten by an eighth a week, in two halves: even weeks and odd ones. A pattern is
believed by its split-half reliability, ``2 r / (1 + r)`` with ``r`` the correlation of the halves (Spearman 1910, Brown
1910): noise does not repeat, so a spend without season gets none. The hour of the day is judged by even against odd
days, so it is known after two days; what an hour of the week adds to it, by even against odd weeks, after two weeks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

HOUR_US: Final = 3_600_000_000
WEEK_HOURS: Final = 168
DAY_HOURS: Final = 24

Floats = NDArray[np.float64]

_KEPT: Final = 7
_OF: Final = 8
"""Each week seven eighths of what was known stay: about eight weeks count."""
_WEEKS_BACK: Final = 40
_LEAST_FACTOR: Final = 0.05
"""No hour is believed to be emptier than this, so that a call at night is a surprise but not a miracle."""
_FEWEST_PAIRS: Final = 8

UNSEEN_DAY_SD: Final = 0.3
"""Prior: the hours of a day that was never seen differ from now by a factor with this standard deviation ..."""
UNSEEN_DAY_HOURS: Final = 6.0
"""... which they reach as they lie further away than this."""
UNSEEN_WEEK_SD: Final = 0.2
"""Prior for an hour of the week seen less than twice, whose hour of the day is known, and how far away it bites."""
UNSEEN_WEEK_HOURS: Final = 24.0


@dataclass(frozen=True, slots=True)
class Pattern:
    """Factors (168; about 1 on average) of the hours of the week and the prior standard deviations of unseen ones."""

    factors: Floats
    seen_day: NDArray[np.bool_]
    seen_week: NDArray[np.bool_]

    def doubt(self, hours: NDArray[np.int64], away: Floats) -> Floats:
        """Relative standard deviation of ``hours`` (since the epoch), so many hours ``away``, as they were not seen."""
        cells = hours % WEEK_HOURS
        day = UNSEEN_DAY_SD * -np.expm1(-away / UNSEEN_DAY_HOURS)
        week = UNSEEN_WEEK_SD * -np.expm1(-away / UNSEEN_WEEK_HOURS)
        doubt: Floats = np.where(self.seen_week[cells], 0.0, np.where(self.seen_day[cells], week, day))
        return doubt


@dataclass(slots=True)
class Season:
    """Sums per hour of the week, of whole days (UTC): ``open_day`` (days since the epoch) is still being filled."""

    week: int = 0
    halves: tuple[dict[int, int], dict[int, int]] = field(default_factory=lambda: ({}, {}))
    open_day: int = 0
    open_hours: dict[int, int] = field(default_factory=dict)

    def add(self, hour: int, pico: int) -> None:
        """Count ``pico`` spent in an hour since the epoch; one before the open day is a late fact of its week."""
        day = hour // DAY_HOURS
        if day > self.open_day:
            for open_hour, open_pico in self.open_hours.items():
                self._fold(open_hour, open_pico)
            self.open_day, self.open_hours = day, {}
        if day == self.open_day:
            self.open_hours[hour] = self.open_hours.get(hour, 0) + pico
        else:
            self._fold(hour, pico)

    def _fold(self, hour: int, pico: int) -> None:
        self._age_to(hour // WEEK_HOURS)
        weeks_ago = self.week - hour // WEEK_HOURS
        if pico and weeks_ago <= _WEEKS_BACK:
            half, cell = self.halves[hour // WEEK_HOURS % 2], hour % WEEK_HOURS
            half[cell] = half.get(cell, 0) + pico * _KEPT**weeks_ago // _OF**weeks_ago

    def _age_to(self, week: int) -> None:
        weeks = min(week - self.week, 2 * _WEEKS_BACK)
        if weeks > 0:
            for half in self.halves:
                for cell, pico in list(half.items()):
                    half[cell] = pico * _KEPT**weeks // _OF**weeks
            self.week = week

    def merge(self, other: Season) -> None:
        """Add what another has seen of the same spend's other parts."""
        for hour, pico in other.open_hours.items():
            self.add(hour, pico)
        self._age_to(other.week)
        weeks = min(self.week - other.week, 2 * _WEEKS_BACK)
        for mine, theirs in zip(self.halves, other.halves, strict=True):
            for cell, pico in theirs.items():
                mine[cell] = mine.get(cell, 0) + pico * _KEPT**weeks // _OF**weeks

    def as_json(self) -> dict[str, Any]:
        """Plain values, integers all."""
        halves = [sorted(half.items()) for half in self.halves]
        return {"week": self.week, "halves": halves, "open_day": self.open_day, "open": sorted(self.open_hours.items())}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Season:
        """The inverse of ``as_json``."""
        even, odd = ({int(cell): int(pico) for cell, pico in half} for half in found["halves"])
        opened = {int(hour): int(pico) for hour, pico in found["open"]}
        return cls(int(found["week"]), (even, odd), int(found["open_day"]), opened)

    def pattern(self, first_us: int, day: int) -> Pattern:
        """What is known at the start of a day of a spend watched since ``first_us``."""
        sums = np.zeros((2, WEEK_HOURS))
        for row, half in zip(sums, self.halves, strict=True):
            row[list(half)] = [float(pico) for pico in half.values()]
        for hour, pico in self.open_hours.items() if self.open_day < day else ():
            week, cell = divmod(hour, WEEK_HOURS)
            sums[week % 2, cell] += pico * (_KEPT / _OF) ** (self.week - week)
        weights, times = self._watched(first_us, day * DAY_HOURS)
        by_day = times.sum(axis=0).reshape(7, DAY_HOURS).sum(axis=0)
        factors = _factors(sums, weights)
        return Pattern(factors, np.tile(by_day >= 0.5, 7), times.sum(axis=0) >= 1.5)

    def _watched(self, first_us: int, now_hour: int) -> tuple[Floats, Floats]:
        """Hours watched of each half and cell: as they are weighted in the sums, and plainly."""
        last_week = max(self.week, (now_hour - 1) // WEEK_HOURS)
        hours = np.arange((last_week - _WEEKS_BACK) * WEEK_HOURS, (last_week + 1) * WEEK_HOURS)
        share = np.clip(hours + 1 - first_us / HOUR_US, 0.0, 1.0) * (hours < now_hour)
        weeks = hours // WEEK_HOURS
        kept = (_KEPT / _OF) ** (self.week - weeks)
        weights, times = np.zeros((2, WEEK_HOURS)), np.zeros((2, WEEK_HOURS))
        np.add.at(weights, (weeks % 2, hours % WEEK_HOURS), share * kept)
        np.add.at(times, (weeks % 2, hours % WEEK_HOURS), share)
        return weights, times


def _factors(sums: Floats, weights: Floats) -> Floats:
    """Factors of the hours of the week from both halves' sums and the hours watched."""
    if sums.sum() <= 0.0 or weights.sum() <= 0.0:
        return np.ones(WEEK_HOURS)
    by_day = (7, DAY_HOURS)
    day_sums, day_weights = sums.sum(axis=0).reshape(by_day), weights.sum(axis=0).reshape(by_day)
    profile = _shrunk(
        np.stack((day_sums[0::2].sum(axis=0), day_sums[1::2].sum(axis=0))),
        np.stack((day_weights[0::2].sum(axis=0), day_weights[1::2].sum(axis=0))),
    )
    daily = np.tile(np.maximum(profile, _LEAST_FACTOR), 7)
    weekly = _shrunk(sums / daily, weights)
    factors: Floats = np.maximum(daily * weekly, _LEAST_FACTOR)
    return factors


def _shrunk(sums: Floats, weights: Floats) -> Floats:
    """Rates of the cells relative to their mean, drawn to 1 by how little the two halves (rows) agree."""
    rates = np.divide(sums, weights, out=np.zeros_like(sums), where=weights > 0.0)
    both = (weights > 0.0).all(axis=0)
    total = np.divide(sums.sum(axis=0), weights.sum(axis=0), out=np.zeros(sums.shape[1]), where=weights.sum(axis=0) > 0)
    mean = sums.sum() / weights.sum() if weights.sum() > 0.0 else 0.0
    reliability = _reliability(rates[0, both], rates[1, both])
    if reliability <= 0.0 or mean <= 0.0:
        return np.ones(sums.shape[1])
    watched = weights.sum(axis=0) > 0.0
    shrunk: Floats = np.where(watched, 1.0 + reliability * (total / mean - 1.0), 1.0)
    return shrunk


def _reliability(one: Floats, other: Floats) -> float:
    """Spearman-Brown: how well the mean of two halves repeats; 0 where that cannot be said."""
    if one.size < _FEWEST_PAIRS:
        return 0.0
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((one @ one) * (other @ other)))
    correlation = float(one @ other) / norm if norm > 0.0 else 0.0
    return max(0.0, 2.0 * correlation / (1.0 + correlation)) if correlation > 0.0 else 0.0
