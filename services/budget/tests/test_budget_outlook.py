"""Warnings, forecasts and the price of money, as the guard tells them."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

from flywheel_budget.core import GuardFold

_spec = importlib.util.spec_from_file_location("budget_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)
AMOUNT = 100 * 10**12
HOUR_S = 3600


def told(facts, budget, spends):
    """Every alert of a day in which the total was so much at such an hour, and the last state."""
    state, fold = facts.State(), GuardFold()
    alerts, states = [], []
    events = [facts.definition(budget)]
    for version, (hour, total) in enumerate(spends, 1):
        events.append(facts.spend("", version, total, budget=budget, at_s=hour * HOUR_S))
    for offset, event in enumerate(events):
        for output in fold.fold(0, [parts.at_offset(event, offset)], state).outputs:
            (alerts if output.event == "alert" else states).append(output.value)
    return alerts, states[-1]


def steady(per_hour, hours=23):
    return [(n / 4, round(n / 4 * per_hour)) for n in range(1, hours * 4)]


def test_every_level_is_told_once_and_exhaustion_when_nothing_is_left(facts):
    budget = replace(parts.DAILY, amount_pico=AMOUNT)
    alerts, state = told(facts, budget, [(1, AMOUNT // 2), (1.1, AMOUNT // 2 + 1), (2, AMOUNT), (2.1, AMOUNT + 5)])
    levels = [a["attributes"]["level"] for a in alerts if a["kind"] == "budget_threshold"]
    assert levels == ["0.5", "0.8", "0.95"]
    assert [a["kind"] for a in alerts if a["severity"] == "critical"] == ["budget_exhausted"]
    assert len({a["alert_id"] for a in alerts}) == len(alerts) and state["exhausted"]
    assert alerts[0]["title"] == "Budget day: 50% of 100 USD spent" and alerts[0]["scope"] == {"team": "cx"}


def test_an_overrun_is_told_hours_before_it_happens(facts):
    budget = replace(parts.DAILY, amount_pico=AMOUNT)
    alerts, state = told(facts, budget, steady(8 * 10**12, hours=11))
    assert [a["kind"] for a in alerts if a["kind"] == "budget_forecast"] == ["budget_forecast"]
    assert state["forecast_low_usd"] <= state["forecast_usd"] <= state["forecast_high_usd"]
    assert state["forecast_usd"] > 150


def test_a_day_that_ends_far_below_is_not_warned_of(facts):
    budget = replace(parts.DAILY, amount_pico=AMOUNT)
    alerts, state = told(facts, budget, steady(2 * 10**12))
    assert not alerts and not state["exhausted"] and state["price_of_money"] == 0


def test_money_has_a_price_where_too_much_is_foretold_and_the_mode_is_downgrade(facts):
    budget = replace(parts.DAILY, amount_pico=AMOUNT, mode="downgrade")
    assert told(facts, budget, steady(8 * 10**12, hours=11))[1]["price_of_money"] > 0
    assert told(facts, replace(budget, mode="soft"), steady(8 * 10**12, hours=11))[1]["price_of_money"] == 0


def test_a_hard_budget_is_exhausted_when_the_rest_pays_no_call(facts):
    budget = replace(parts.DAILY, amount_pico=1000)
    state, fold, outputs = facts.State(), GuardFold(), []
    asks = facts.request("a.1", 1, 0, 100, need=20, budget=budget)
    for offset, event in enumerate([facts.definition(budget), facts.spend("", 1, 990, budget=budget), asks, asks]):
        outputs += fold.fold(0, [parts.at_offset(event, offset)], state).outputs
    assert [o.value["kind"] for o in outputs if o.event == "alert"].count("budget_exhausted") == 1
    assert [o.value["exhausted"] for o in outputs if o.event == "budget_state"][-1]
