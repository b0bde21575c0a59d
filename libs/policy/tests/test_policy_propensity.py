"""Propensities against closed forms and Monte Carlo, and the bound on their error."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from flywheel.policy.propensity import BetaPosterior, NormalPosterior, greedy, probability_of_best, with_floor


def beta(*pairs):
    return probability_of_best(
        BetaPosterior(np.array([float(a) for a, _ in pairs]), np.array([float(b) for _, b in pairs]))
    )


def normal(*pairs):
    return probability_of_best(NormalPosterior(np.array([m for m, _ in pairs]), np.array([s for _, s in pairs])))


def second_beats_first(a1, b1, a2, b2):
    """P(X2 > X1) for Beta variables with whole parameters: the finite sum of Evan Miller (2013)."""
    return math.fsum(
        math.exp(
            special.betaln(a1 + i, b1 + b2) - math.log(b2 + i) - special.betaln(1 + i, b2) - special.betaln(a1, b1)
        )
        for i in range(a2)
    )


@pytest.mark.parametrize("a1", [1, 3, 40, 900])
@pytest.mark.parametrize("b1", [1, 7, 300])
@pytest.mark.parametrize(("a2", "b2"), [(1, 1), (2, 5), (60, 20), (700, 650)])
def test_two_beta_arms_match_the_exact_sum(a1, b1, a2, b2):
    found = beta((a1, b1), (a2, b2))
    truth = second_beats_first(a1, b1, a2, b2)
    assert abs(found.values[1] - truth) <= max(found.error, 1e-12)
    assert abs(found.values[1] - truth) < 1e-9


def test_a_flat_arm_against_any_other_is_the_others_mean():
    # P(X > U) = E[X] for U uniform: a closed form for any parameters.
    for a, b in [(0.3, 2.0), (5.5, 1.2), (1e4, 3e4), (0.05, 0.05)]:
        found = beta((a, b), (1, 1))
        assert abs(found.values[0] - a / (a + b)) <= max(found.error, 1e-10)


@given(
    st.floats(-3, 3), st.floats(-3, 3), st.floats(0.001, 3), st.floats(0.001, 3),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_two_normal_arms_match_the_closed_form(m1, m2, s1, s2):
    found = normal((m1, s1), (m2, s2))
    truth = float(special.ndtr((m1 - m2) / math.hypot(s1, s2)))
    assert abs(found.values[0] - truth) <= max(found.error, 1e-11)
    assert found.error < 1e-6


def test_one_arm_is_certain_and_equal_arms_share():
    assert beta((3, 4)).values == (1.0,)
    assert beta(*[(3, 4)] * 5).values == pytest.approx([0.2] * 5, abs=1e-10)
    assert normal(*[(0.5, 0.1)] * 3).values == pytest.approx([1 / 3] * 3, abs=1e-10)


@pytest.mark.parametrize("arms", [3, 8, 20])
def test_many_arms_match_monte_carlo(arms):
    random = np.random.default_rng(arms)
    alpha, rest = random.uniform(0.3, 80, arms), random.uniform(0.3, 80, arms)
    found = probability_of_best(BetaPosterior(alpha, rest))
    draws = 400_000
    counts = np.bincount(random.beta(alpha, rest, (draws, arms)).argmax(axis=1), minlength=arms)
    deviation = np.abs(counts / draws - found.values)
    allowed = 5 * np.sqrt(np.maximum(np.array(found.values) * (1 - np.array(found.values)), 1e-6) / draws)
    assert (deviation < allowed + 1e-5).all()
    assert found.error < 1e-8


@given(st.lists(st.tuples(st.floats(0.02, 1e6), st.floats(0.02, 1e6)), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_they_always_add_up_and_the_bound_is_small(pairs):
    found = beta(*pairs)
    assert math.fsum(found.values) == pytest.approx(1.0, abs=1e-12)
    assert all(0 <= p <= 1 for p in found.values)
    assert 0 <= found.error < 1e-6


def test_the_order_of_arms_does_not_matter():
    pairs = [(3.0, 4.0), (30.0, 45.0), (2.5, 2.5), (9.0, 1.0)]
    forward, backward = beta(*pairs).values, beta(*pairs[::-1]).values
    assert forward == pytest.approx(backward[::-1], abs=1e-10)


def test_an_impossible_winner_has_nearly_nothing_and_never_less():
    found = beta((9000, 1000), (1000, 9000))
    assert found.values[1] < 1e-100 + found.error and found.values[0] == pytest.approx(1.0)


def test_greedy_shares_exact_ties():
    assert greedy([0.1, 0.7, 0.7]) == (0.0, 0.5, 0.5)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda v: sum(v) > 0), st.floats(0, 1))
def test_the_floor_holds_for_every_arm_and_the_sum_stays_one(values, floor):
    total = sum(values)
    mixed = with_floor([v / total for v in values], floor)
    least = min(floor, 1 / len(values))
    assert all(p >= least - 1e-15 for p in mixed)
    assert math.fsum(mixed) == pytest.approx(1.0)


def test_the_normal_posterior_uses_the_standard_normal():
    density, cdf = NormalPosterior(np.array([1.0]), np.array([2.0])).density_and_cdf(np.array([0.0, 3.0]))
    assert density[0] == pytest.approx(stats.norm.pdf([0.0, 3.0], 1.0, 2.0))
    assert cdf[0] == pytest.approx(stats.norm.cdf([0.0, 3.0], 1.0, 2.0))
