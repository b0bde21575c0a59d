"""A spend of the past, as a guard would have seen it: what it would have forecast, when it would have warned. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from flywheel.budget.dynamics import SLOTS
from flywheel.budget.forecast import Forecast, Forecaster
from flywheel.budget.warnings import WARN_AT, BudgetAlert, Reading, Said, alerts

READINGS: Final = 2 * SLOTS
"""Instants of a window at which it is forecast; between them every call is observed."""


@dataclass(frozen=True, slots=True)
class Spend:
    """Money that left at instants: microseconds since the epoch, ascending, and the total after each in pico-USD."""

    at_us: Sequence[int]
    total_pico: Sequence[int]

    @classmethod
    def of(cls, calls: Iterable[tuple[int, int]]) -> Spend:
        """The spend of calls (time, cost) in any order."""
        ordered = sorted(calls)
        return cls([at_us for at_us, _ in ordered], list(accumulate(pico for _, pico in ordered)))

    def before(self, at_us: int) -> int:
        """What was spent before an instant."""
        index = bisect_left(self.at_us, at_us)
        return self.total_pico[index - 1] if index else 0

    def between(self, start_us: int, end_us: int) -> int:
        """What was spent from an instant until before another."""
        return self.before(end_us) - self.before(start_us)


@dataclass(frozen=True, slots=True)
class Step:
    """A window at an instant: its spend so far, and its forecast at one of the ``READINGS``."""

    at_us: int
    spent_pico: int
    forecast: Forecast | None


def steps(
    forecaster: Forecaster, spend: Spend, start_us: int, end_us: int, *, readings: int = READINGS
) -> Iterator[Step]:
    """Play a window into the forecaster: a step of each call and of each reading (with its forecast), by time."""
    before = spend.before(start_us)
    index = bisect_left(spend.at_us, start_us)
    forecaster.observe(start_us, start_us, 0)
    for reading in range(1, readings):
        now_us = start_us + (end_us - start_us) * reading // readings
        while index < len(spend.at_us) and spend.at_us[index] < now_us:
            spent = spend.total_pico[index] - before
            forecaster.observe(spend.at_us[index], start_us, spent)
            yield Step(spend.at_us[index], spent, None)
            index += 1
        spent = spend.before(now_us) - before
        yield Step(now_us, spent, forecaster.forecast(now_us, start_us, end_us, spent))
    while index < len(spend.at_us) and spend.at_us[index] < end_us:
        spent = spend.total_pico[index] - before
        forecaster.observe(spend.at_us[index], start_us, spent)
        yield Step(spend.at_us[index], spent, None)
        index += 1


def warned(
    played: Iterable[Step],
    *,
    instance: str,
    start_us: int,
    end_us: int,
    amount_pico: int,
    warn_at: Sequence[float] = WARN_AT,
) -> list[BudgetAlert]:
    """Everything a guard would have said of a window whose steps were these."""
    said, made = Said(start_us), list[BudgetAlert]()
    for step in played:
        reading = Reading(
            instance=instance,
            at_us=step.at_us,
            start_us=start_us,
            end_us=end_us,
            spent_pico=step.spent_pico,
            amount_pico=amount_pico,
            forecast=step.forecast,
        )
        said, news = alerts(said, reading, warn_at=warn_at)
        made += news
    return made
