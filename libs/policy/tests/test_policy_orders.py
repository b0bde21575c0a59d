"""The regret of every kind within the order of its theory; `tests/bench/bench_orders.py` plays 20 seeds of longer
plays in more worlds."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.testkit.bandit_players import Chartered
from flywheel.testkit.bandit_worlds import World, regret_curve, world
from flywheel.testkit.regret_theory import gaps, lai_robbins, ucb1_bound, ucb_v_bound

APART, NEAR = np.array([0.7, 0.3]), np.array([0.9, 0.8])
EVERY = 20
ROOT = np.sqrt(2) - 1
"""What √T adds of itself when rounds double; a logarithm adds a tenth, a line all of it."""


def fixed(seed, rounds, means=APART):
    random = np.random.default_rng(seed)
    rewards = (random.random((rounds, 1)) < means).astype(float)
    rows = np.tile(means, (rounds, 1))
    return World("fixed", np.empty((rounds, 0)), rows, rewards, np.ones(rounds, dtype=bool), 0)


def curve(kind, played, seed, *, every=EVERY):
    learner = Chartered(played.means.shape[1], seed, policy=f"kind: {kind}", features=played.contexts.shape[1])
    return regret_curve(played, learner, every)


@pytest.mark.parametrize(("kind", "bound"), [("ucb1", ucb1_bound), ("ucb_v", ucb_v_bound)])
def test_upper_bounds_lose_what_their_theorem_says_and_no_less_than_any_policy_must(kind, bound):
    # Without the bonus a play loses 8 (what the first batch costs) or hundreds; with ten times of it, over 300.
    most, least = bound(APART, 2000, stale=EVERY), lai_robbins(APART, 2000)
    for seed in range(4):
        lost = curve(kind, fixed(seed, 2000), seed)[-1]
        assert least < lost < most


@pytest.mark.parametrize("kind", ["thompson_beta", "thompson_gaussian"])
def test_thompson_sampling_loses_about_the_logarithm_that_nobody_beats(kind):
    # Whoever goes by the mean alone is caught by the worse arm in four of these plays, and loses 120 in each.
    lost = np.mean([curve(kind, fixed(seed, 1200, NEAR), seed, every=10) for seed in range(17, 25)], axis=0)
    assert lost[-1] < 1.5 * lai_robbins(NEAR, 1200, stale=10)
    assert lost[-1] - lost[599] < ROOT * lost[599]


def test_epsilon_greedy_goes_on_losing_epsilon_of_the_mean_gap_and_static_its_shares():
    greedy = [curve("epsilon_greedy", fixed(seed, 2000), seed, every=50) for seed in range(5)]
    # A binomial count of 5,000 late rounds: a tenth of .4 / 2, standard error .0012.
    assert np.mean([lost[-1] - lost[999] for lost in greedy]) / 1000 == pytest.approx(0.02, abs=0.004)
    # Shares of one and two thirds: the worse arm gets the larger.
    static = np.mean([curve("static", fixed(seed, 2000), seed, every=500)[-1] for seed in range(5)])
    assert static / 2000 == pytest.approx(0.4 * 2 / 3, abs=0.01)


@pytest.mark.parametrize("kind", ["linear_thompson", "linear_ucb", "squarecb"])
def test_linear_kinds_lose_no_more_than_the_root_of_the_rounds(kind):
    lost, alike = [], 0.0
    for seed in range(2):
        played = world("linear", seed, 4000)
        lost.append(curve(kind, played, seed, every=100))
        alike += float((played.means.max(axis=1) - played.means.mean(axis=1)).sum()) / 2
    at = np.array([1000, 2000, 4000])
    slope = np.polyfit(np.log(at), np.log(np.mean(lost, axis=0)[at - 1]), 1)[0]
    assert slope < 0.65 and np.mean(lost, axis=0)[-1] < 0.25 * alike


def test_a_delay_adds_a_constant():
    late, prompt = (world(name, 0, 6000) for name in ("late", "rates"))
    most = late.delay * gaps(late.means[0]).sum()
    drawn = curve("thompson_beta", late, 0, every=100) - curve("thompson_beta", prompt, 0, every=100)
    assert 0 < drawn[-1] < most and drawn[-1] - drawn[2999] < ROOT * drawn[2999]
    # What repeats one arm until its rewards come pays arm by arm, later too.
    assert 0 < (curve("ucb1", late, 0, every=100) - curve("ucb1", prompt, 0, every=100))[-1] < most
