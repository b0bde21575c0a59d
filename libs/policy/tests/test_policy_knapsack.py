"""Prices that keep a constraint, floors and the front."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.policy.knapsack import (
    Constraint,
    Price,
    affordable,
    pareto_front,
    priced,
    proven_floor,
    quality_floor,
)


def test_a_price_by_hand():
    # Twice the rate used: owed 1; step = .1·(1 + 1/10) = .11. Then nothing used: owed 0; step = .1·(-1 + 0).
    constraint = Constraint(rate=1.0, slack=10.0, start=2.0, gain=0.1)
    once = Price.first(constraint).after(2.0, constraint)
    assert (once.value, once.owed) == (pytest.approx(2 * math.exp(0.11)), 1.0)
    twice = once.after(0.0, constraint)
    assert (twice.log, twice.owed) == (pytest.approx(math.log(2) + 0.01), 0.0)


@given(st.lists(st.floats(0, 1e6), max_size=50), st.floats(1e-6, 1e3), st.floats(1e-6, 1e3))
@settings(max_examples=60, deadline=None)
def test_prices_stay_positive_and_finite_and_the_debt_is_the_sum(used, rate, slack):
    constraint = Constraint(rate=rate, slack=slack)
    price = Price.first(constraint)
    for amount in used:
        price = price.after(amount, constraint)
        assert 0 < price.value < math.inf
    assert price.owed == pytest.approx(math.fsum(used) - rate * len(used), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("field", ["rate", "slack", "start", "gain"])
def test_a_constraint_must_be_positive(field):
    with pytest.raises(ValueError, match=field):
        Constraint(**({"rate": 1.0, "slack": 1.0} | {field: 0.0}))


def spend(seed, rounds=4000, rate=0.3):
    """Choose among four known arms whose reward depends on the request, at the running price; return reward per
    round over the best possible at that spend, and spend over the budget."""
    random = np.random.default_rng(seed)
    costs = np.array([0.02, 0.2, 0.6, 2.0])
    means = 1 / (1 + np.exp(-(np.array([-1.0, 0.0, 0.7, 1.5]) + 1.2 * random.normal(size=(rounds, 4)))))
    constraint = Constraint(rate=rate, slack=rate * 50)
    price, reward, used, left = Price.first(constraint), 0.0, 0.0, rate * rounds
    for row in means:
        scores = priced(row, costs, price.value)
        allowed = affordable(costs.tolist(), left)
        arm = max((a for a in range(4) if allowed >> a & 1), key=lambda a: scores[a])
        reward, used, left = reward + row[arm], used + costs[arm], left - costs[arm]
        price = price.after(costs[arm], constraint)
    # The oracle knows every mean: the best fixed price, found by bisection (the Lagrangian bound on any policy).
    low, high = 0.0, 100.0
    for _ in range(60):
        at = (low + high) / 2
        chosen = (means - at * costs).argmax(axis=1)
        low, high = (at, high) if costs[chosen].sum() > rate * rounds else (low, at)
    best = means[np.arange(rounds), (means - high * costs).argmax(axis=1)].sum()
    return reward / best, used / (rate * rounds)


def test_the_price_brings_98_percent_of_the_oracles_reward_within_the_budget():
    for seed in range(3):
        reward, used = spend(seed)
        assert reward >= 0.98 and 0.97 <= used <= 1.0


def test_floors():
    mean, sd = [0.9, 0.7, 0.5], [0.01, 0.2, 0.01]
    assert quality_floor(mean, sd, 0.8) == 0b011 and proven_floor(mean, sd, 0.8) == 0b001
    assert quality_floor(mean, sd, 0.99) == 0b011 and proven_floor(mean, sd, 0.99) == 0b001
    assert affordable([0.1, 0.5], 0.3) == 0b01 and affordable([0.1, 0.5], 0.05) == 0b01


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(arms):
    quality, use = [q for q, _ in arms], [u for _, u in arms]
    front = pareto_front(quality, use)
    for arm in range(len(arms)):
        beaten = any(quality[f] >= quality[arm] and use[f] <= use[arm] for f in front)
        assert beaten or arm in front
    assert [quality[f] for f in front] == sorted(quality[f] for f in front)
