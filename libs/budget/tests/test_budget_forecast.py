"""The forecaster's state: exact, mergeable, the same after any restart; and what its forecasts are made of."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.budget.forecast import Forecaster, ForecastStateInvalid
from flywheel.budget.season import HOUR_US

DAY_US = 24 * HOUR_US
START_US = 20_600 * DAY_US
CENT = 10**10

moments = st.integers(0, 3 * DAY_US)
costs = st.integers(0, 10**13)
spends = st.lists(st.tuples(moments, costs), max_size=30).map(sorted)


def fed(calls: list[tuple[int, int]], *, restart_after: int | None = None) -> Forecaster:
    """A forecaster of days that saw these calls (time since ``START_US``, cost), perhaps restarted in between."""
    forecaster, day_us, spent = Forecaster.for_window(DAY_US), START_US, 0
    forecaster.observe(START_US, START_US, 0)
    for number, (offset_us, cost) in enumerate(calls):
        at_us = START_US + offset_us
        if at_us // DAY_US * DAY_US != day_us:
            day_us, spent = at_us // DAY_US * DAY_US, 0
        spent += cost
        forecaster.observe(at_us, day_us, spent)
        if number == restart_after:
            forecaster.forecast(at_us, day_us, day_us + DAY_US, spent)
            forecaster = Forecaster.decode(forecaster.encode())
    return forecaster


@settings(max_examples=15)
@given(spends, st.integers(0, 29), st.integers(0, DAY_US))
def test_a_restart_anywhere_changes_neither_bytes_nor_forecast(
    calls: list[tuple[int, int]], restart: int, later_us: int
) -> None:
    through, restarted = fed(calls), fed(calls, restart_after=restart)
    assert through.encode() == restarted.encode()
    now_us = START_US + (calls[-1][0] if calls else 0) + later_us
    end_us = START_US + 5 * DAY_US
    ahead = [f.forecast(now_us, START_US, end_us, 7) for f in (through, restarted)]
    told = [f and (f.mean_pico, f.low_pico, f.high_pico, f.chance_above(10**13)) for f in ahead]
    assert told[0] == told[1]
    if ahead[0] is not None:
        assert 7 <= ahead[0].low_pico <= ahead[0].mean_pico <= ahead[0].high_pico


@settings(max_examples=15)
@given(spends)
def test_forecasting_on_the_way_changes_nothing(calls: list[tuple[int, int]]) -> None:
    asked, day_us, spent = Forecaster.for_window(DAY_US), START_US, 0
    asked.observe(START_US, START_US, 0)
    for offset_us, cost in calls:
        at_us = START_US + offset_us
        if at_us // DAY_US * DAY_US != day_us:
            day_us, spent = at_us // DAY_US * DAY_US, 0
        spent += cost
        asked.observe(at_us, day_us, spent)
        asked.forecast(at_us + 1, day_us, day_us + DAY_US, spent)
    assert asked == fed(calls)
    now_us = START_US + 3 * DAY_US + 5
    assert _told(asked, now_us) == _told(fed(calls), now_us)


def _told(forecaster: Forecaster, now_us: int) -> tuple[int, int, int] | None:
    found = forecaster.forecast(now_us, START_US, now_us + DAY_US, 0)
    return found and (found.mean_pico, found.low_pico, found.high_pico)


@settings(max_examples=15)
@given(spends, st.lists(st.booleans(), min_size=30, max_size=30))
def test_the_parts_of_a_spend_add_up_to_the_whole(calls: list[tuple[int, int]], mine: list[bool]) -> None:
    one = fed([call for call, is_mine in zip(calls, mine, strict=False) if is_mine])
    other = fed([call for call, is_mine in zip(calls, mine, strict=False) if not is_mine])
    whole, merged, swapped = fed(calls), one.merge(other), other.merge(one)
    assert merged.slots == swapped.slots
    assert sum(merged.slots.values()) == sum(whole.slots.values()) == sum(cost for _, cost in calls)
    assert {n: pico for n, pico in merged.slots.items() if pico} == {n: p for n, p in whole.slots.items() if p}


def test_a_fact_that_comes_late_is_as_if_it_had_come_in_time() -> None:
    calls = [(hour * HOUR_US // 3, CENT * (hour % 7 + 1)) for hour in range(120)]
    now_us = START_US + 41 * HOUR_US
    late, prompt = Forecaster.for_window(DAY_US), Forecaster.for_window(DAY_US)
    total = 0
    for forecaster, order in ((prompt, calls), (late, [*calls[:60], *calls[61:]])):
        total = 0
        forecaster.observe(START_US, 0, 0)
        for offset_us, cost in order:
            total += cost
            forecaster.observe(START_US + offset_us, 0, total)
        forecaster.forecast(now_us, 0, now_us + DAY_US, total)
    late.observe(START_US + calls[60][0], 0, total + calls[60][1])
    assert late.encode() == prompt.encode()
    assert _told(late, now_us) == _told(prompt, now_us)


def test_nothing_is_forecast_of_what_was_not_seen() -> None:
    forecaster = Forecaster.for_window(DAY_US)
    assert forecaster.forecast(START_US + 1, START_US, START_US + DAY_US, 0) is None
    forecaster.observe(START_US, START_US, 0)
    forecaster.observe(START_US + 1, START_US, CENT)
    assert forecaster.forecast(START_US + 2, START_US, START_US + DAY_US, CENT) is None


def test_at_its_end_a_window_is_what_it_has_spent() -> None:
    found = Forecaster.for_window(DAY_US).forecast(START_US + DAY_US, START_US, START_US + DAY_US, 5)
    assert found is not None
    assert (found.mean_pico, found.low_pico, found.high_pico) == (5, 5, 5)
    assert (found.chance_above(4), found.chance_above(5)) == (1.0, 0.0)


def test_a_total_from_before_the_watch_is_spread_over_the_window_so_far() -> None:
    forecaster = Forecaster.for_window(DAY_US)
    forecaster.observe(START_US + 12 * HOUR_US, START_US, 1000 * CENT + 1)
    assert sum(forecaster.slots.values()) == 1000 * CENT + 1
    found = forecaster.forecast(START_US + 12 * HOUR_US, START_US, START_US + DAY_US, 1000 * CENT + 1)
    assert found is not None
    assert found.mean_pico == pytest.approx(2000 * CENT, rel=0.1)


def test_steady_spend_is_foretold_and_its_interval_narrows() -> None:
    forecaster, rng = Forecaster.for_window(DAY_US), np.random.default_rng(1)
    forecaster.observe(START_US, START_US, 0)
    spent, widths = 0, []
    for minute in range(1440):
        spent += int(rng.lognormal(0.0, 0.5) * CENT)
        now_us = START_US + minute * 60_000_000
        forecaster.observe(now_us, START_US, spent)
        if minute in (360, 720, 1080):
            found = forecaster.forecast(now_us, START_US, START_US + DAY_US, spent)
            assert found is not None
            widths.append(found.high_pico - found.low_pico)
            assert found.low_pico < 1440 * CENT * np.exp(0.125) < found.high_pico
    assert widths[0] > widths[1] > widths[2]


def test_bursts_widen_the_interval_of_the_same_money() -> None:
    widths = []
    for burst in (1, 60):
        forecaster, rng, spent = Forecaster.for_window(DAY_US), np.random.default_rng(2), 0
        forecaster.observe(START_US, START_US, 0)
        for minute in range(720):
            if rng.random() < 1 / burst:
                spent += burst * CENT
            forecaster.observe(START_US + minute * 60_000_000, START_US, spent)
        found = forecaster.forecast(START_US + DAY_US // 2, START_US, START_US + DAY_US, spent)
        assert found is not None
        widths.append((found.high_pico - found.low_pico) / found.mean_pico)
    assert widths[1] > 3 * widths[0]


def days_with_nights(days: int) -> Forecaster:
    """Each hour costs a cent at night and nine between 9 and 17 o'clock."""
    forecaster = Forecaster.for_window(DAY_US)
    forecaster.observe(START_US, START_US, 0)
    for day in range(days):
        spent = 0
        for quarter in range(96):
            spent += (9 if 9 <= quarter // 4 < 17 else 1) * CENT // 4
            at_us = START_US + day * DAY_US + quarter * HOUR_US // 4
            forecaster.observe(at_us, START_US + day * DAY_US, spent)
    return forecaster


@pytest.mark.parametrize(("days", "most_error"), [(4, 0.1), (15, 0.1)])
def test_the_hours_of_the_day_are_learnt(days: int, most_error: float) -> None:
    forecaster, start_us = days_with_nights(days), START_US + days * DAY_US
    now_us = start_us + 9 * HOUR_US
    forecaster.observe(now_us - 1, start_us, 9 * CENT)
    found = forecaster.forecast(now_us, start_us, start_us + DAY_US, 9 * CENT)
    assert found is not None
    assert found.mean_pico == pytest.approx(88 * CENT, rel=most_error)


def test_noise_is_not_taken_for_a_season() -> None:
    forecaster, rng = Forecaster.for_window(DAY_US), np.random.default_rng(3)
    total = 0
    forecaster.observe(START_US, 0, 0)
    for hour in range(24 * 28):
        total += int(rng.lognormal(0.0, 1.0) * CENT)
        forecaster.observe(START_US + hour * HOUR_US, 0, total)
    factors = forecaster.season.pattern(START_US, START_US // DAY_US + 28).factors
    raw_spread = 1.3 / np.sqrt(4.0)  # standard deviation of a lognormal(0, 1) over its mean, of four weeks
    assert factors.std() < raw_spread / 2.0


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"slot_us": "x"}', b"\xff", b'{"slot_us":1,"first_us":"a"}'])
def test_bytes_that_are_no_state_are_named_as_such(raw: bytes) -> None:
    with pytest.raises(ForecastStateInvalid, match="no state of a forecaster"):
        Forecaster.decode(raw)


def test_the_state_has_integers_only() -> None:
    def leaves(value: object) -> list[object]:
        if isinstance(value, dict):
            return [leaf for inner in value.values() for leaf in leaves(inner)]
        if isinstance(value, list):
            return [leaf for inner in value for leaf in leaves(inner)]
        return [value]

    assert all(type(leaf) is int for leaf in leaves(json.loads(days_with_nights(9).encode())))


def test_states_with_other_slots_are_not_added() -> None:
    with pytest.raises(ValueError, match="slots of"):
        Forecaster.for_window(DAY_US).merge(Forecaster.for_window(HOUR_US))
