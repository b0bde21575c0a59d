"""Changes of an arm: told when there is one, seldom when there is none, and what is believed after."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.policy import Summary, nano
from flywheel.policy.change import FALSE_CHANGE, KEPT_AFTER_CHANGE, changes, last_change
from flywheel.policy.moments import MomentSummary
from flywheel.policy.posterior import believed_evidence, changes_of
from flywheel.policy.summary import NANO
from flywheel.testkit.changing_arms import RECORDED, charter_of, watch

RANGE = (0.0, 1.0)


def summary_of(*rewards_by_arm):
    """Return the summary of rewards by arm, one of each arm per unit of time."""
    summary = Summary()
    for arm, rewards in zip("ab", rewards_by_arm, strict=False):
        for unit, reward in enumerate(rewards):
            summary.add(unit, arm, nano(float(reward)))
    return summary


def believed(charter, summary):
    return believed_evidence(charter, summary, changes_of(charter, summary, MomentSummary()))


def test_the_likelihood_ratio_by_hand():
    # 60 of 80, then 20 of 80; m = .5: 160·kl(.75, .5) = 160·(.75 ln 1.5 + .25 ln .5) = 20.93 > ln(160 / .01) = 9.68.
    found = last_change([(0, 80, 60 * NANO), (80, 80, 20 * NANO)], RANGE)
    assert found is not None
    assert found.statistic == pytest.approx(160 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5)))
    assert found.threshold == pytest.approx(np.log(160 / FALSE_CHANGE))
    assert (found.since, found.before, found.after) == (80, pytest.approx(0.75), pytest.approx(0.25))


def test_too_few_or_constant_rewards_tell_nothing():
    assert last_change([], RANGE) is None and last_change([(0, 500, 500 * NANO)], RANGE) is None
    assert last_change([(0, 4, 4 * NANO), (4, 4, 0)], RANGE) is None
    assert last_change([(0, 500, 500 * NANO), (500, 500, 500 * NANO)], RANGE) is None
    assert last_change([(0, 500, 0), (500, 500, 0)], RANGE) is None


def test_rewards_of_any_range_are_mapped_to_it():
    rows = [(0, 80, 60 * NANO), (80, 80, 20 * NANO)]
    wide = [(start, n, 4 * total - 3 * n * NANO) for start, n, total in rows]
    plain, mapped = last_change(rows, RANGE), last_change(wide, (-3.0, 1.0))
    assert plain is not None and mapped is not None
    assert mapped.statistic == pytest.approx(plain.statistic) and mapped.after == pytest.approx(4 * 0.25 - 3)


def test_of_two_changes_the_last_is_told():
    random = np.random.default_rng(2)
    rewards = np.concatenate([random.random(600) < 0.9, random.random(600) < 0.4, random.random(300) < 0.9])
    found = changes(summary_of(rewards), RANGE)["a"]
    assert 1150 <= found.since <= 1240 and found.after == pytest.approx(0.9, abs=0.06)


def test_a_change_is_the_same_whatever_the_order_and_the_shards():
    random = np.random.default_rng(3)
    rewards = np.concatenate([random.random(500) < 0.84, random.random(200) < 0.51])
    whole = summary_of(rewards)
    parts = [Summary() for _ in range(3)]
    for unit in random.permutation(len(rewards)).tolist():
        parts[unit % 3].add(unit, "a", nano(float(rewards[unit])))
    merged = Summary()
    for part in parts[::-1]:
        merged.merge(part)
    assert changes(merged, RANGE) == changes(whole, RANGE) != {}


@pytest.mark.slow
@pytest.mark.parametrize("mean", [0.52, 0.9])
def test_without_a_change_hardly_ever_one_is_told(mean):
    # 25 runs of 600 rewards, a look after every 60th. With δ = .01 a run tells one with probability about .01 at most;
    # 3 or more of 25 then has probability .002.
    random = np.random.default_rng(int(mean * 100))
    told = 0
    for _ in range(25):
        summary, alarms = Summary(), 0
        for unit, reward in enumerate((random.random(600) < mean).tolist()):
            summary.add(unit, "a", nano(float(reward)))
            if unit % 60 == 59:
                alarms += bool(changes(summary, RANGE))
        told += alarms > 0
    assert told <= 2


def test_after_a_change_only_what_came_since_counts_and_others_keep_a_little():
    summary = summary_of([1.0] * 300 + [0.0] * 60, [0.5] * 360)
    since = changes(summary, RANGE)["a"].since
    found = believed(charter_of(), summary)
    assert found["a"].weight == 360 - since and abs(since - 300) <= 8
    assert found["b"].weight == pytest.approx(360 - since + KEPT_AFTER_CHANGE)
    assert found["b"].total / found["b"].weight == pytest.approx(0.5)
    kept = believed(charter_of(", on_change: keep"), summary)
    assert kept["a"].weight == kept["b"].weight == 360


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [RECORDED, ((0.84, 0.70), (0.51, 0.70))], ids=["recorded", "rival_stays"])
def test_a_regressed_arm_loses_its_traffic_within_150_labels(before, after):
    # Asked in 95 % of seeds (`bench_retreat.py` plays 200): fewer than 8 of 10 would then have probability .01. Keeping
    # everything, none does.
    assert sum(watch(before, after, seed).lost_after is not None for seed in range(10)) >= 8
    assert all(watch(before, after, seed, policy=", on_change: keep").lost_after is None for seed in range(3))
