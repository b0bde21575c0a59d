"""The price of money: a budget lasts its window, and what buys little reward gives way first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.budget.forecast import Forecast, Forecaster
from flywheel.budget.pacing import Pressure

DAY_US = 86_400_000_000
START_US = 20_600 * DAY_US
USD = 10**12
CALLS = 3000
READINGS = 96


@dataclass(frozen=True)
class Day:
    """What a day came to: spend over the amount, and the extra reward taken of what was on offer."""

    spent: float
    reward: float
    price: float


def days(squeeze: float, *, paced: bool, seed: int = 1, count: int = 2) -> list[Day]:
    """Days of calls of six features: a cheap arm, or a dearer one with an extra reward, taken where that is worth the
    price (unpaced: as long as money is left). The amount is ``squeeze`` of what the dear arms would cost."""
    rng = np.random.default_rng(seed)
    features = [(rng.uniform(0.001, 0.004), rng.uniform(0.004, 0.03), rng.uniform(0.0, 0.3)) for _ in range(6)]
    mean = float(np.mean([(cheap + extra) * np.exp(0.125) for cheap, extra, _ in features]))
    amount = int(squeeze * mean * CALLS * USD)
    forecaster, pressure, made = Forecaster.for_window(DAY_US), Pressure(), list[Day]()
    forecaster.observe(START_US, START_US, 0)
    for day in range(count):
        start_us, spent, calls, taken, offered, reading = START_US + day * DAY_US, 0, 0, 0.0, 0.0, 1
        for share in np.sort(rng.uniform(0.0, 1.0, rng.poisson(CALLS))):
            at_us = start_us + int(share * DAY_US)
            cheap, extra, reward = features[rng.integers(6)] * rng.lognormal(0.0, 0.5, 3)
            dear = reward / extra >= pressure.price_of_money if paced else spent < amount
            spent += int((cheap + (extra if dear else 0.0)) * USD)
            calls, taken, offered = calls + 1, taken + reward * dear, offered + reward
            forecaster.observe(at_us, start_us, spent)
            if paced and share * READINGS >= reading:
                reading = int(share * READINGS) + 1
                found = forecaster.forecast(at_us, start_us, start_us + DAY_US, spent)
                pressure = pressure.adjusted(
                    found, at_us=at_us, end_us=start_us + DAY_US, window_us=DAY_US, amount_pico=amount,
                    total_pico=spent, call_pico=spent // calls,
                )  # fmt: skip
        made.append(Day(spent / amount, taken / offered, pressure.price_of_money))
    return made


@pytest.mark.parametrize("squeeze", [0.5, 0.75])
def test_the_spend_lands_on_the_amount_and_buys_more_reward_than_first_come_first_served(squeeze: float) -> None:
    paced, served = days(squeeze, paced=True), days(squeeze, paced=False)
    assert [day.spent for day in paced] == pytest.approx([1.0, 1.0], abs=0.03)
    assert paced[-1].reward > 1.1 * served[-1].reward


def test_where_money_is_enough_it_is_free_in_the_end_and_nearly_everything_is_bought() -> None:
    (_, last) = days(1.3, paced=True)
    assert last.price == 0.0
    assert last.reward > 0.97
    assert last.spent < 1.0


def foretold(spent: int, mean: int) -> Forecast:
    return Forecast(mean, mean, mean, spent, 1.0, None)


def read(pressure: Pressure, forecast: Forecast | None, total: int, passed: int = 10, call_pico: int = 10) -> Pressure:
    """A reading later, with 900 of a window's 1,000 µs to come and an amount of 1,000."""
    at_us = pressure.at_us + passed
    return pressure.adjusted(
        forecast, at_us=at_us, end_us=at_us + 900, window_us=1000, amount_pico=1000, total_pico=total,
        call_pico=call_pico,
    )  # fmt: skip


@given(
    st.lists(
        st.tuples(st.integers(0, 2000), st.integers(0, 5000) | st.none(), st.integers(-5, 5000), st.integers(0, 3000)),
        max_size=60,
    )
)
def test_the_price_stays_within_bounds_whatever_is_foretold(steps: list[tuple[int, int | None, int, int]]) -> None:
    pressure = Pressure()
    for spent, more, passed, total in steps:
        before = pressure
        pressure = read(pressure, None if more is None else foretold(spent, spent + more), total, passed)
        assert 0.0 <= pressure.price_of_money <= 30.0 * USD / 10 * (1 + 1e-9)
        assert abs(pressure.log - before.log) <= 1.0 + 1e-9, "a reading changes it by a factor of e at most"
        assert Pressure(**pressure.as_json()) == pressure


def test_the_price_rises_while_too_much_is_foretold_and_spent_and_falls_again() -> None:
    pressure, prices = Pressure(), list[float]()
    for mean, spend in [*[(2000, 30)] * 20, *[(700, 0)] * 200]:
        pressure = read(pressure, foretold(100, mean), pressure.total_pico + spend)
        prices.append(pressure.price_of_money)
    assert prices[:20] == sorted(prices[:20])
    assert prices[19:] == sorted(prices[19:], reverse=True)
    assert (prices[0], prices[-1]) == (0.0, 0.0)
    assert prices[19] > 0.0


def test_what_the_pace_and_the_forecast_contradict_each_other_in_changes_nothing() -> None:
    tense = Pressure(0.0, 1000, 10, total_pico=100, pace_pico=1)
    assert read(tense, foretold(100, 2000), 100).log == 0.0, "foretold too much, but nothing was spent of late"
    assert read(tense, foretold(100, 200), 160).log == 0.0, "foretold little, but spent fast of late"


def test_without_a_forecast_the_pace_alone_moves_the_price_the_faster_the_sooner_the_money_is_gone() -> None:
    begun = Pressure(0.0, 1000, 10, total_pico=100)
    slow, fast, faster = (read(begun, None, 100 + spent).log for spent in (5, 30, 60))
    assert slow < 0.0 < fast < faster
    assert fast == pytest.approx(24 * 0.01 / (870 / 3000) * 1.0), "e-fold too fast counts as an e-fold"


def test_the_scale_holds_while_there_is_pressure() -> None:
    calm = read(Pressure(at_us=1, call_pico=10), foretold(0, 500), 0, call_pico=20)
    tense = read(Pressure(0.0, 1, 10), foretold(0, 2000), 0, call_pico=20)
    assert (calm.call_pico, tense.call_pico) == (20, 10)
