"""Windows of any length and the pages about them, read from what is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from flywheel_monitor.core.alerting import Standing, alert_name
from flywheel_monitor.core.burning import (
    RULES,
    SEVERITIES,
    WINDOWS_US,
    Burning,
    Rule,
    budget_left,
    burn_rate,
    rules_for,
    span_text,
)
from flywheel_monitor.core.fold import Slot
from flywheel_monitor.core.objectives import Objective, Tally
from flywheel_monitor.core.series import Series
from flywheel_monitor.core.spans import grain_for
from flywheel_monitor.core.windows import Window, quantile


class Reader(Protocol):
    """The windows that are kept."""

    def get(self, slot: Slot) -> dict[str, Any] | None:
        """What is kept there, or None."""


Windows = Callable[[Series, int], Window]
"""The window of a series, by its length in microseconds."""


def window_of(reader: Reader, partitions: Iterable[int], series: Series, length_us: int, now_us: int) -> Window:
    """The window of a series that ends at ``now_us``, over all partitions.

    Raises:
        ValueError: nothing is kept for as long.
    """
    grain, total = grain_for(length_us), Window()
    starts = grain.starts(length_us, now_us)
    for partition in partitions:
        for start_us in starts:
            record = reader.get(Slot(grain, partition, series, start_us))
            if record is not None:
                total.add(Window.of(record))
    return total


def windows_of(reader: Reader, partitions: Iterable[int], now_us: int) -> Windows:
    """Windows by series and length that end at ``now_us``, each read once: objectives of a feature share them."""
    partitions, known = tuple(partitions), dict[tuple[Series, int], Window]()

    def window(series: Series, length_us: int) -> Window:
        found = known.get((series, length_us))
        if found is None:
            found = known[series, length_us] = window_of(reader, partitions, series, length_us, now_us)
        return found

    return window


def burns_of(windows: Windows, objective: Objective) -> list[Burning]:
    """Every rule of an objective that is watched, looked at."""

    def tally(span_us: int) -> Tally:
        return objective.tally(windows(objective.series, span_us))

    return [
        Burning(
            rule,
            burn_rate(tally(rule.long_us), objective.budget),
            burn_rate(tally(rule.short_us), objective.budget),
            tally(rule.long_us),
        )
        for rule in rules_for(objective)
    ]


def sli_page(series: Series, window: Window, length_us: int, now_us: int) -> dict[str, Any]:
    """The service level indicators of a window. Rates are null where nothing happened."""
    counts = window.counts
    ended = window.count("calls") - window.count("cancelled") - window.count("unknown")
    decisions, priced = window.count("decisions"), window.count("priced")
    seconds = length_us / 1_000_000
    return {
        "project": series.project,
        "feature": series.feature or None,
        "arm": series.arm or None,
        "window": span_text(length_us),
        "until_us": now_us,
        "counts": {name: n for name, n in sorted(counts.items()) if name != "cost_pico"},
        "calls_per_second": window.count("calls") / seconds,
        "error_rate": _share(window.count("failed"), ended),
        "refusal_rate": _share(window.count("refused"), ended),
        "fallback_rate": _share(window.count("fallbacks"), decisions),
        "latency_ms": _quantiles(window.latency),
        "ttft_ms": _quantiles(window.ttft),
        "cost_usd": window.count("cost_pico") / 1e12 if priced else None,
        "cost_per_call_usd": window.count("cost_pico") / 1e12 / priced if priced else None,
        "within": {name: {"below": n, "of": total} for name, (n, total) in sorted(window.within.items())},
    }


def slo_page(windows: Windows, objective: Objective, standings: Mapping[str, Standing], now_us: int) -> dict[str, Any]:
    """Where an objective stands: its error budget in its period, how fast it burns, and its alerts."""
    series = objective.series
    tally = objective.tally(windows(series, objective.period_us))
    left = budget_left(tally, objective.budget)
    rates = {span: burn_rate(objective.tally(windows(series, span)), objective.budget) for span in WINDOWS_US}
    return {
        "project": series.project,
        "feature": series.feature,
        "slo": objective.label,
        "metric": objective.metric,
        "below": objective.below,
        "objective": float(1 - objective.budget),
        "period": span_text(objective.period_us),
        "until_us": now_us,
        "bad": tally.bad,
        "total": tally.total,
        "attained": None if not tally.total else 1 - tally.bad / tally.total,
        "budget_left": None if left is None else float(left),
        "burn_rates": {span_text(span): None if rate is None else float(rate) for span, rate in rates.items()},
        "rules": [_rule_page(rule, objective) for rule in RULES],
        "alerts": {severity: _standing_page(standings.get(alert_name(objective, severity))) for severity in SEVERITIES},
    }


def _rule_page(rule: Rule, objective: Objective) -> dict[str, Any]:
    return {
        "rule": rule.text,
        "urgency": rule.severity,
        "watched": rule in rules_for(objective),
        "budget_consumed": float(rule.consumed(objective.period_us)),
    }


def _standing_page(standing: Standing | None) -> dict[str, Any]:
    if standing is None:
        return {"state": "never", "since_us": None}
    return {"state": "firing" if standing.firing else "resolved", "since_us": standing.since_us}


def _share(part: int, total: int) -> float | None:
    return part / total if total else None


def _quantiles(bins: Mapping[int, int]) -> dict[str, float | int | None]:
    named: dict[str, float | int | None] = {
        name: quantile(bins, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }
    return named | {"of": sum(bins.values())}
