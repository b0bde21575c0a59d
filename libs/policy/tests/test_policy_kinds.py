"""The policies: what each believes, against published and hand-worked figures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flywheel.events import Codec, LocalRegistry
from flywheel.policy import Summary, build_policy, choice_probabilities, compile_policy, nano, parse_charter
from flywheel.policy.posterior import UNTRIED_SCORE, ucb1_bonus, ucb_v_bound


def policy(kind, rewards, *, extra="", arms=("a", "b", "c")):
    """Return the policy event after rewards by arm, without forgetting."""
    declared = ", ".join(f"{{name: {arm}, model: m, share: {i + 1}}}" for i, arm in enumerate(arms))
    policy = f"policy: {{kind: {kind}{extra}}}\nreward: {{min: 0, max: 1}}"
    charter = parse_charter(f"feature: f\nquality: {{q: 1.0}}\narms: [{declared}]\n{policy}")
    summary = Summary()
    for arm, values in rewards.items():
        for value in values:
            summary.add(1, arm, nano(value))
    return build_policy(
        charter, charter_revision=1, charter_digest="d", policy_version=7, occurred_at_us=1, summaries=[summary]
    )


def by_arm(event, field):
    return [arm[field] for arm in event["arms"]]


def test_ucb1_matches_the_reference_scores():
    # MABWiser 2.7.4, tests of UCB1(alpha=1): arms tried 3, 2 and 5 times with means 1/3, 0 and 3/5.
    rewards = {"a": [0, 0, 1], "b": [0, 0], "c": [1, 0, 1, 1, 0]}
    event = policy("ucb1", rewards)
    assert by_arm(event, "score") == pytest.approx(
        [1.5723073962832794, 1.5174271293851465, 1.5597051824376162], abs=1e-9
    )
    assert ucb1_bonus(3, 10) == pytest.approx(1.5723073962832794 - 1 / 3, abs=1e-15)
    assert by_arm(event, "propensity") == [1.0, 0.0, 0.0]


def test_ucb1_tries_every_arm_first_and_shares_among_the_untried():
    event = policy("ucb1", {"a": [1.0] * 5})
    assert by_arm(event, "score")[1:] == [UNTRIED_SCORE, UNTRIED_SCORE]
    assert by_arm(event, "propensity") == [0.0, 0.5, 0.5]


def test_ucb_v_by_hand_and_narrower_than_ucb1_for_small_variance():
    # E = 1.2 ln 100 = 5.5262: .9 + √(2·.01·E/50) + 3E/50.
    explored = 1.2 * math.log(100)
    assert ucb_v_bound(0.9, 0.01, 50, 100, 1.0) == pytest.approx(
        0.9 + math.sqrt(0.02 * explored / 50) + 3 * explored / 50
    )
    assert ucb_v_bound(0.9, 0.0, 500, 1000, 1.0) < 0.9 + math.sqrt(2 * math.log(1000) / 500)


def test_ucb_v_scores_are_the_bound_of_the_empirical_variance():
    event = policy("ucb_v", {"a": [1, 1, 0], "b": [0.5]})
    assert event["arms"][0]["score"] == pytest.approx(ucb_v_bound(2 / 3, 2 / 9, 3, 4, 1.0))
    assert event["arms"][1]["score"] == pytest.approx(ucb_v_bound(0.5, 0.0, 1, 4, 1.0))
    assert event["arms"][2]["score"] == UNTRIED_SCORE and by_arm(event, "propensity") == [0.0, 0.0, 1.0]


def test_a_beta_posterior_adds_rewards_to_the_prior():
    event = policy("thompson_beta", {"a": [1, 1, 0], "b": [0.5]})
    assert by_arm(event, "alpha") == pytest.approx([3, 1.5, 1]) and by_arm(event, "beta") == pytest.approx([2, 1.5, 1])
    assert by_arm(event, "mean") == pytest.approx([0.6, 0.5, 0.5])
    assert event["arms"][0]["variance"] == pytest.approx(3 * 2 / (25 * 6))
    assert math.fsum(by_arm(event, "propensity")) == pytest.approx(1.0)


def test_the_prior_is_declared_in_units_of_reward():
    event = policy("thompson_beta", {}, extra=", prior: {mean: 0.8, weight: 10}")
    assert (event["arms"][0]["alpha"], event["arms"][0]["beta"]) == pytest.approx((8, 2))


def test_a_gaussian_posterior_never_takes_a_perfect_start_for_certainty():
    event = policy("thompson_gaussian", {"a": [1.0] * 10, "b": [0.9] * 9 + [0.0]})
    a = event["arms"][0]
    mean = (2 * 0.5 + 10) / 12
    variance = (2 * 0.25 + 10 * (1 - mean) ** 2) / 12 / 12
    assert (a["mean"], a["variance"]) == pytest.approx((mean, variance))
    assert a["propensity"] < 0.99


def test_epsilon_greedy_explores_every_arm_alike():
    event = policy("epsilon_greedy", {"a": [0.2], "b": [0.9] * 3}, extra=", epsilon: 0.3")
    assert by_arm(event, "propensity") == pytest.approx([0.1, 0.8, 0.1])


def test_static_shares_are_normalised_and_learn_nothing():
    assert by_arm(policy("static", {"a": [1.0] * 50}), "propensity") == pytest.approx([1 / 6, 2 / 6, 3 / 6])


@pytest.mark.parametrize("kind", ["thompson_beta", "thompson_gaussian", "ucb1", "ucb_v", "epsilon_greedy", "static"])
def test_every_kind_keeps_the_floor_is_an_event_and_compiles(kind):
    event = policy(kind, {"a": [0.9] * 30, "b": [0.1] * 30, "c": [0.5]}, extra=", explore_floor: 0.05")
    assert min(by_arm(event, "propensity")) >= 0.05 - 1e-12
    assert math.fsum(by_arm(event, "propensity")) == pytest.approx(1.0)
    codec = Codec(LocalRegistry.load())
    found = codec.decode(codec.encode("policy", event)).value
    assert {name: found[name] for name in event} == event and found["linear"] == []
    subset = compile_policy(event).subset(0b111)
    assert subset.propensities == tuple(by_arm(event, "propensity"))


def test_lower_cost_means_higher_reward_in_every_kind():
    arms = "arms: [{name: dear, model: m}, {name: cheap, model: m}]"
    charter = parse_charter(f"feature: f\nweights: {{cost: 1}}\n{arms}\npolicy: {{kind: thompson}}")
    summary = Summary()
    for _ in range(100):
        summary.add(1, "dear", nano(-0.9))
        summary.add(1, "cheap", nano(-0.1))
    event = build_policy(
        charter, charter_revision=1, charter_digest="d", policy_version=2, occurred_at_us=1, summaries=[summary]
    )
    assert event["arms"][1]["propensity"] > 0.999


def test_thompson_propensities_are_those_of_drawing_from_the_posteriors():
    event = policy("thompson_beta", {"a": [1, 0, 1, 1], "b": [1, 0, 0.4], "c": [0.5, 0.9]})
    random = np.random.default_rng(11)
    draws = random.beta(by_arm(event, "alpha"), by_arm(event, "beta"), (300_000, 3)).argmax(axis=1)
    assert np.bincount(draws) / 300_000 == pytest.approx(by_arm(event, "propensity"), abs=0.005)


def test_an_arm_switched_off_keeps_its_belief_and_is_never_chosen():
    charter = parse_charter(
        "feature: f\nquality: {q: 1}\narms: [{name: a, model: m}, {name: b, model: m, enabled: false}]"
    )
    summary = Summary()
    summary.add(1, "b", nano(1.0))
    event = build_policy(
        charter, charter_revision=1, charter_digest="d", policy_version=2, occurred_at_us=1, summaries=[summary]
    )
    assert by_arm(event, "propensity") == [1.0, 0.0] and event["arms"][1]["weight"] == 1.0
    assert compile_policy(event).full_mask == 0b01


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="unknown policy kind 'luck'"):
        choice_probabilities("luck", [{}], explore_floor=0.0, epsilon=0.0)
