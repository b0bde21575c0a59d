"""Warnings: each once, in its window, and none that flutters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flywheel.budget.dynamics import Ahead
from flywheel.budget.forecast import Forecast
from flywheel.budget.warnings import SURE, UNSURE, BudgetAlert, Reading, Said, alerts, lapsed

AMOUNT = 1000


def reading(
    spent: int, *, at: int = 5, start: int = 1, rolling: bool = False, expected: float | None = None
) -> Reading:
    return Reading(
        instance="p/b",
        at_us=at,
        start_us=start,
        end_us=start + 100,
        spent_pico=spent,
        amount_pico=AMOUNT,
        rolling=rolling,
        forecast=None if expected is None else foretold(spent, expected),
    )


def foretold(spent: int, chance_above: float) -> Forecast:
    """A forecast that gives the amount such a chance: beside a certain model one that rules it out."""
    sure = Ahead(np.array([chance_above, 1.0 - chance_above]), np.array([1e6, 0.0]), np.array([1e-3, 1e-3]), 50.0)
    return Forecast(spent + 7, spent, spent + 9, spent, 1.0, sure)


def kinds(found: tuple[BudgetAlert, ...]) -> list[tuple[str, float]]:
    return [(alert.kind, alert.level) for alert in found]


def test_levels_come_in_order_and_once_even_when_leapt_over() -> None:
    said, first = alerts(Said(), reading(499))
    assert first == ()
    said, leap = alerts(said, reading(960, at=7))
    assert kinds(leap) == [("budget_threshold", 0.5), ("budget_threshold", 0.8), ("budget_threshold", 0.95)]
    assert [alert.threshold_pico for alert in leap] == [500, 800, 950]
    assert {(alert.value_pico, alert.at_us, alert.state) for alert in leap} == {(960, 7, "firing")}
    said, full = alerts(said, reading(1000))
    assert kinds(full) == [("budget_exhausted", 1.0)]
    assert alerts(said, reading(1200))[1] == ()


def test_a_budget_can_be_exhausted_by_what_is_leased() -> None:
    _, found = alerts(Said(), replace(reading(400), exhausted=True))
    assert kinds(found) == [("budget_exhausted", 1.0)]


def test_the_next_window_warns_anew_with_ids_of_its_own_and_a_past_one_is_silent() -> None:
    said, first = alerts(Said(), reading(600))
    said, second = alerts(said, reading(600, start=101))
    over, *anew = second
    assert (over.alert_id, over.state, over.start_us) == (first[0].alert_id, "resolved", 1)
    assert kinds(first) == kinds(tuple(anew))
    assert first[0].alert_id != anew[0].alert_id
    assert alerts(said, reading(900, start=1)) == (said, ())


def test_all_that_fires_is_over_with_its_window() -> None:
    said, told = alerts(Said(), reading(850, expected=SURE + 0.01))
    said, full = alerts(said, reading(1000))
    assert lapsed(said, reading(1000, start=101)) == (said, ()), "another window"
    said, over = lapsed(said, reading(1010, at=101))
    assert {alert.alert_id for alert in over} == {alert.alert_id for alert in (*told, *full)}
    assert {alert.state for alert in over} == {"resolved"} and len(over) == 5
    assert lapsed(said, reading(1010, at=102)) == (said, ())


def test_what_was_taken_back_is_not_over_twice() -> None:
    said, _ = alerts(Said(), reading(100, expected=SURE + 0.01))
    said, _ = alerts(said, reading(100, expected=UNSURE - 0.01))
    assert lapsed(said, reading(100, at=101)) == (Said(1), ())


def test_more_money_resolves_what_is_no_longer_spent() -> None:
    """$1,000 are exhausted; with $1,500 only half is spent, and the other levels may come again."""
    said, told = alerts(Said(), reading(1000))
    said, over = alerts(said, replace(reading(1000, at=6), amount_pico=1500))
    assert [(alert.kind, alert.level, alert.state) for alert in over] == [
        ("budget_exhausted", 1.0, "resolved"), ("budget_threshold", 0.8, "resolved"),
        ("budget_threshold", 0.95, "resolved"),
    ]  # fmt: skip
    said, again = alerts(said, replace(reading(1500, at=7), amount_pico=1500))
    assert [alert.level for alert in again] == [0.8, 0.95, 1.0]
    assert {alert.alert_id for alert in again} < {alert.alert_id for alert in told}


def test_a_replay_gives_the_same_ids() -> None:
    assert alerts(Said(), reading(960))[1] == alerts(Said.from_json(Said().as_json()), reading(960))[1]


def test_an_overrun_is_told_once_and_taken_back_once() -> None:
    said, before = alerts(Said(), reading(100, expected=SURE - 0.01))
    assert before == ()
    said, told = alerts(said, reading(100, expected=SURE + 0.01))
    assert kinds(told) == [("budget_forecast", SURE)]
    assert (told[0].value_pico, told[0].threshold_pico) == (107, AMOUNT)
    said, again = alerts(said, reading(100, expected=0.999))
    said, wavering = alerts(said, reading(100, expected=UNSURE + 0.01))
    assert again == wavering == ()
    said, back = alerts(said, reading(100, expected=UNSURE - 0.01))
    assert [alert.state for alert in back] == ["resolved"]
    assert back[0].alert_id == told[0].alert_id
    for chance in (0.99, 0.01, 0.999):
        said, more = alerts(said, reading(100, expected=chance))
        assert more == ()


def test_what_is_exhausted_is_not_foretold() -> None:
    assert kinds(alerts(Said(), reading(1000, expected=1.0))[1])[-1] == ("budget_exhausted", 1.0)
    assert ("budget_forecast", SURE) not in kinds(alerts(Said(), reading(1000, expected=1.0))[1])


def test_a_rolling_level_fires_again_only_after_it_fell_a_tenth_below() -> None:
    said, first = alerts(Said(), reading(510, at=10, rolling=True))
    said, still = alerts(said, reading(460, at=11, rolling=True))
    said, flutter = alerts(said, reading(510, at=12, rolling=True))
    said, fell = alerts(said, reading(449, at=13, rolling=True))
    said, second = alerts(said, reading(510, at=14, rolling=True))
    assert (still, flutter) == ((), ())
    assert [(alert.alert_id, alert.state) for alert in fell] == [(first[0].alert_id, "resolved")]
    assert kinds(first) == kinds(second) == [("budget_threshold", 0.5)]
    assert first[0].alert_id != second[0].alert_id


def test_a_rolling_overrun_that_was_taken_back_may_come_again() -> None:
    said, told = alerts(Said(), reading(100, at=10, rolling=True, expected=0.99))
    said, back = alerts(said, reading(100, at=20, rolling=True, expected=0.1))
    said, later = alerts(said, reading(100, at=30, rolling=True, expected=0.99))
    assert [alert.state for alert in (*told, *back, *later)] == ["firing", "resolved", "firing"]
    assert told[0].alert_id == back[0].alert_id != later[0].alert_id


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1500), st.none() | st.floats(0.0, 1.0)), max_size=40),
    st.integers(0, 40),
)
def test_what_fires_fires_once_and_is_over_once_until_it_fires_again(
    steps: list[tuple[int, int, float | None]], restart: int
) -> None:
    said, every = Said(), list[BudgetAlert]()
    for number, (window, spent, chance) in enumerate(steps):
        said, news = alerts(said, reading(spent, at=number, start=window * 100 + 1, expected=chance))
        every += news
        if number == restart:
            said = Said.from_json(said.as_json())
    states: dict[str, list[str]] = {}
    for alert in every:
        states.setdefault(alert.alert_id, []).append(alert.state)
    assert all(turns == (["firing", "resolved"] * len(turns))[: len(turns)] for turns in states.values())
    fires = {alert_id for alert_id, turns in states.items() if turns[-1] == "firing"}
    assert len(fires) == len(said.firing), "of windows that are over nothing fires"
