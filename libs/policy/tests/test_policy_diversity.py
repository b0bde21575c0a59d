"""Answers that are all alike cost an arm: how much, and what that does to its share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.events import Codec, LocalRegistry
from flywheel.policy import CharterInvalid, Summary, build_policy, compile_policy, nano, parse_charter
from flywheel.policy.diversity import diversities
from flywheel.policy.moments import MomentSummary, weigh_moments
from flywheel.policy.proxies import length_vector

CHARTER = """\
feature: f
quality: {judge: 1}
reward: {min: 0, max: 1}
arms: [{name: a, model: m}, {name: b, model: m}]
policy: {kind: thompson, diversity: 0.1}
"""


def lengths_of(by_arm):
    summary = MomentSummary()
    for arm, tokens in by_arm.items():
        for number, count in enumerate(tokens):
            summary.add(number, arm, length_vector(0.0, int(count)))
    return summary


def varied(n=200, *, spread=0.5, seed=1):
    return np.exp(np.random.default_rng(seed).normal(5.5, spread, n))


def told(by_arm, most=0.1):
    return {one.arm: one for one in diversities(weigh_moments(lengths_of(by_arm)), sorted(by_arm), most=most)}


def published(by_arm, rewards, text=CHARTER):
    summary = Summary()
    for arm, (won, lost) in rewards.items():
        for unit, value in enumerate([1.0] * won + [0.0] * lost):
            summary.add(unit * 7 % (won + lost), arm, nano(value))
    return build_policy(
        parse_charter(text), charter_revision=1, charter_digest="d", policy_version=2, occurred_at_us=1,
        summaries=[summary], lengths=[lengths_of(by_arm)],
    )  # fmt: skip


def test_the_charge_is_in_proportion_to_how_alike_answers_are():
    found = told({"a": [42] * 200, "b": varied(seed=2), "c": varied(spread=0.125, seed=3), "d": varied(seed=4)})
    assert found["a"].charge == pytest.approx(0.1, abs=1e-3) and found["a"].spread == pytest.approx(0.0, abs=0.002)
    # Of the others a is alike too, so their spread is larger than .5: c has less than a quarter of it.
    expected = 0.1 * (1 - 2 * found["c"].spread / found["c"].others)
    assert found["c"].charge == pytest.approx(expected) and 0.05 < expected < 0.1
    assert found["b"].charge == found["d"].charge == 0.0


def test_nothing_is_charged_where_all_answers_are_short_or_too_few_are_known():
    words = {"a": [1] * 200, "b": [1, 1, 1, 1, 2] * 40}
    assert [one.charge for one in told({arm: [tokens[0]] * 200 for arm, tokens in words.items()}).values()] == [0, 0]
    assert told({"a": [42] * 49, "b": varied()}) == {}
    assert told({"a": [42] * 300}) == {}


@given(st.lists(st.integers(0, 5000), min_size=50, max_size=80), st.floats(0, 5))
def test_a_charge_lies_between_nothing_and_what_is_declared(tokens, most):
    for one in told({"a": tokens, "b": varied(60)}, most).values():
        assert 0.0 <= one.charge <= most


def test_an_arm_that_answers_all_alike_loses_the_share_that_a_close_call_gave_it():
    rewards = {"a": (330, 170), "b": (310, 190)}
    alike = published({"a": [42] * 500, "b": varied(500)}, rewards)
    free = published({"a": varied(500, seed=3), "b": varied(500)}, rewards)
    assert free["arms"][0]["propensity"] > 0.8 and alike["arms"][0]["propensity"] < 0.2
    assert [one["charge"] for one in alike["diversity"]] == pytest.approx([0.1, 0.0], abs=1e-3)
    assert alike["standings"][0]["charge"] == alike["diversity"][0]["charge"]
    codec = Codec(LocalRegistry.load())
    decoded = codec.decode(codec.encode("policy", alike)).value
    assert decoded["diversity"] == alike["diversity"]
    drawn = compile_policy(decoded).subset(0b11)
    assert drawn.propensities == pytest.approx([arm["propensity"] for arm in alike["arms"]])


def test_without_the_declaration_nothing_is_charged():
    plain = published({"a": [42] * 500, "b": varied(500)}, {"a": (330, 170)}, CHARTER.replace(", diversity: 0.1", ""))
    assert plain["diversity"] == [] and plain["standings"][0]["charge"] == 0.0


def test_forgetting_must_leave_enough_to_tell():
    with pytest.raises(CharterInvalid, match=r"line 5: policy\.diversity: half_life leaves 72 outcomes, and 200 are"):
        parse_charter(CHARTER.replace("diversity", "half_life: 50 outcomes, diversity"))


def test_a_kind_that_chooses_by_shares_cannot_be_charged():
    with pytest.raises(CharterInvalid, match=r"line 5: policy\.diversity: experiment chooses by shares"):
        parse_charter(CHARTER.replace("kind: thompson", "kind: experiment"))
