"""Exact sums with features: no order, no shards, nothing lost; and the beliefs they give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.policy.features import CLIP, ONE
from flywheel.policy.linear import LinearPrior, Moments, believe
from flywheel.policy.moments import (
    MOST_OUTCOMES,
    REWARD_ONE,
    MomentSummary,
    believe_scaled,
    outcome_vector,
    scaling,
    weigh_moments,
)
from flywheel.policy.summary import Summary, nano, weigh

RANGE = (-1.0, 1.0)


def vector(features, reward):
    return outcome_vector(np.array([ONE, *features], dtype=np.int64), reward, RANGE)


outcomes = st.lists(
    st.tuples(
        st.integers(0, 5000),
        st.sampled_from("abc"),
        st.tuples(st.integers(-CLIP, CLIP), st.integers(-CLIP, CLIP)),
        st.floats(-1, 1),
    ),
    max_size=25,
)


@given(outcomes, st.randoms(use_true_random=False), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_order_and_shards_do_not_matter_and_rows_tell_everything(made, random, shards):
    whole = MomentSummary()
    for unit, arm, features, reward in made:
        whole.add(unit, arm, vector(features, reward))
    shuffled = list(made)
    random.shuffle(shuffled)
    parts = [MomentSummary() for _ in range(shards)]
    for place, (unit, arm, features, reward) in enumerate(shuffled):
        parts[place % shards].add(unit, arm, vector(features, reward))
    merged = MomentSummary()
    for part in parts:
        merged.merge(part)
    assert list(merged.rows()) == list(whole.rows()) and merged.newest == whole.newest
    assert list(MomentSummary.from_rows(whole.newest, whole.rows()).rows()) == list(whole.rows())


@given(outcomes, outcomes)
@settings(max_examples=40, deadline=None)
def test_what_is_taken_back_leaves_no_trace(kept, gone):
    both, alone = MomentSummary(), MomentSummary()
    for unit, arm, features, reward in [*kept, *gone]:
        both.add(unit, arm, vector(features, reward))
    for unit, arm, features, reward in gone:
        both.subtract(unit, arm, vector(features, reward))
    for unit, arm, features, reward in kept:
        alone.add(unit, arm, vector(features, reward))
    alone.advance(both.newest)
    assert list(both.rows()) == list(alone.rows())


class Coarse(Summary):
    """Sums without features over the wide spans of those with."""

    kept = MomentSummary.kept
    lowest = MomentSummary.lowest


def test_forgetting_is_that_of_the_summaries_without_features():
    random = np.random.default_rng(4)
    with_features, without = MomentSummary(), Coarse()
    for unit in range(0, 300_000, 700):
        reward = float(random.integers(0, 2))
        arm = "ab"[int(random.integers(2))]
        with_features.add(unit, arm, vector((5, -3), 2 * reward - 1))
        without.add(unit, arm, nano(reward))
    for options in ({}, {"half_life_outcomes": 60.0}, {"half_life_s": 4000.0}, {"since": 200_000}):
        found, expected = weigh_moments(with_features, **options), weigh(without, **options)
        for arm in "ab":
            assert found[arm].weight == pytest.approx(expected[arm].weight)
            assert found[arm].products[0] == pytest.approx(expected[arm].total)
            assert found[arm].squares == pytest.approx(expected[arm].squares)


def test_a_year_without_a_pause_is_in_about_forty_spans_and_a_third_of_what_followed_a_change_is_kept():
    summary = MomentSummary()
    minute, year = 60_000_000 >> 16, 366 * 86_400_000_000 >> 16
    for unit in range(0, year, 90 * minute):
        summary.add(unit, "a", vector((1, 1), 0.0))
    for unit in range(year - 1000 * minute, year, minute):
        summary.add(unit, "a", vector((1, 1), 0.0))
    assert len(summary.spans) <= 44
    for age in (30, 100, 700):
        kept = weigh_moments(summary, since=year - age * minute)["a"].weight
        assert age / 3 <= kept <= age + 10


def test_scaling_changes_the_prior_and_not_the_data():
    # With a vanishing prior the belief at a point is that of plain least squares, whatever the features' units.
    random = np.random.default_rng(6)
    summary = MomentSummary()
    raw = np.column_stack([np.full(400, ONE), random.integers(0, 900, 400), random.integers(-CLIP, CLIP, 400)])
    rewards = random.uniform(-1, 1, 400)
    for features, reward in zip(raw, rewards, strict=True):
        summary.add(1, "a", outcome_vector(features, float(reward), RANGE))
    found = weigh_moments(summary)["a"]
    assert found.weight == 400
    mapped = scaling(found)
    scaled = raw / ONE @ mapped.T
    assert scaled[:, 1:].mean(axis=0) == pytest.approx([0, 0], abs=1e-9)
    assert scaled[:, 1:].std(axis=0) == pytest.approx([1, 1])
    belief = believe_scaled(found, LinearPrior.ridge(3, precision=1e-9, noise=0.1, noise_weight=1e-9), mapped)
    shares = np.round((rewards + 1) / 2 * REWARD_ONE) / REWARD_ONE
    theta = np.linalg.lstsq(raw / ONE, shares, rcond=None)[0]
    assert belief.coefficients == pytest.approx(theta, abs=1e-7)
    plain = believe(Moments.of(raw / ONE, shares), LinearPrior.ridge(3, precision=1e-9, noise=0.1, noise_weight=1e-9))
    x = np.array([1.0, 0.1, -2.0])
    assert np.linalg.norm(belief.root @ x) == pytest.approx(np.linalg.norm(plain.root @ x), rel=1e-5)
    assert belief.noise_sd == pytest.approx(plain.noise_sd, rel=1e-6)


def test_a_feature_that_never_varied_is_left_as_it_is():
    summary = MomentSummary()
    for reward in (0.1, 0.9):
        summary.add(1, "a", vector((ONE, 0), reward))
    assert np.isfinite(scaling(weigh_moments(summary)["a"])).all()


def test_the_bound_holds_and_beyond_it_nothing_is_added():
    # The largest entries, at the most outcomes: 2^14 · 2^14 · 2^34 = 2^62 stays below 2^63.
    assert max(CLIP, REWARD_ONE) ** 2 * MOST_OUTCOMES < 2**63
    summary = MomentSummary()
    summary.add(1, "a", vector((CLIP, -CLIP), 1.0))
    cell = summary.spans[next(iter(summary.spans))]["a"]
    cell *= MOST_OUTCOMES
    with pytest.raises(OverflowError, match="outcomes of a"):
        summary.add(1, "a", vector((CLIP, -CLIP), 1.0))


def test_what_is_not_encoded_is_refused():
    with pytest.raises(ValueError, match="constant"):
        outcome_vector(np.array([5, 1], dtype=np.int64), 0.0, RANGE)
    with pytest.raises(ValueError, match="clip"):
        outcome_vector(np.array([ONE, CLIP + 1], dtype=np.int64), 0.0, RANGE)
    assert outcome_vector(np.array([ONE]), 7.0, RANGE)[-1] == REWARD_ONE
