"""Changes of an arm whose reward depends on the request: told when what is expected at its features moved, not when
the arm was only sent other requests."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.policy import Summary, nano
from flywheel.policy.change import FALSE_CHANGE, changes
from flywheel.policy.features import ONE
from flywheel.policy.linear_change import linear_changes
from flywheel.policy.moments import MomentSummary, outcome_vector
from flywheel.testkit.bandit_players import Chartered
from flywheel.testkit.bandit_worlds import regret_curve, world

RANGE = (0.0, 1.0)
APART = 64
"""Units of time from one outcome to the next, as spans of moments are never narrower than 1,024."""


def sums_of(xs, rewards, reward_range=RANGE):
    """Return the sums of one arm's rewards at one feature each, without features and with them."""
    plain, summary = Summary(), MomentSummary()
    for number, (x, reward) in enumerate(zip(xs, rewards, strict=True)):
        plain.add(number * APART, "a", nano(float(reward)))
        summary.add(number * APART, "a", outcome_vector((ONE, round(x * ONE)), float(reward), reward_range))
    return plain, summary


def told(sums, reward_range=RANGE):
    plain, summary = sums
    return linear_changes(summary, plain, reward_range)


def drawn(seed, xs, expected):
    return np.random.default_rng(seed).random(len(xs)) < expected


def improving(seed):
    """Return the feature of 400 requests of any kind, then of 400 that suit the arm, and rewards it explains."""
    xs = np.random.default_rng(seed).uniform(-1, 1, 800)
    xs[400:] = np.abs(xs[400:])
    return xs, drawn(seed + 1, xs, 0.5 + 0.45 * xs)


def test_requests_that_suit_an_arm_better_are_no_change_of_it():
    # What an arm earns rises from .5 to .725 as it is sent what suits it: without features that is a change.
    worlds = [sums_of(*improving(seed)) for seed in range(0, 60, 2)]
    assert sum(bool(changes(plain, RANGE)) for plain, _ in worlds) >= 25
    assert sum(bool(told(sums)) for sums in worlds) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_a_fall_at_the_same_features_is_told_with_when_and_how_far(seed):
    xs = np.random.default_rng(seed).uniform(-1, 1, 800)
    expected = 0.5 + 0.3 * xs - 0.35 * (np.arange(800) >= 600)
    found = told(sums_of(xs, drawn(seed + 100, xs, np.maximum(expected, 0.0))))["a"]
    assert 560 * APART <= found.since <= 640 * APART
    assert found.before == pytest.approx(0.5, abs=0.12) and found.after == pytest.approx(0.18, abs=0.1)
    assert found.statistic > found.threshold == pytest.approx(np.log(800 / FALSE_CHANGE))


def test_a_fall_hidden_by_better_requests_is_told():
    # The mean stays: at x = .75 on average now earns what x = 0 did. Only with features is that a change.
    xs = np.concatenate([np.random.default_rng(1).uniform(-1, 1, 600), np.random.default_rng(2).uniform(0.5, 1, 300)])
    expected = 0.5 + 0.4 * xs - 0.3 * (np.arange(900) >= 600)
    sums = sums_of(xs, drawn(3, xs, expected))
    assert not changes(sums[0], RANGE) and "a" in told(sums)


def test_without_features_that_vary_the_ratio_is_that_of_two_means():
    rewards = drawn(4, np.zeros(512), np.where(np.arange(512) < 256, 0.75, 0.3))
    found = told(sums_of(np.zeros(512), rewards))["a"]
    at = 256  # the border between two spans
    first, second = rewards[:at].mean(), rewards[at:].mean()
    gaussian = at * (512 - at) / 512 * (second - first) ** 2 / (2 * 0.25)
    assert found.statistic == pytest.approx(gaussian, rel=1e-3) and found.since == pytest.approx(
        at * APART, abs=APART * 8
    )
    assert (found.before, found.after) == (pytest.approx(first, abs=1e-3), pytest.approx(second, abs=1e-3))


def test_what_a_feature_tells_from_then_on_is_no_change():
    xs = np.where(np.arange(512) < 256, 0.0, 1.0)
    sums = sums_of(xs, drawn(5, xs, np.where(xs > 0, 0.3, 0.75)))
    assert changes(sums[0], RANGE) and not told(sums)


def test_rewards_of_any_range_are_mapped_to_it():
    xs, rewards = np.zeros(512), drawn(4, np.zeros(512), np.where(np.arange(512) < 256, 0.75, 0.3))
    found = told(sums_of(xs, rewards))["a"]
    wide = told(sums_of(xs, 4.0 * rewards - 3.0, (-3.0, 1.0)), (-3.0, 1.0))["a"]
    assert wide.statistic == pytest.approx(found.statistic, rel=1e-3)
    assert wide.after == pytest.approx(4 * found.after - 3, abs=1e-2)


def test_too_few_rewards_tell_nothing():
    assert told((Summary(), MomentSummary())) == {}
    assert told(sums_of([0.0] * 12, [1.0] * 6 + [0.0] * 6)) == {}
    assert told(sums_of(np.linspace(-1, 1, 500), [1.0] * 500)) == {}


def test_a_policy_that_learns_in_a_world_that_stands_still_forgets_nothing():
    # Each arm's mean reward rises while the policy learns where it suits; read off that, changes are told here.
    played = world("features", 1, 2000)
    forgets, keeps = (
        Chartered(8, 1, policy=f"kind: linear_thompson, on_change: {asked}", features=10)
        for asked in ("forget", "keep")
    )
    lost = regret_curve(played, forgets, 100)
    assert changes(forgets.summary, RANGE) and not told((forgets.summary, forgets.moments))
    assert lost.tolist() == regret_curve(played, keeps, 100).tolist()


def test_after_a_change_a_policy_believes_what_came_since():
    learner = Chartered(2, 1, policy="kind: linear_thompson", features=1)
    random = np.random.default_rng(7)
    for number in range(900):
        x, arm = random.uniform(-1, 1), number % 2
        expected = 0.5 if arm else 0.3 * x + (0.6 if number < 600 else 0.3)
        vector = outcome_vector((ONE, round(x * ONE), 0), float(random.random() < expected), RANGE)
        learner.moments.add(number * APART, f"arm-{arm}", vector)
        learner.summary.add(number * APART, f"arm-{arm}", nano(float(vector[-1] > 0)))
    learner.learn([])
    assert "arm-0" in told((learner.summary, learner.moments))
    mean, _ = learner.policy.linear.scores((ONE, ONE // 2, 0))
    assert mean == pytest.approx([0.45, 0.5], abs=0.12)  # before the change the first earned .75 there
