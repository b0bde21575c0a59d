"""Arms under pressure: each is charged its cost at the price of money; dear ones give way where money buys little."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.policy import (
    Belief,
    Charged,
    DecideRequest,
    Summary,
    build_policy,
    choice_probabilities,
    compile_policy,
    decide,
    nano,
    parse_charter,
    worth_it,
)

STRONG, CHEAP, WORSE = (0.80, 0.010), (0.70, 0.001), (0.65, 0.005)
"""Reward and cost in US dollars."""


def at(price: float, *arms: tuple[float, float], sd: float = 0.0) -> int:
    """What may be worth its money at a price, of arms in order: bits 1, 2, 4."""
    return worth_it([Charged(1 << n, Belief(mean, sd), price * cost) for n, (mean, cost) in enumerate(arms)])


def test_an_arm_stays_as_long_as_its_extra_reward_pays_for_its_extra_cost() -> None:
    worth = (0.80 - 0.70) / (0.010 - 0.001)  # 11.1 reward a dollar
    assert (at(worth * 0.99, STRONG, CHEAP), at(worth * 1.01, STRONG, CHEAP)) == (1, 2)
    assert at(worth * 1.01, STRONG, CHEAP, sd=0.01) == 3, "while either may be right both are tried"


def test_features_where_money_buys_little_go_down_first() -> None:
    little, much = [(0.71, 0.010), (0.70, 0.001)], [(0.90, 0.010), (0.30, 0.001)]
    assert (at(5.0, *little), at(5.0, *much)) == (2, 1)


def test_an_arm_that_is_dearer_and_worse_goes_at_once_and_one_that_is_not_charged_stays() -> None:
    assert at(0.0, STRONG, CHEAP, WORSE, sd=0.03) == 3
    assert worth_it([Charged(1, Belief(0.80, 0.0), 5.0), Charged(2, Belief(0.70, 0.0), 0.0)]) == 2


def kept(*, tries: int) -> int:
    """What stays of a cheap arm (bit 1) that earned .4 in 200 calls, and a dearer one (bit 2) that was right in a
    quarter of its own."""
    charter = parse_charter(
        "feature: f\nquality: {q: 1}\nreward: {min: 0, max: 1}\narms: [{name: cheap, model: m}, {name: dear, model: n}]"
    )
    summary = Summary()
    for unit in range(200):
        summary.add(unit, "cheap", nano(float(unit % 5 < 2)))
    for unit in range(tries):
        summary.add(unit, "dear", nano(float(unit % 4 == 0)))
    event = build_policy(
        charter, charter_revision=1, charter_digest="d", policy_version=1, occurred_at_us=0, summaries=[summary]
    )
    cheap, dear = compile_policy(event).beliefs((), 0b11)
    return worth_it([Charged(1, cheap, 0.01), Charged(2, dear, 0.05)])


def test_an_arm_that_was_unlucky_in_its_first_calls_is_tried_on_and_one_known_to_be_worse_is_not() -> None:
    assert kept(tries=4) == 3
    assert kept(tries=400) == 1


def test_nothing_is_left_of_nothing() -> None:
    assert worth_it([]) == 0


arms = st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1)), min_size=1, max_size=6)


@given(arms, st.floats(0, 0.5), st.floats(0, 1e3), st.floats(0, 1e3))
def test_at_a_higher_price_nothing_dearer_is_kept_and_one_is_always_left(
    given_arms: list[tuple[float, float]], sd: float, one: float, two: float
) -> None:
    def dearest(price: float) -> float:
        left = at(price, *given_arms, sd=sd)
        return max(cost for n, (_, cost) in enumerate(given_arms) if left >> n & 1)

    low, high = sorted((one, two))
    assert dearest(high) <= dearest(low)


def believed(*beliefs: tuple[float, float]) -> list[dict[str, float]]:
    """Arms of a policy event with mean and standard deviation, as the kinds that draw or compare read them."""
    return [{"mean": mean, "variance": sd * sd, "score": mean} for mean, sd in beliefs]


BELIEFS = [(0.8, 0.05), (0.7, 0.02), (0.5, 0.2)]


@pytest.mark.parametrize("kind", ["thompson_beta", "thompson_gaussian"])
def test_thompson_draws_reward_less_charge(kind: str) -> None:
    charges = (0.15, 0.02, 0.0)
    found = choice_probabilities(kind, believed(*BELIEFS), explore_floor=0.0, epsilon=0.0, charges=charges)
    draws = 200_000
    mean, sd = np.array(BELIEFS).T
    drawn = np.random.default_rng(3).normal(mean - charges, sd, (draws, 3)).argmax(axis=1)
    shares = np.bincount(drawn, minlength=3) / draws
    # Four standard deviations of a share are at most .0045.
    assert found.values == pytest.approx(shares.tolist(), abs=0.0045)


@pytest.mark.parametrize("kind", ["ucb1", "ucb_v", "epsilon_greedy"])
def test_what_compares_compares_reward_less_charge(kind: str) -> None:
    def chosen(charges: tuple[float, ...]) -> int:
        beliefs = believed(*BELIEFS)
        found = choice_probabilities(kind, beliefs, explore_floor=0.0, epsilon=0.1, charges=charges)
        return int(np.argmax(found.values))

    assert [chosen(charges) for charges in [(), (0.11, 0.0, 0.0), (0.4, 0.25, 0.0)]] == [0, 1, 2]


def test_declared_shares_know_no_reward_and_stay() -> None:
    plain, charged = (
        choice_probabilities("static", believed(*BELIEFS), explore_floor=0.0, epsilon=0.0, charges=charges)
        for charges in [(), (0.5, 0.1, 0.0)]
    )
    assert plain == charged


@given(st.floats(0.0, 2.0))
def test_a_charge_on_all_arms_alike_changes_nothing(charge: float) -> None:
    free, charged = (
        choice_probabilities("thompson_beta", believed(*BELIEFS), explore_floor=0.01, epsilon=0.0, charges=charges)
        for charges in [(0.0,) * 3, (charge,) * 3]
    )
    assert charged.values == pytest.approx(free.values, abs=1e-6)


def test_the_dearer_money_is_the_less_is_spent() -> None:
    costs = np.array([0.010, 0.004, 0.001])
    spent = [
        float(
            costs
            @ choice_probabilities(
                "thompson_beta", believed(*BELIEFS), explore_floor=0.0, epsilon=0.0, charges=tuple(price * costs)
            ).values
        )
        for price in (1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)
    ]
    assert all(later < earlier for earlier, later in pairwise(spent))
    assert spent[-1] == pytest.approx(0.001, rel=1e-3)


def test_a_decision_is_drawn_from_the_charged_propensities_that_it_tells() -> None:
    charter = parse_charter(
        "feature: f\nquality: {q: 1}\nreward: {min: 0, max: 1}\npolicy: {kind: thompson, explore_floor: 0.05}\n"
        "arms: [{name: a, model: m}, {name: b, model: m}, {name: c, model: m}]"
    )
    summary = Summary()
    for arm, right in (("a", 8), ("b", 7), ("c", 5)):
        for unit in range(10):
            summary.add(unit, arm, nano(float(unit < right)))
    event = build_policy(
        charter, charter_revision=1, charter_digest="d", policy_version=1, occurred_at_us=0, summaries=[summary]
    )
    compiled, charges, draws = compile_policy(event), (0.2, 0.0), 8000
    seen: Counter[str] = Counter()
    for n in range(draws):
        made = decide(compiled, DecideRequest("default", "f", str(n)), 0, allowed=0b101, charges=charges)
        seen[made.arm] += 1
        assert made.arms == ("a", "c") and made.propensity == made.propensities[made.arms.index(made.arm)]
    free = decide(compiled, DecideRequest("default", "f", "0"), 0, allowed=0b101)
    assert made.propensities[0] < free.propensities[0] - 0.1, "the charged arm is chosen less"
    # Four standard deviations of a share of 8,000 draws are at most .0224.
    assert seen["a"] / draws == pytest.approx(made.propensities[0], abs=0.0224)
