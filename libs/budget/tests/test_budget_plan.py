"""What budgets would have made of past calls: every cent counted once, hard budgets held, warnings in their place."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.budget.budget_yaml import parse_budgets
from flywheel.budget.plan import plan
from flywheel.budget.recorded_calls import RecordedCall, recorded_calls
from flywheel.pricing import bundled_prices
from flywheel.pricing.lines import LineInvalid

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
MONDAY_US = 1_795_996_800_000_000  # 2026-11-30T00:00:00Z
USD = 10**12
NOWHERE: dict[str, str | None] = {}

teams = st.sampled_from(["cx", "ml", None])
calls = st.builds(
    lambda offset, cost, team, user: RecordedCall(MONDAY_US + offset, cost, {"team": team, "user_hash": user}),
    st.integers(0, 3 * DAY_US),
    st.none() | st.integers(0, 2 * USD),
    teams,
    st.sampled_from(["a", "b/c", None]),
)
BUDGETS = parse_budgets("""
project: acme
budgets:
  - {name: all, usd: 5, per: day, mode: hard}
  - {name: cx, scope: {team: cx}, usd: 3, per: week, mode: soft}
  - {name: users, each: [user_hash], usd: 1.5, per: rolling, rolling: 6h, mode: hard}
""")


def call(offset_us: int, usd: str | None, **dimensions: str) -> RecordedCall:
    cost = None if usd is None else int(Decimal(usd) * USD)
    return RecordedCall(MONDAY_US + offset_us, cost, dimensions)


@settings(max_examples=8)
@given(st.lists(calls, max_size=25))
def test_each_call_counts_once_in_every_budget_it_falls_under(some: list[RecordedCall]) -> None:
    everything, cx, users = plan(BUDGETS, some)

    def total(of: list[RecordedCall]) -> tuple[int, int, int]:
        return len(of), sum(c.cost_pico is None for c in of), sum(c.cost_pico or 0 for c in of)

    for found, of in (
        (everything, some),
        (cx, [c for c in some if c.dimensions["team"] == "cx"]),
        (users, [c for c in some if c.dimensions["user_hash"] is not None]),
    ):
        windows = found.windows
        counted = (sum(getattr(w, name) for w in windows) for name in ("calls", "unpriced", "spent_pico"))
        assert tuple(counted) == total(of)
    assert all(w.spent_pico - w.refused_pico <= everything.budget.amount_pico for w in everything.windows)
    assert all(w.refused_calls == 0 for w in cx.windows)


@settings(max_examples=8)
@given(st.lists(calls, max_size=20).flatmap(lambda some: st.tuples(st.just(some), st.permutations(some))))
def test_the_order_of_the_lines_does_not_matter(orders: tuple[list[RecordedCall], list[RecordedCall]]) -> None:
    distinct = {c.at_us: c for c in orders[0]}
    kept = [[c for c in order if distinct[c.at_us] is c] for order in orders]
    assert plan(BUDGETS, kept[0]) == plan(BUDGETS, kept[1])


def test_a_hard_day_says_when_it_warned_and_what_it_refused() -> None:
    hourly = [call(hour * HOUR_US, "1") for hour in range(24)]
    (day, *rest) = plan(BUDGETS, hourly)[0].windows
    assert not rest
    assert (day.window.id, day.calls, day.spent_pico) == ("2026-11-30T00:00:00Z", 24, 24 * USD)
    assert (day.refused_calls, day.refused_pico) == (19, 19 * USD)
    at = {(alert.kind, alert.level): (alert.at_us - MONDAY_US) // HOUR_US for alert in day.alerts}
    assert at[("budget_threshold", 0.5)] == 2
    assert at[("budget_threshold", 0.8)] == 3
    assert at[("budget_exhausted", 1.0)] == 4


def test_a_rolling_budget_peaks_where_its_length_is_fullest_and_refuses_no_more_than_it_must() -> None:
    close = [call(offset * HOUR_US, "1", user_hash="a") for offset in (0, 1, 8, 9)]
    users = plan(BUDGETS, close)[2]
    assert [(w.peak_pico, w.refused_calls) for w in users.windows] == [(2 * USD, 1), (2 * USD, 1)]
    assert {w.instance for w in users.windows} == {"acme/users/a"}
    exhausted = [alert for window in users.windows for alert in window.alerts if alert.kind == "budget_exhausted"]
    assert [alert.state for alert in exhausted] == ["firing", "resolved", "firing"], "it fell below in between"


def test_amounts_are_suggested_by_whole_windows() -> None:
    days = [call(day * DAY_US + 5 * HOUR_US, str(day + 1)) for day in range(12)]
    found = plan(BUDGETS, days)[0]
    whole = [w.spent_pico for w in found.windows if w.whole]
    assert whole == [usd * USD for usd in range(2, 12)], "the first day and the last are cut off"
    assert found.suggested_pico == (6 * USD, 10 * USD, 11 * USD, 11 * USD)
    assert found.from_whole_windows


def test_forecasts_are_held_against_what_came() -> None:
    minutes = [call(minute * 60_000_000, "0.01") for minute in range(3 * 1440)]
    windows = plan(BUDGETS, minutes)[0].windows
    for window in windows[1:]:
        assert [told.share for told in window.foretold] == [0.25, 0.5, 0.75]
        assert all(told.low_pico <= window.spent_pico <= told.high_pico for told in window.foretold)
    overruns = [a for w in windows[1:] for a in w.alerts if a.kind == "budget_forecast"]
    assert len(overruns) == 2, "14.40 a day of 5"


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def read(raw: bytes) -> RecordedCall | LineInvalid:
    ((_, found),) = recorded_calls([raw], bundled_prices())
    return found


def test_a_cost_or_a_usage_object_is_read_with_its_dimensions() -> None:
    at = "2026-11-30T00:00:00Z"
    told = read(line(time=at, cost_usd="0.000000000001", team="cx", other=[1]))
    assert isinstance(told, RecordedCall)
    assert (told.at_us, told.cost_pico, told.dimensions["team"], told.dimensions["app"]) == (MONDAY_US, 1, "cx", None)
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    priced = read(line(time=at, provider="openai", model="gpt-4o-mini", usage=usage))
    assert isinstance(priced, RecordedCall)
    assert priced.cost_pico == 210 * 10**6
    assert priced.dimensions["model"] == "gpt-4o-mini"
    unknown = read(line(time=at, provider="openai", model="in-house", usage=usage))
    assert isinstance(unknown, RecordedCall)
    assert unknown.cost_pico is None


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"{", ""),
        (b"[]", ""),
        (line(cost_usd=1), "time"),
        (line(time="2026-11-30T00:00:00Z"), "provider"),
        (line(time="2026-11-30T00:00:00Z", cost_usd=True), "cost_usd"),
        (line(time="2026-11-30T00:00:00Z", cost_usd="a"), "cost_usd"),
        (line(time="2026-11-30T00:00:00Z", cost_usd=-1), "cost_usd"),
        (line(time="2026-11-30T00:00:00Z", cost_usd="NaN"), "cost_usd"),
        (line(time="2026-11-30T00:00:00Z", cost_usd="0.0000000000001"), "cost_usd"),
        (line(time="2026-11-30T00:00:00Z", cost_usd=1, team=5), "team"),
        (line(time="2026-11-30T00:00:00Z", cost_usd=1, app="x" * 257), "app"),
    ],
)
def test_a_line_that_is_no_call_names_the_field(raw: bytes, field: str) -> None:
    found = read(raw)
    assert isinstance(found, LineInvalid)
    assert found.field == field
