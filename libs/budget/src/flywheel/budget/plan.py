"""What declared budgets would have made of the calls of the past. Pure; money integer pico-USD, time the calls' own.

Spend, warnings and forecasts are those of the calls as they came; what a hard budget would have refused is counted
beside, as if the bound of a call were its cost (a real bound is higher, so it would refuse a little earlier). Calls
without a price count 0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from flywheel.budget.declared import Budget
from flywheel.budget.forecast import Forecaster
from flywheel.budget.recorded_calls import RecordedCall
from flywheel.budget.replay import Spend, Step, steps, warned
from flywheel.budget.scopes import Matcher
from flywheel.budget.warnings import BudgetAlert, Reading, Said, alerts
from flywheel.budget.windows import US, Window, windows_of

QUANTILES: Final = (0.5, 0.9, 0.99, 1.0)
MOST_FORECAST: Final = 5
"""Of each budget's instances so many, the dearest, are forecast."""
READINGS: Final = 16
_TOLD_AT: Final = (4, 8, 12)
"""Readings whose forecasts are kept: at a quarter, half and three quarters of a window."""


@dataclass(frozen=True, slots=True)
class Foretold:
    """A forecast at a share of the window, to be held against what came."""

    share: float
    mean_pico: int
    low_pico: int
    high_pico: int


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """One window of an instance. ``peak_pico``: of a rolling budget the highest total of its length, else the spend."""

    instance: str
    window: Window
    whole: bool
    calls: int
    unpriced: int
    spent_pico: int
    peak_pico: int
    refused_calls: int
    refused_pico: int
    alerts: tuple[BudgetAlert, ...] = ()
    foretold: tuple[Foretold, ...] = ()


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """A budget over all the calls; ``suggested_pico`` are the ``QUANTILES`` of what its windows peaked at."""

    budget: Budget
    windows: tuple[WindowPlan, ...]
    suggested_pico: tuple[int, ...]
    from_whole_windows: bool


@dataclass(slots=True)
class _Tally:
    """A window being counted."""

    calls: int = 0
    unpriced: int = 0
    spent_pico: int = 0
    peak_pico: int = 0
    refused_calls: int = 0
    refused_pico: int = 0
    alerts: list[BudgetAlert] = field(default_factory=list)

    def add(self, call: RecordedCall, peak_pico: int, *, refused: bool) -> None:
        """Count a call that brought the window's total to ``peak_pico``."""
        cost = call.cost_pico or 0
        self.calls += 1
        self.unpriced += call.cost_pico is None
        self.spent_pico += cost
        self.peak_pico = max(self.peak_pico, peak_pico)
        if refused:
            self.refused_calls += 1
            self.refused_pico += cost


def plan(budgets: Sequence[Budget], calls: Iterable[RecordedCall]) -> tuple[BudgetPlan, ...]:
    """Every budget over the calls (in any order), as if it had held from the first of them."""
    ordered = sorted(calls, key=lambda call: call.at_us)
    held = [budget.at_revision(1, effective_from_us=0) for budget in budgets]
    matcher, of_instance = Matcher(held), dict[tuple[str, str], list[RecordedCall]]()
    for call in ordered:
        for project in {budget.project for budget in held}:
            for found in matcher.instances(project, call.dimensions, call.at_us):
                of_instance.setdefault((found.budget.key, found.key), []).append(call)
    span = (ordered[0].at_us, ordered[-1].at_us) if ordered else (0, 0)
    return tuple(
        _planned(budget, {key: of for (name, key), of in of_instance.items() if name == budget.key}, span)
        for budget in held
    )


def _planned(budget: Budget, of_instance: Mapping[str, list[RecordedCall]], span: tuple[int, int]) -> BudgetPlan:
    dearest = sorted(of_instance, key=lambda key: (-sum(call.cost_pico or 0 for call in of_instance[key]), key))
    windows: list[WindowPlan] = []
    for key in dearest:
        if budget.per == "rolling":
            windows += _rolling(budget, key, of_instance[key], span)
        else:
            windows += _calendar(budget, key, of_instance[key], span, forecast=key in dearest[:MOST_FORECAST])
    whole = [window.peak_pico for window in windows if window.whole]
    peaks = sorted(whole or [window.peak_pico for window in windows])
    suggested = tuple(peaks[max(0, -int(-share * len(peaks) // 1) - 1)] for share in QUANTILES) if peaks else ()
    return BudgetPlan(budget, tuple(windows), suggested, bool(whole))


def _calendar(
    budget: Budget, key: str, calls: list[RecordedCall], span: tuple[int, int], *, forecast: bool
) -> list[WindowPlan]:
    tallies: dict[Window, _Tally] = {}
    for call in calls:
        tally = tallies.setdefault(windows_of(budget).at(call.at_us), _Tally())
        cost, accepted = call.cost_pico or 0, tally.spent_pico - tally.refused_pico
        refused = budget.hard and accepted + cost > budget.amount_pico
        tally.add(call, tally.spent_pico + cost, refused=refused)
    spend = Spend.of((call.at_us, call.cost_pico or 0) for call in calls)
    foretold = dict[Window, tuple[Foretold, ...]]()
    for window, played in _played(budget, spend, span, list(tallies), forecast=forecast):
        tallies[window].alerts += warned(
            played,
            instance=key,
            start_us=window.start_us,
            end_us=window.end_us,
            amount_pico=budget.amount_pico,
            warn_at=budget.warn_at,
        )
        foretold[window] = _kept(played, window)
    return [_window(key, window, tally, span, foretold.get(window, ())) for window, tally in tallies.items()]


def _played(
    budget: Budget, spend: Spend, span: tuple[int, int], of: list[Window], *, forecast: bool
) -> Iterable[tuple[Window, list[Step]]]:
    """The steps of each window that has calls; with forecasts, in which the empty ones between them count too."""
    if not forecast:
        for window in of:
            before = spend.before(window.start_us)
            pairs = zip(spend.at_us, spend.total_pico, strict=True)
            inside = [(at, total) for at, total in pairs if window.start_us <= at < window.end_us]
            yield window, [Step(at_us, total - before, None) for at_us, total in inside]
        return
    forecaster = Forecaster.for_window(of[0].end_us - of[0].start_us)
    forecaster.observe(span[0], of[0].start_us, 0)
    for window in of:
        yield window, list(steps(forecaster, spend, window.start_us, window.end_us, readings=READINGS))


def _kept(played: list[Step], window: Window) -> tuple[Foretold, ...]:
    length, kept = window.end_us - window.start_us, []
    wanted = {window.start_us + length * reading // READINGS: reading / READINGS for reading in _TOLD_AT}
    for step in played:
        if step.forecast is not None and step.at_us in wanted:
            told = step.forecast
            kept.append(Foretold(wanted[step.at_us], told.mean_pico, told.low_pico, told.high_pico))
    return tuple(kept)


def _rolling(budget: Budget, key: str, calls: list[RecordedCall], span: tuple[int, int]) -> list[WindowPlan]:
    length_us = (budget.rolling_s or 1) * US
    tallies: dict[Window, _Tally] = {}
    inside: deque[tuple[int, int, int]] = deque()
    asked = accepted = 0
    said = Said()
    for call in calls:
        while inside and inside[0][0] <= call.at_us - length_us:
            _, cost, taken = inside.popleft()
            asked, accepted = asked - cost, accepted - taken
        cost = call.cost_pico or 0
        refused = budget.hard and accepted + cost > budget.amount_pico
        asked, accepted = asked + cost, accepted + (0 if refused else cost)
        inside.append((call.at_us, cost, 0 if refused else cost))
        tally = tallies.setdefault(windows_of(budget).at(call.at_us), _Tally())
        tally.add(call, asked, refused=refused)
        reading = Reading(
            instance=key,
            at_us=call.at_us,
            start_us=call.at_us - length_us,
            end_us=call.at_us,
            spent_pico=asked,
            amount_pico=budget.amount_pico,
            rolling=True,
        )
        said, news = alerts(said, reading, warn_at=budget.warn_at)
        tally.alerts += news
    return [_window(key, window, tally, span, ()) for window, tally in tallies.items()]


def _window(
    key: str, window: Window, tally: _Tally, span: tuple[int, int], foretold: tuple[Foretold, ...]
) -> WindowPlan:
    return WindowPlan(
        instance=key,
        window=window,
        whole=span[0] <= window.start_us and window.end_us <= span[1],
        calls=tally.calls,
        unpriced=tally.unpriced,
        spent_pico=tally.spent_pico,
        peak_pico=tally.peak_pico,
        refused_calls=tally.refused_calls,
        refused_pico=tally.refused_pico,
        alerts=tuple(tally.alerts),
        foretold=foretold,
    )
