"""Contextual kinds: published values, exact oracles, and draws against the logged propensities."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from flywheel.events import event_id
from flywheel.policy.contest import CONTEST_ERROR, shares_of_best
from flywheel.policy.contextual import (
    contextual_probabilities,
    inverse_gap_weights,
    squarecb_gamma,
)
from flywheel.policy.decide import uniform
from flywheel.policy.linear import LinearArms, LinearPrior, Moments, OnlineLinear, believe
from flywheel.policy.propensity import NormalPosterior, probability_of_best

# The ten contexts of MABWiser 2.7.4's tests of LinUCB.
HISTORY = np.array([
    [0, 1, 2, 3, 5], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 2, 2, 3, 5], [1, 3, 1, 1, 1], [0, 0, 0, 0, 0],
    [0, 1, 4, 3, 5], [0, 1, 2, 4, 5], [1, 2, 1, 1, 3], [0, 2, 1, 0, 0],
], float)  # fmt: skip


def arms_of(decisions, rewards, prior):
    """Return the beliefs of arms 1, 2 and 3 after the ten contexts."""
    decisions, rewards = np.array(decisions), np.array(rewards, float)
    return LinearArms.of(
        [believe(Moments.of(HISTORY[decisions == arm], rewards[decisions == arm]), prior) for arm in (1, 2, 3)]
    )


def test_means_match_the_published_expectations():
    found = arms_of([1, 1, 1, 2, 2, 2, 3, 3, 3, 1], [0, 0, 0, 0, 0, 0, 1, 1, 1, 1], LinearPrior.ridge(5))
    assert found.scores(HISTORY[0])[0] == pytest.approx([-0.018378378378378413, 0.0, 0.9966292134831471], abs=1e-14)
    assert found.scores(HISTORY[1])[0] == pytest.approx([0.14054054054054055, 0.0, 0.43258426966292074], abs=1e-14)


def test_linucb_matches_the_published_bounds():
    found = arms_of([1, 1, 1, 2, 2, 3, 3, 3, 3, 3], [0, 0, 1, 0, 0, 0, 0, 1, 1, 1], LinearPrior.ridge(5))
    for x, expected in [
        (HISTORY[0], [0.9790312458954391, 1.1617706239438832, 1.4247056229871702]),
        (HISTORY[1], [0.8896475809353053, 0.923364043088837, 1.457085577251709]),
    ]:
        mean, sd = found.scores(x)
        assert mean + sd == pytest.approx(expected, abs=1e-14)
        assert contextual_probabilities("lin_ucb", mean, sd).values == (0.0, 0.0, 1.0)


def random_arms(seed, arms=8, size=6, per_arm=40, noise_weight=5.0):
    """Return rewards by arm, their prior and the beliefs after them."""
    random = np.random.default_rng(seed)
    prior = LinearPrior(random.uniform(0.5, 3, size), random.normal(size=size), 0.25, noise_weight)
    data = []
    for _ in range(arms):
        x = random.normal(size=(per_arm, size))
        data.append((x, x @ random.normal(size=size) * 0.3 + random.normal(size=per_arm) * 0.5))
    return data, prior, LinearArms.of([believe(Moments.of(x, y), prior) for x, y in data])


@pytest.mark.parametrize("noise_weight", [0.0, 5.0])
def test_learning_one_by_one_is_the_posterior_of_all(noise_weight):
    data, prior, found = random_arms(3, noise_weight=noise_weight)
    online = OnlineLinear(len(data), prior)
    for arm, (xs, ys) in enumerate(data):
        for x, y in zip(xs, ys, strict=True):
            online.update(arm, x, float(y))
    x = np.array([1.0, -0.4, 0.3, 2.0, 0.0, -1.0])
    for one, all_at_once in zip(online.scores(x), found.scores(x), strict=True):
        assert one == pytest.approx(all_at_once, abs=1e-10)


def test_the_posterior_is_that_of_least_squares_with_the_prior_as_rows():
    # An oracle without any of our algebra: a prior N(θ0, D^-1) is d more observations √D·θ = √D·θ0.
    data, prior, found = random_arms(4, arms=1)
    x, y = data[0]
    rows = np.vstack([np.diag(np.sqrt(prior.precision)), x])
    told = np.concatenate([np.sqrt(prior.precision) * prior.centre, y])
    theta, residuals, _, _ = np.linalg.lstsq(rows, told, rcond=None)
    at = np.arange(6) / 3.0
    mean, sd = found.scores(at)
    assert mean[0] == pytest.approx(at @ theta)
    noise = (prior.noise_weight * prior.noise + residuals[0]) / (prior.noise_weight + len(y))
    assert sd[0] ** 2 == pytest.approx(noise * at @ np.linalg.inv(rows.T @ rows) @ at)


def test_moments_add_up_and_no_rewards_give_the_prior():
    data, prior, _ = random_arms(5, arms=2)
    (x1, y1), (x2, y2) = data
    both = Moments.of(np.vstack([x1, x2]), np.concatenate([y1, y2]))
    summed = Moments.of(x1, y1) + Moments.of(x2, y2) + Moments.none(6)
    assert believe(summed, prior).coefficients == pytest.approx(believe(both, prior).coefficients)
    nothing = believe(Moments.none(6), prior)
    assert nothing.coefficients == pytest.approx(prior.centre) and nothing.noise_sd == pytest.approx(0.5)
    with pytest.raises(ValueError, match="precision"):
        believe(summed, LinearPrior.ridge(6, precision=0.0))


scores = st.lists(st.tuples(st.floats(-2, 2), st.floats(-7, 0.7).map(math.exp)), min_size=2, max_size=12)


@given(scores)
@settings(max_examples=60, deadline=None)
def test_shares_are_probabilities_and_keep_to_their_bound_of_the_adaptive_integral(scores):
    mean, sd = np.array([m for m, _ in scores]), np.array([s for _, s in scores])
    shares = shares_of_best(mean, sd)
    assert min(shares) >= 0 and math.fsum(shares) == pytest.approx(1.0, abs=1e-12)
    assert shares == pytest.approx(probability_of_best(NormalPosterior(mean, sd)).values, abs=CONTEST_ERROR)


@given(st.floats(-3, 3), st.floats(-25, 1).map(math.exp), st.floats(-25, 1).map(math.exp))
@settings(max_examples=60, deadline=None)
def test_two_arms_match_the_closed_form(gap, s1, s2):
    # Also where one arm is known 10¹¹ times as well as the other.
    shares = shares_of_best(np.array([gap, 0.0]), np.array([s1, s2]))
    assert shares[0] == pytest.approx(special.ndtr(gap / math.hypot(s1, s2)), abs=CONTEST_ERROR)


def exact_shares(mean, sd):
    """Return the same integrals by the trapezoidal rule with steps so fine that nothing is left of its error."""
    low, high = (mean - 9 * sd).max(), (mean + 9 * sd).max()
    points = np.arange(low, high, sd.min() / 6)
    z = (points - mean[:, None]) / sd[:, None]
    found = (np.exp(-z * z / 2) / special.ndtr(z)) @ special.ndtr(z).prod(axis=0) / sd
    return found / found.sum()


@pytest.mark.parametrize("arms", [2, 8, 24, 64])
@pytest.mark.parametrize("odd", [0.05, 0.5, 1.0, 8.0])
def test_many_equal_arms_beside_an_odd_one_are_the_hardest_and_keep_to_the_bound(arms, odd):
    # The largest of K equal scores has a density narrower than any of them.
    random = np.random.default_rng(arms)
    for _ in range(10):
        mean, sd = random.normal(size=arms) * 0.02, np.exp(random.normal(size=arms) * 0.02)
        mean[0], sd[0] = random.normal() * 2, odd
        assert shares_of_best(mean, sd) == pytest.approx(exact_shares(mean, sd), abs=CONTEST_ERROR)


def test_one_arm_is_certain_equal_arms_share_and_a_hopeless_one_gets_nothing():
    assert shares_of_best(np.array([0.3]), np.array([0.1])) == [1.0]
    assert shares_of_best(np.full(5, 0.3), np.full(5, 0.1)) == pytest.approx([0.2] * 5)
    assert shares_of_best(np.array([0.0, 5.0]), np.array([0.1, 0.1])) == pytest.approx([0.0, 1.0], abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("lin_ts", {"explore_floor": 0.0}),
        ("lin_ts", {"explore_floor": 0.02}),
        ("squarecb", {"gamma": 30.0}),
        ("lin_ucb", {"explore_floor": 0.05}),
    ],
)
def test_200000_draws_agree_with_the_logged_propensities(kind, options):
    # Chi-square over 50 contexts of 4,000 draws each, cells below 5 expected joined; a true propensity fails this one
    # seed with probability 1e-4.
    _, _, found = random_arms(17, per_arm=12)
    random = np.random.default_rng(99)
    statistic = degrees = 0.0
    for context in range(50):
        mean, sd = found.scores(random.normal(size=6))
        values = contextual_probabilities(kind, mean, sd, **options).values
        cumulative = list(accumulate(values))[:-1]
        drawn = [bisect_right(cumulative, uniform(event_id(kind, context, draw))) for draw in range(4000)]
        counts, expected = np.bincount(drawn, minlength=8), np.array(values) * 4000
        rare = expected < 5
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
        if expected[-1] == 0:
            assert counts[-1] == 0
        kept = expected > 1
        statistic += float(((counts - expected)[kept] ** 2 / expected[kept]).sum())
        degrees += max(0, int(kept.sum()) - 1)
    assert degrees > 50
    assert stats.chi2.sf(statistic, degrees) > 1e-4


def test_lin_ts_propensities_are_those_of_drawing_the_coefficients():
    # The oracle draws whole coefficient vectors from N(θ̂, σ²A^-1), as Agrawal and Goyal do.
    _, _, found = random_arms(23, arms=4, size=3, per_arm=6)
    random = np.random.default_rng(1)
    x = np.array([1.0, 0.5, -0.7])
    mean, sd = found.scores(x)
    roots, coefficients = found.rows[:12].reshape(4, 3, 3), found.rows[12:]
    draws = np.stack([(coefficients[a] + random.normal(size=(300_000, 3)) @ roots[a]) @ x for a in range(4)])
    observed = np.bincount(draws.argmax(axis=0), minlength=4) / 300_000
    assert contextual_probabilities("lin_ts", mean, sd).values == pytest.approx(observed, abs=0.004)


def test_squarecb_by_hand():
    # K = 3, γ = 10: 1/(3 + 10·.5) = 1/8, 1/(3 + 10·.2) = 1/5, the rest to the best.
    assert inverse_gap_weights([0.4, 0.9, 0.7], 10.0) == pytest.approx([1 / 8, 1 - 1 / 8 - 1 / 5, 1 / 5])
    assert squarecb_gamma(2.0, 400) == 40.0 and squarecb_gamma(2.0, 0) == 2.0


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=64), st.floats(0, 1e9))
def test_squarecb_is_a_distribution_that_favours_the_best(means, gamma):
    values = inverse_gap_weights(means, gamma)
    assert math.fsum(values) == pytest.approx(1.0) and min(values) >= 0
    assert values[means.index(max(means))] == pytest.approx(max(values))


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="unknown contextual policy kind 'luck'"):
        contextual_probabilities("luck", np.zeros(2), np.ones(2))
