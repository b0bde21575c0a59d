"""Charters whose policy looks at the request's context: from the YAML to the draw."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flywheel.events import Codec, LocalRegistry
from flywheel.policy import (
    CharterInvalid,
    Constraint,
    DecideRequest,
    Summary,
    build_policy,
    compile_policy,
    constrain,
    decide,
    decision_event,
    nano,
    parse_charter,
)
from flywheel.policy.decide import uniform
from flywheel.policy.feature_spec import MOST_SUMS, encoder_of
from flywheel.policy.features import ONE
from flywheel.policy.moments import MomentSummary, outcome_vector

CHARTER = """
feature: f
quality: {q: 1.0}
reward: {min: -1, max: 1}
arms:
  - {name: strong, model: m}
  - {name: cheap, model: m}
  - {name: large, model: m, eligible_when: {plan: pro}}
policy:
  kind: linear_thompson
  explore_floor: 0.02
  features:
    - {name: chars, kind: number, low: 10, high: 1000, log: true}
    - {name: language, kind: category, values: [en, de]}
    - {name: beta, kind: flag}
context: [plan]
"""
KINDS = ["linear_thompson", "linear_ucb", "squarecb"]
CODEC = Codec(LocalRegistry.load())


def charter(kind="linear_thompson"):
    return parse_charter(CHARTER.replace("linear_thompson", kind))


def learn(made, declared, shards=1):
    """Return the shards' sums of outcomes: unit, arm, context, reward."""
    sums = [(Summary(), MomentSummary()) for _ in range(shards)]
    encoder = encoder_of(declared.policy.feature_records)
    for place, (unit, arm, context, reward) in enumerate(made):
        summary, moments = sums[place % shards]
        summary.add(unit, arm, nano(reward))
        moments.add(unit, arm, outcome_vector(encoder.encode(context), reward, declared.reward_range))
    return sums


def build(declared, sums, version=3):
    return build_policy(
        declared, charter_revision=1, charter_digest="d", policy_version=version, occurred_at_us=1,
        summaries=[each[0] for each in sums], moments=[each[1] for each in sums],
    )  # fmt: skip


def short_is_for_cheap(count=240):
    """Outcomes where short requests do with the cheap arm and long ones need the strong one."""
    random = np.random.default_rng(5)
    for number in range(count):
        chars, arm = float(10 ** random.uniform(1, 3)), ("strong", "cheap", "large")[number % 3]
        good = arm != "cheap" or chars < 100
        context = {"chars": chars, "language": ("en", "de", "fr")[number % 7 % 3], "beta": bool(number % 2)}
        yield number * 20, arm, context, (0.8 if good else -0.6) + random.normal() * 0.1


def request(number=0, **context):
    return DecideRequest("default", "f", f"r{number}", context)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_best_depends_on_the_context(kind):
    declared = charter(kind)
    event = build(declared, learn(short_is_for_cheap(), declared, shards=3))
    short = {"chars": 15.0, "language": "en", "beta": False}
    long = {"chars": 900.0, "language": "en", "beta": False}
    compiled = compile_policy(event)
    two = 0b011
    at_short, at_long = (compiled.distribution(two, compiled.encode(context)).propensities for context in (short, long))
    assert at_long[0] > 0.9 and at_short[1] > at_long[1]
    mean = [each.mean for each in compiled.beliefs(compiled.encode(long), two)]
    assert mean[0] == pytest.approx(0.8, abs=0.15) and mean[1] < -0.4
    for shares in (at_short, at_long):
        assert math.fsum(shares) == pytest.approx(1.0, abs=1e-12) and min(shares) >= 0.02 - 1e-12
    assert math.fsum(arm["propensity"] for arm in event["arms"]) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_event_carries_everything_and_decides_the_same_after_the_wire_and_after_json(kind):
    declared = charter(kind)
    event = build(declared, learn(short_is_for_cheap(60), declared))
    decoded = CODEC.decode(CODEC.encode("policy", event)).value
    assert decoded == event
    asked = request(1, chars=44.0, language="de", plan="pro")
    made = [decide(compile_policy(e), asked, 2) for e in (event, decoded, orjson.loads(orjson.dumps(event)))]
    assert made[0] == made[1] == made[2]


outcomes = st.lists(
    st.tuples(
        st.integers(0, 200_000),
        st.sampled_from(["strong", "cheap", "large"]),
        st.fixed_dictionaries(
            {}, optional={"chars": st.floats(1, 3000), "language": st.sampled_from(["en", "de", "x"])}
        ),
        st.floats(-1, 1),
    ),
    max_size=30,
)


@pytest.mark.parametrize("kind", KINDS)
@given(outcomes, st.randoms(use_true_random=False), st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_any_order_and_any_shards_give_the_same_policy_byte_for_byte(kind, made, random, shards):
    declared = charter(kind)
    shuffled = list(made)
    random.shuffle(shuffled)
    parts = learn(shuffled, declared, shards)
    random.shuffle(parts)
    assert orjson.dumps(build(declared, learn(made, declared))) == orjson.dumps(build(declared, parts))


@given(st.sampled_from(KINDS), outcomes, st.integers(0, 10_000), st.floats(1, 5000), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_logged_decision_is_recomputed_from_the_event_and_the_log_bit_for_bit(kind, made, number, chars, pro):
    declared = charter(kind)
    compiled = compile_policy(build(declared, learn(made, declared)))
    asked = request(number, chars=chars, plan="pro" if pro else "free")
    logged = CODEC.decode(CODEC.encode("decision", decision_event(decide(compiled, asked, 2), asked, occurred_at_us=2)))
    event = logged.value
    again = compile_policy(CODEC.decode(CODEC.encode("policy", dict(compiled.event))).value)
    mask = sum(1 << place for place, arm in enumerate(again.arms) if arm.name in event["arms"])
    assert again.linear is not None and event["encoding"] == again.linear.encoding
    drawn = again.distribution(mask, event["features"])
    assert list(drawn.propensities) == event["propensities"] and list(drawn.names) == event["arms"]
    assert drawn.names[bisect_right(drawn.cumulative, uniform(event["event_id"]))] == event["arm"]
    assert event["propensity"] == event["propensities"][event["arms"].index(event["arm"])]
    assert ("large" in event["arms"]) == pro


@pytest.mark.parametrize("kind", ["linear_thompson", "squarecb"])
def test_arms_are_drawn_as_often_as_their_logged_propensity_says(kind):
    declared = charter(kind)
    compiled = compile_policy(build(declared, learn(short_is_for_cheap(12), declared)))
    context = {"chars": 60.0, "language": "en", "plan": "pro"}
    shares = compiled.distribution(0b111, compiled.encode(context)).propensities
    drawn = [decide(compiled, request(number, **context), 2) for number in range(6000)]
    assert {d.propensities for d in drawn} == {shares}
    counts = [sum(d.arm == arm.name for d in drawn) for arm in compiled.arms]
    assert stats.chisquare(counts, [6000 * share for share in shares]).pvalue > 0.001
    assert list(accumulate(shares))[-1] == pytest.approx(1.0, abs=1e-12)


def test_controls_and_what_is_allowed_narrow_the_draw():
    declared = charter()
    compiled = compile_policy(build(declared, learn(short_is_for_cheap(), declared)))
    context = {"chars": 900.0, "language": "en", "plan": "pro"}
    held = constrain(compiled, [Constraint("c1", "disable", ("strong",))])
    made = decide(held, request(1, **context), 2)
    assert made.control == "c1" and set(made.arms) == {"cheap", "large"}
    assert made.propensities == held.distribution(0b110, held.encode(context)).propensities
    alone = decide(compiled, request(1, **context), 2, allowed=0b010)
    assert (alone.arm, alone.propensity, alone.features) == ("cheap", 1.0, made.features)


def test_a_missing_feature_is_encoded_or_sends_the_request_to_the_default_arm_and_the_log_says_which():
    encoded = compile_policy(build(charter(), []))
    made = decide(encoded, request(1, language="en"), 2)
    event = decision_event(made, request(1, language="en"), occurred_at_us=2)
    assert (made.reason, made.fallback) == ("policy", False)
    assert event["features"] == [ONE, 0, ONE, ONE, 0, 0, 0, 0, ONE]
    strict = parse_charter(CHARTER.replace("explore_floor", "on_missing: default\n  explore_floor"))
    compiled = compile_policy(build(strict, []))
    for context in ({}, {"chars": 5.0, "language": "en"}, {"chars": "5", "language": "en", "beta": True}):
        made = decide(compiled, request(1, **context), 2)
        assert (made.arm, made.reason, made.fallback, made.propensity) == ("strong", "no_context", True, 1.0)
        assert "features" not in decision_event(made, request(1, **context), occurred_at_us=2)
        assert compiled.outlook(context, 2).arms == 0
    assert decide(compiled, request(1, chars=5.0, language="fr", beta=False), 2).reason == "policy"


def test_a_text_is_hashed_into_the_log_and_never_written_there():
    texts = CHARTER.replace("- {name: beta, kind: flag}", "- {name: question, kind: text, buckets: 4}")
    compiled = compile_policy(build(parse_charter(texts), []))
    asked = request(1, question="my password is tulip", chars=20.0)
    event = decision_event(decide(compiled, asked, 2), asked, occurred_at_us=2)
    assert any(event["features"][-4:]) and "tulip" not in repr(event)


def test_before_any_outcome_every_arm_is_alike_at_every_context():
    for kind in KINDS:
        compiled = compile_policy(build(charter(kind), []))
        for context in ({}, {"chars": 900.0, "language": "de", "beta": True}):
            made = decide(compiled, request(1, plan="pro", **context), 2)
            if kind != "squarecb":
                assert made.propensities == pytest.approx([1 / 3] * 3, abs=1e-9)


def test_what_an_arm_earned_before_it_changed_is_forgotten_with_its_context():
    declared = charter()
    context = {"chars": 100.0, "language": "en", "beta": True}
    before = [(n * 2000, arm, context, 0.9) for n in range(150) for arm in ("strong", "cheap")]
    after = [
        (n * 2000, arm, context, reward) for n in range(150, 300) for arm, reward in (("strong", -0.9), ("cheap", 0.9))
    ]
    compiled = compile_policy(build(declared, learn([*before, *after], declared)))
    strong, cheap = compiled.beliefs(compiled.encode(context), 0b011)
    assert strong.mean < -0.75 and cheap.mean > 0.8


@pytest.mark.parametrize(
    ("old", "new", "field", "words"),
    [
        ("high: 1000, ", "", "policy.features.0", "high is missing"),
        ("low: 10,", "low: 0,", "policy.features.0", "low must be below high, and above 0"),
        ("values: [en, de]", "values: [en, en]", "policy.features.1", "each once"),
        ("kind: flag", "kind: flag, low: 3", "policy.features.2", "means nothing for a flag"),
        ("kind: flag", "kind: bool", "policy.features.2.kind", "'number', 'category', 'flag', 'text' or 'complexity'"),
        ("kind: flag", "kind: text, buckets: 40", "policy.features", "at most 32"),
        ("name: beta", "name: chars", "policy.features", "declared twice"),
        ("name: beta, kind: flag", "name: plan, kind: complexity", "policy.features.2.name", "not logged"),
        ("linear_thompson", "thompson", "policy.features", "looks at none"),
        ("kind: flag", "kind: text, buckets: 24", "policy.features", f"at most {MOST_SUMS}"),
    ],
)
def test_a_charter_that_makes_no_sense_is_refused_with_the_field(old, new, field, words):
    text = CHARTER.replace(old, new).replace(
        "arms:\n", "".join(["arms:\n", *(f"  - {{name: a{n}, model: m}}\n" for n in range(9))])
    )
    with pytest.raises(CharterInvalid) as found:
        parse_charter(text)
    problems = {problem.field: problem.message for problem in found.value.problems}
    assert field in problems and words in problems[field], problems


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"linear": []}, "linear: must have the arms"),
        ({"encoding": "other"}, "encoding: is not that"),
        ({"features": []}, "encoding: is not that"),
    ],
)
def test_an_event_that_does_not_fit_together_is_refused(change, words):
    event = build(charter(), [])
    with pytest.raises(ValueError, match=words):
        compile_policy(event | change)
    certain = build(charter(), [])
    certain["linear"][1]["root"][2] = 0.0
    with pytest.raises(ValueError, match=r"linear\.cheap\.root: its diagonal must be positive"):
        compile_policy(certain)
    event["linear"][0]["coefficients"][0] = math.nan
    with pytest.raises(ValueError, match=r"linear\.strong: must be finite"):
        compile_policy(event)
    event["linear"][0]["root"] = [1.0]
    with pytest.raises(ValueError, match=r"linear\.strong: needs 9"):
        compile_policy(event)
