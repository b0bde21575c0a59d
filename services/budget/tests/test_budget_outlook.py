"""Warnings, forecasts and the price of money, as the guard tells them."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

from flywheel.budget import windows_of
from flywheel_budget.core import GuardFold
from flywheel_budget.core.outlook import Outlook
from flywheel_budget.core.pools import Pool

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


def test_what_fires_is_over_with_its_window_though_nothing_is_spent_any_more(facts):
    """A day's budget is exhausted; the first entry of the next day, of whatever budget, ends its alerts."""
    budget, other = replace(parts.DAILY, amount_pico=AMOUNT), replace(parts.DAILY, name="other")
    state, fold, alerts = facts.State(), GuardFold(), []
    events = [facts.definition(budget), facts.spend("", 1, AMOUNT, budget=budget, at_s=HOUR_S)]
    for offset, event in enumerate([*events, facts.definition(other, at_s=24 * HOUR_S)]):
        alerts += [o.value for o in fold.fold(0, [parts.at_offset(event, offset)], state).outputs if o.event == "alert"]
    firing, over = ([a for a in alerts if a["state"] == each] for each in ("firing", "resolved"))
    assert [a["attributes"]["level"] for a in firing] == ["0.5", "0.8", "0.95", "1"]
    assert {a["alert_id"] for a in over} == {a["alert_id"] for a in firing} and len(over) == 4
    assert all(a["occurred_at"] == parts.T0 + 24 * HOUR_S * 10**6 == a["window_end"] for a in over)
    assert over[0]["title"] == "Budget day: 100 USD are no longer exhausted"
    assert len({a["event_id"] for a in alerts}) == len(alerts)


def test_what_fires_of_a_rolling_budget_is_over_when_the_money_has_left_it(facts):
    budget = replace(parts.DAILY, amount_pico=AMOUNT, per="rolling", rolling_s=600)
    other = replace(parts.DAILY, name="other")
    state, fold, alerts = facts.State(), GuardFold(), []
    spend = facts.spend("", 1, AMOUNT, budget=budget, at_s=60)
    events = [facts.definition(budget), spend, *(facts.definition(other, at_s=at_s) for at_s in (650, 671, 700))]
    for offset, event in enumerate(events):
        alerts += [o.value for o in fold.fold(0, [parts.at_offset(event, offset)], state).outputs if o.event == "alert"]
    over = [a for a in alerts if a["state"] == "resolved"]
    assert len(over) == 4 == len(alerts) - len(over) and {a["alert_id"] for a in over} == {
        a["alert_id"] for a in alerts
    }
    assert {a["occurred_at"] for a in over} == {parts.T0 + 671 * 10**6}, "ten minutes and a sixtieth after it was spent"


def test_more_money_ends_what_fires(facts):
    budget = replace(parts.DAILY, amount_pico=AMOUNT)
    state, fold, alerts = facts.State(), GuardFold(), []
    more = facts.definition(replace(budget, amount_pico=3 * AMOUNT, revision=2), at_s=HOUR_S + 1)
    events = [facts.definition(budget), facts.spend("", 1, AMOUNT, budget=budget, at_s=HOUR_S), more]
    for offset, event in enumerate(events):
        alerts += [o.value for o in fold.fold(0, [parts.at_offset(event, offset)], state).outputs if o.event == "alert"]
    assert sorted(a["attributes"]["level"] for a in alerts if a["state"] == "resolved") == ["0.5", "0.8", "0.95", "1"]


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


def test_calls_are_counted_in_mode_downgrade_and_those_before_it_count_as_spread_over_the_window():
    daily = replace(parts.DAILY, amount_pico=AMOUNT)
    window = windows_of(daily).at(6 * HOUR_S * 10**6)
    outlook = Outlook.begun(daily, window, window.start_us)
    pool = Pool(spent=AMOUNT // 10, calls=600)
    look = {"delta": 0, "now_us": window.start_us + 6 * HOUR_S * 10**6}
    outlook.look(daily, daily.key, window, pool, **look)
    assert outlook.calls is None and Outlook.decode(outlook.encode()) == outlook
    outlook.look(replace(daily, mode="downgrade"), daily.key, window, pool, **look)
    assert outlook.calls is not None and Outlook.decode(outlook.encode()) == outlook
    assert sum(outlook.calls.slots.values()) == 600 and max(outlook.calls.slots.values()) <= 600 / 16 + 1
    outlook.look(daily, daily.key, window, pool, **look)
    assert outlook.calls is None


def test_a_hard_budget_is_exhausted_when_the_rest_pays_no_call(facts):
    budget = replace(parts.DAILY, amount_pico=1000)
    state, fold, outputs = facts.State(), GuardFold(), []
    asks = facts.request("a.1", 1, 0, 100, need=20, budget=budget)
    for offset, event in enumerate([facts.definition(budget), facts.spend("", 1, 990, budget=budget), asks, asks]):
        outputs += fold.fold(0, [parts.at_offset(event, offset)], state).outputs
    assert [o.value["kind"] for o in outputs if o.event == "alert"].count("budget_exhausted") == 1
    assert [o.value["exhausted"] for o in outputs if o.event == "budget_state"][-1]
