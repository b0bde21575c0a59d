"""``flywheel budget plan``."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from flywheel.budget.budget_yaml import BudgetsInvalid, parse_budgets
from flywheel.budget.declared import Budget
from flywheel.budget.money import to_usd
from flywheel.budget.plan import MOST_FORECAST, QUANTILES, BudgetPlan, Foretold, WindowPlan
from flywheel.budget.plan import plan as planned
from flywheel.budget.recorded_calls import RecordedCall, recorded_calls
from flywheel.budget.warnings import BudgetAlert
from flywheel.cli.commands.price import book_of
from flywheel.cli.declared_files import end_with_problems, read_text
from flywheel.cli.file_lines import called, limited_lines
from flywheel.cli.output import console, fail, json_option, print_json, table
from flywheel.pricing.lines import LineInvalid, money

MOST_BUDGET_BYTES: Final = 1_048_576
MOST_ROWS: Final = 40
"""So many windows of a budget are shown in the table for people, the dearest; --json has all."""

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--budgets", "declared", type=_FILE, required=True, help="The budgets, YAML as for `check`.")
@click.option("--prices", type=_FILE, help="Own prices, as for `flywheel price`.")
@json_option
def plan(file: Path, declared: Path, prices: Path | None, as_json: bool) -> None:
    """Say what budgets would have made of the calls in FILE (JSONL; - is standard input), and what amounts fit them.

    A line is one that `flywheel price` reads, or {"time": "2026-11-21T04:10:00Z", "cost_usd": "0.0123"}; it may have
    app, feature, team, user_hash, environment, prompt_name, prompt_version, model and provider, which budgets match.

    Warnings and forecasts are of what the calls cost as they came; what a hard budget refuses is counted as if a call's
    bound were its cost. Lines that cannot be read are named and skipped; then the exit code is 1.
    """
    budgets, book = _declared(declared), book_of(prices)
    calls: list[RecordedCall] = []
    bad: list[dict[str, Any]] = []
    with click.open_file(str(file), "rb") as stream:
        for number, found in recorded_calls(limited_lines(stream), book):
            if isinstance(found, LineInvalid):
                bad.append({"line": number, "field": found.field, "message": found.message})
                click.echo(f"{called(file)}: line {number}: {found}", err=True)
            else:
                calls.append(found)
    plans = planned(budgets, calls)
    if as_json:
        print_json({"calls": len(calls), "bad_lines": bad, "budgets": [_as_json(found) for found in plans]})
    else:
        for budget in plans:
            _show(budget)
    if bad:
        fail(f"{len(bad)} of {len(bad) + len(calls)} lines could not be read")


def _declared(file: Path) -> tuple[Budget, ...]:
    try:
        return parse_budgets(read_text(file, most_bytes=MOST_BUDGET_BYTES))
    except BudgetsInvalid as error:
        end_with_problems(file, error)


def _show(found: BudgetPlan) -> None:
    out, budget, windows = console(), found.budget, found.windows
    length = "rolling" if budget.rolling_s is None else f"{budget.rolling_s} s"
    per = length if budget.per == "rolling" else budget.per
    out.print(f"{budget.key}: {_usd(budget.amount_pico)} USD per {per}, {budget.mode}")
    if not windows:
        out.print("no call falls under it\n")
        return
    shown = sorted(sorted(windows, key=lambda w: -w.peak_pico)[:MOST_ROWS], key=lambda w: (w.instance, w.window))
    columns = (
        "instance",
        "window",
        "calls",
        "unpriced",
        "USD",
        "of it %",
        "at half: low – high",
        "said",
        "refused USD",
    )
    out.print(table(columns, [_row(window, budget) for window in shown]))
    if len(windows) > len(shown):
        out.print(f"… and {len(windows) - len(shown)} windows that cost less (--json has all)")
    basis = "whole windows" if found.from_whole_windows else "windows, none of them whole"
    fits = ", ".join(f"{_named(share)} {_short(amount)}" for share, amount in _suggested(found))
    out.print(f"amounts by the {basis}: {fits} USD; {_judgement(found)}\n")


def _row(window: WindowPlan, budget: Budget) -> tuple[Any, ...]:
    half = next((told for told in window.foretold if told.share == 0.5), None)
    told = [each for each in window.alerts if each.state == "firing" or each.kind == "budget_forecast"]
    said = [f"{_name(alert)} {_clock(alert.at_us)[5:16]}" for alert in told]
    return (
        window.instance,
        window.window.id if window.whole else f"{window.window.id} (part)",
        window.calls,
        window.unpriced,
        _short(window.peak_pico),
        round(100 * window.peak_pico / budget.amount_pico),
        half and f"{_short(half.low_pico)} – {_short(half.high_pico)}",
        "\n".join(said) or None,
        _short(window.refused_pico) if window.refused_calls else None,
    )


def _judgement(found: BudgetPlan) -> str:
    """How the forecasts did, in words."""
    counts = _counts(found)
    if not counts["forecast"]:
        return "nothing was forecast"
    of = len({window.instance for window in found.windows if window.foretold})
    more = f" (the {MOST_FORECAST} dearest instances)" if of == MOST_FORECAST else ""
    return (
        f"at half, {counts['inside']} of {counts['forecast']} whole windows ended inside their interval; "
        f"overruns told {counts['told']} of {counts['exceeded']}, {counts['false']} false{more}"
    )


def _counts(found: BudgetPlan) -> Counter[str]:
    """Of the whole windows that were forecast: how the forecast at half and the told overruns came out."""
    counts: Counter[str] = Counter()
    for window in found.windows:
        half = next((told for told in window.foretold if told.share == 0.5), None)
        if half is None or not window.whole:
            continue
        exceeded = window.spent_pico > found.budget.amount_pico
        told = any(alert.kind == "budget_forecast" and alert.state == "firing" for alert in window.alerts)
        counts["forecast"] += 1
        counts["inside"] += half.low_pico <= window.spent_pico <= half.high_pico
        counts["exceeded"] += exceeded
        counts["told"] += told and exceeded
        counts["false"] += told and not exceeded
    return counts


def _suggested(found: BudgetPlan) -> list[tuple[float, int]]:
    return list(zip(QUANTILES, found.suggested_pico, strict=False))


def _named(share: float) -> str:
    return "highest" if share == 1.0 else f"{share:.0%} of windows within"


def _name(alert: BudgetAlert) -> str:
    if alert.kind == "budget_threshold":
        return f"{alert.level:.0%}"
    if alert.kind == "budget_exhausted":
        return "exhausted"
    return "overrun foretold" if alert.state == "firing" else "overrun taken back"


def _as_json(found: BudgetPlan) -> dict[str, Any]:
    budget, counts = found.budget, _counts(found)
    return {
        "project": budget.project,
        "budget": budget.name,
        "mode": budget.mode,
        "per": budget.per,
        "amount_usd": _usd(budget.amount_pico),
        "suggested_usd": {f"p{share * 100:g}": _usd(amount) for share, amount in _suggested(found)},
        "from_whole_windows": found.from_whole_windows,
        "forecast": {name: counts[name] for name in ("forecast", "inside", "exceeded", "told", "false")},
        "windows": [_window_as_json(window) for window in found.windows],
    }


def _window_as_json(window: WindowPlan) -> dict[str, Any]:
    return {
        "instance": window.instance,
        "window": window.window.id,
        "window_start": _clock(window.window.start_us),
        "window_end": _clock(window.window.end_us),
        "whole": window.whole,
        "calls": window.calls,
        "unpriced": window.unpriced,
        "spent_usd": _usd(window.spent_pico),
        "peak_usd": _usd(window.peak_pico),
        "refused_calls": window.refused_calls,
        "refused_usd": _usd(window.refused_pico),
        "alerts": [
            {"kind": a.kind, "state": a.state, "level": a.level, "at": _clock(a.at_us), "value_usd": _usd(a.value_pico)}
            for a in window.alerts
        ],
        "forecasts": [_told_as_json(told) for told in window.foretold],
    }


def _told_as_json(told: Foretold) -> dict[str, Any]:
    return {
        "at_share": told.share,
        "mean_usd": _usd(told.mean_pico),
        "low_usd": _usd(told.low_pico),
        "high_usd": _usd(told.high_pico),
    }


def _usd(pico: int) -> str | None:
    return money(to_usd(pico))


def _short(pico: int) -> str | None:
    """An amount for people: to a millionth of a dollar."""
    return money(round(to_usd(pico), 6))


def _clock(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
