"""Constraints as prices: found again at every policy, kept while arms are learned, near what the best mix earns."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from flywheel.policy import Summary, build_policy, choice_probabilities, nano, parse_charter, unit_of
from flywheel.policy.bounds import PricedBound, measures, uses_of
from flywheel.policy.prices import Demand, charges, demands, solve
from flywheel.policy.reward import Composition
from flywheel.policy.uses import UseSummary

START_US = 1_795_200_000_000_000
BOUND = PricedBound("p95_latency_ms", "latency_ms>3000", 0.05)


def believed(*means, sd=0.02):
    return [{"mean": mean, "variance": sd * sd, "alpha": 1.0, "beta": 1.0, "score": mean} for mean in means]


def chooser(arms, kind="thompson_gaussian", floor=0.0):
    return lambda charged: choice_probabilities(kind, arms, explore_floor=floor, epsilon=0.1, charges=charged).values


def demand(uses, target, most=0.05):
    return Demand(BOUND, tuple(uses), 0.0, most, target)


def test_a_price_by_hand():
    # Two arms, .9 and .7, that differ in use by .2: at a price of 1 the charge makes them equal, so half of the
    # requests go to each and .5 · .25 + .5 · .05 = .15 is used.
    (found,) = solve([demand([0.25, 0.05], 0.15)], chooser(believed(0.9, 0.7)), 1.0)
    assert found.price == pytest.approx(1.0, abs=1e-4) and found.expected == pytest.approx(0.15, abs=1e-6)
    assert charges([found.demand], [found.price]) == pytest.approx((0.2, 0.0), abs=1e-4)


def test_what_is_kept_anyway_costs_nothing():
    (found,) = solve([demand([0.04, 0.01], 0.05)], chooser(believed(0.9, 0.7)), 1.0)
    assert (found.price, found.expected) == (0.0, pytest.approx(0.04, abs=1e-6))


def test_where_no_price_keeps_it_nearly_the_least_is_used():
    (found,) = solve([demand([0.6, 0.3], 0.05)], chooser(believed(0.9, 0.7), floor=0.1), 1.0)
    assert 0.33 <= found.expected <= 0.331 and 0 < found.price < 100


arm = st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.1))


@given(st.lists(arm, min_size=2, max_size=6), st.floats(0.01, 0.5))
@settings(max_examples=60, deadline=None)
def test_a_target_is_kept_where_it_can_be_and_used_up_where_it_has_a_price(arms, target):
    uses = [slow for _, slow, _ in arms]
    asked, choose = [demand(uses, target, target)], chooser(believed(*(mean for mean, _, _ in arms)), floor=0.01)
    (found,) = solve(asked, choose, 1.0)
    least = min(uses) + 0.01 * sum(use - min(uses) for use in uses)
    assert found.expected == pytest.approx(float(np.dot(choose(charges(asked, [found.price])), uses)))
    if target >= least + 0.01 * (max(uses) - min(uses)):
        assert found.expected <= target + 1e-4
        assert found.price == 0 or found.expected >= target - 1e-4


@given(st.lists(arm, min_size=1, max_size=5), st.floats(0.01, 0.5), st.floats(0.001, 0.1))
@settings(max_examples=60, deadline=None)
def test_two_targets_are_kept_together_where_an_arm_uses_nothing(arms, share, money):
    arms = [*arms, (0.0, 0.0, 0.0)]
    asked = [demand([slow for _, slow, _ in arms], share, share), demand([usd for _, _, usd in arms], money, money)]
    choose = chooser(believed(*(mean for mean, _, _ in arms)))
    used = choose(charges(asked, [price.price for price in solve(asked, choose, 1.0)]))
    for each in asked:
        assert np.dot(used, each.uses) <= 1.02 * each.target + 1e-4


@given(st.lists(arm, min_size=2, max_size=6), st.floats(0, 5), st.floats(0.01, 5))
@settings(max_examples=60, deadline=None)
def test_a_larger_price_never_uses_more(arms, price, more):
    asked, choose = [demand([slow for _, slow, _ in arms], 0.05)], chooser(believed(*(mean for mean, _, _ in arms)))
    used = [sum(np.array(choose(charges(asked, [at]))) * asked[0].uses) for at in (price, price + more)]
    assert used[1] <= used[0] + 1e-5


def summary_of(requests, names=("quality", "cost_usd", "latency_ms", BOUND.measure)):
    """The sums of (seconds, arm, cost, latency)."""
    found = UseSummary()
    for at_s, arm_name, cost, latency in requests:
        composed = Composition(True, 0, 1.0, Decimal(str(cost)), latency, {}, ())
        found.add(unit_of(START_US + int(at_s * 1e6)), arm_name, uses_of(names, composed, {}))
    return found


def test_what_is_owed_lowers_the_target_and_what_was_saved_raises_it_a_little():
    names = measures(parse_charter(text("{p95_latency_ms: 3000}", 2)).constraints)

    def target(slow):
        requests = [(n, "a0", 0.01, 4000.0 if n % 100 < slow else 100.0) for n in range(1000)]
        (found,) = demands([BOUND], names, summary_of(requests, names), ["a0", "a1"])
        return found.target

    assert target(5) == pytest.approx(0.05, abs=0.003)
    assert target(0) == pytest.approx(1.25 * 0.05)
    assert target(6) < 0.04 and target(30) == 0.0


def test_a_rate_of_money_is_shared_by_the_requests_that_come():
    hourly = PricedBound("usd_per_hour", "cost_usd", 12.0, hourly=True)
    names = measures(parse_charter(text("{usd_per_hour: 12}", 1)).constraints)
    requests = [(3 * n, "a0", 0.01, 100.0) for n in range(5000)]
    (found,) = demands([hourly], names, summary_of(requests, names), ["a0"])
    # 1200 requests an hour at a cent each are 12 USD: one in 1200 may cost a cent.
    assert found.requests_per_hour == pytest.approx(1200, rel=0.01) and found.most == pytest.approx(0.01, rel=0.01)
    assert found.target == pytest.approx(0.01, rel=0.05) and found.used == pytest.approx(0.01)
    twice = [(1.5 * n, "a0", 0.01, 100.0) for n in range(5000)]
    (found,) = demands([hourly], names, summary_of(twice, names), ["a0"])
    assert found.most == pytest.approx(0.005, rel=0.02) and found.target == 0.0


# -- while the arms are learned ---------------------------------------------------------------------------------------

REWARD, COST, SLOW = [0.55, 0.65, 0.74, 0.86], [0.001, 0.004, 0.012, 0.05], [0.01, 0.03, 0.10, 0.25]


def text(constraints, arms, kind="thompson"):
    declared = ", ".join(f"{{name: a{n}, model: m}}" for n in range(arms))
    return (
        f"feature: f\nquality: {{q: 1}}\nreward: {{min: 0, max: 1}}\nconstraints: {constraints}\narms: [{declared}]\n"
        f"policy: {{kind: {kind}, explore_floor: 0.01}}"
    )


class Played(NamedTuple):
    """Means over the later half: expected reward over the best mix's, share of slow requests, dollars an hour."""

    reward: float
    slow: float
    usd_per_hour: float


def play(constraints, seed, limits, *, rounds=3000, kind="thompson"):
    """A request every three seconds, a policy every 50: draw by its propensities, learn reward and use."""
    charter, random = parse_charter(text(constraints, 4, kind)), np.random.default_rng(seed)
    names, summary, uses = measures(charter.constraints), Summary(), UseSummary()
    chosen, slow, cost = [], [], []
    for number in range(rounds):
        at = unit_of(START_US + 3_000_000 * number)
        if number % 50 == 0:
            event = build_policy(
                charter, charter_revision=1, charter_digest="d", policy_version=number + 1, occurred_at_us=0,
                summaries=[summary], uses=[uses],
            )  # fmt: skip
            shares = np.array([arm["propensity"] for arm in event["arms"]])
        place = int(random.choice(4, p=shares / shares.sum()))
        reward = float(random.random() < REWARD[place])
        cost.append(COST[place] * random.uniform(0.5, 1.5))
        slow.append(float(random.random() < SLOW[place]))
        chosen.append(place)
        composed = Composition(True, 0, reward, Decimal(f"{cost[-1]:.9f}"), 4000.0 if slow[-1] else 900.0, {}, ())
        summary.add(at, f"a{place}", nano(reward))
        uses.add(at, f"a{place}", uses_of(names, composed, {}))
    best = -linprog(
        [-each for each in REWARD], A_ub=[use for use, _ in limits], b_ub=[most for _, most in limits],
        A_eq=[[1.0] * 4], b_eq=[1.0],
    ).fun  # fmt: skip
    half = rounds // 2
    earned = float(np.mean([REWARD[place] for place in chosen[half:]]))
    return Played(earned / best, float(np.mean(slow[half:])), float(np.mean(cost[half:])) * 1200)


def test_a_p95_is_kept_and_the_best_mix_nearly_earned():
    found = [play("{p95_latency_ms: 3000}", seed, [(SLOW, 0.05)]) for seed in range(4)]
    # 1,500 requests each: the share of all 6,000 has a standard error of .0028.
    assert np.mean([one.slow for one in found]) <= 0.05 + 2 * 0.0028
    assert np.mean([one.reward for one in found]) >= 0.97
    # Without the price it would be that of the best arm, five times as many.
    assert play("{error_rate: 0.5}", 0, [(SLOW, 1.0)]).slow > 0.15


def test_a_rate_of_money_is_kept_and_the_best_mix_nearly_earned():
    found = [play("{usd_per_hour: 12}", seed, [(COST, 0.01)]) for seed in range(4)]
    # Costs vary by .018 from request to request: a mean of 6,000 has a standard error of .28 USD an hour.
    assert np.mean([one.usd_per_hour for one in found]) <= 12 + 2 * 0.28
    assert np.mean([one.reward for one in found]) >= 0.97


def test_two_constraints_are_kept_together():
    found = play("{p95_latency_ms: 3000, usd_per_hour: 6}", 0, [(SLOW, 0.05), (COST, 0.005)])
    assert found.slow <= 0.05 + 2 * 0.0056 and found.usd_per_hour <= 6 + 2 * 0.4 and found.reward >= 0.96


def test_a_kind_that_draws_nothing_at_random_keeps_it_by_turns():
    found = play("{p95_latency_ms: 3000}", 0, [(SLOW, 0.05)], kind="ucb1")
    assert 0.03 <= found.slow <= 0.05 + 2 * 0.0056 and found.reward >= 0.9
