"""The price of money: a budget lasts its window, and what buys little reward gives way first."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.budget.forecast import Forecaster
from flywheel.budget.pacing import Pressure

DAY_US = 86_400_000_000
START_US = 20_600 * DAY_US
USD = 10**12
CALLS = 3000
READINGS = 96
K = 10**9
"""Picodollars in a thousandth of a dollar."""


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
    forecaster.observe(START_US, START_US, 0)  # of calls
    for day in range(count):
        start_us, spent, calls, taken, offered, reading = START_US + day * DAY_US, 0, 0, 0.0, 0.0, 1
        for share in np.sort(rng.uniform(0.0, 1.0, rng.poisson(CALLS))):
            at_us = start_us + int(share * DAY_US)
            cheap, extra, reward = features[rng.integers(6)] * rng.lognormal(0.0, 0.5, 3)
            dear = reward / extra >= pressure.price_of_money if paced else spent < amount
            spent += int((cheap + (extra if dear else 0.0)) * USD)
            calls, taken, offered = calls + 1, taken + reward * dear, offered + reward
            forecaster.observe(at_us, start_us, calls)
            if paced and share * READINGS >= reading:
                reading = int(share * READINGS) + 1
                found = forecaster.forecast(at_us, start_us, start_us + DAY_US, 0)
                to_come = calls * (1 - share) / share if found is None else found.mean_pico
                pressure = pressure.adjusted(
                    at_us=at_us, window_us=DAY_US, left_pico=amount - spent, total_pico=spent, calls=calls,
                    calls_to_come=to_come,
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


def read(pressure: Pressure, *, cost: int, left: int = 1000, to_come: float = 100.0, calls: int = 4) -> Pressure:
    """A reading a hundredth of a window later: ``calls`` more calls at ``cost`` thousandths of a dollar each; what is
    ``left`` in thousandths."""
    return pressure.adjusted(
        at_us=pressure.at_us + 10, window_us=1000, left_pico=left * K, calls_to_come=to_come,
        total_pico=pressure.total_pico + calls * cost * K, calls=pressure.calls + calls,
    )  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.integers(-5, 5000), st.integers(0, 3000), st.integers(0, 50), st.integers(-100, 3000), st.floats(0, 1e6)
        ),
        max_size=60,
    )
)
def test_the_price_stays_within_bounds_whatever_is_read(steps: list[tuple[int, int, int, int, float]]) -> None:
    pressure = Pressure()
    for passed, total, calls, left, to_come in steps:
        before = pressure
        pressure = pressure.adjusted(
            at_us=before.at_us + passed, window_us=1000, left_pico=left, total_pico=total, calls=calls,
            calls_to_come=to_come,
        )  # fmt: skip
        assert 0.0 <= pressure.price_of_money <= 30.0 * USD * (1 + 1e-9), "30 rewards for a call of a picodollar"
        free = before.price_of_money == 0.0 or pressure.price_of_money == 0.0
        assert free or abs(pressure.log - before.log) <= 0.6 + 1e-9, "a reading changes it by a factor of 1.8 at most"
        assert Pressure(**pressure.as_json()) == pressure


def test_the_price_rises_while_calls_are_too_dear_and_falls_while_they_are_cheap() -> None:
    pressure, prices = Pressure(), list[float]()
    for cost in [*[20] * 20, *[5] * 100]:
        pressure = read(pressure, cost=cost)
        prices.append(pressure.price_of_money)
    assert prices[:20] == sorted(prices[:20]) and prices[0] == pytest.approx(0.1 / 0.02), "a tenth of a reward a call"
    assert prices[25:] == sorted(prices[25:], reverse=True), "of late, calls were dear for a while"
    assert prices[-1] == 0.0


def test_where_calls_cost_what_they_may_nothing_changes() -> None:
    tense = Pressure(0.0, 1000, 10 * K, total_pico=100 * K, calls=10, late_pico=100 * K, late_calls=10.0)
    assert read(tense, cost=10).log == pytest.approx(0.0, abs=1e-8)
    assert read(tense, cost=20, to_come=50.0).log == pytest.approx(read(tense, cost=20, left=2000).log), (
        "half as many to come is as good as twice the money"
    )
    assert read(Pressure(), cost=10).price_of_money == 0.0


def test_what_was_overspent_is_spread_over_all_that_is_to_come() -> None:
    tense = Pressure(0.0, 1000, 10 * K, total_pico=100 * K, calls=10, late_pico=100 * K, late_calls=10.0)
    assert read(tense, cost=10, left=900).log == pytest.approx(0.6 * (4 / 16) * math.log(100 / 90), abs=1e-8), (
        "a tenth is missing"
    )
    assert read(tense, cost=10, left=0).log == pytest.approx(0.6 * (4 / 16)), "nothing left counts as an e-fold"


def test_few_calls_move_it_little_however_long_they_took() -> None:
    tense = Pressure(0.0, 1000, 10 * K, total_pico=100 * K, calls=10, late_pico=1000 * K, late_calls=100.0)
    one, four, many = (read(tense, cost=40, calls=calls).log for calls in (1, 4, 400))
    assert 0.0 < one < four < many < 0.6


def test_the_scale_holds_while_there_is_pressure() -> None:
    calm = read(Pressure(at_us=1, call_pico=10 * K), cost=5)
    tense = read(Pressure(0.0, 1, 10 * K), cost=20)
    assert (calm.call_pico, tense.call_pico) == (5 * K, 10 * K)


def test_a_new_window_is_not_held_against_the_one_before() -> None:
    ended = Pressure(0.0, 1000, 10 * K, total_pico=5000 * K, calls=500, late_pico=100 * K, late_calls=10.0)
    begun = ended.adjusted(
        at_us=1010, window_us=1000, left_pico=960 * K, total_pico=40 * K, calls=4, calls_to_come=96.0
    )
    assert (begun.total_pico, begun.calls) == (40 * K, 4)
    assert begun.log == pytest.approx(0.0, abs=1e-8)
