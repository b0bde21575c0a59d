"""Charges of a policy's own constraints, from its event to the draw: propensities stay true, budgets' add up."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.events import Codec, LocalRegistry
from flywheel.policy import (
    DecideRequest,
    Summary,
    build_policy,
    choice_probabilities,
    compile_policy,
    decide,
    nano,
    parse_charter,
    unit_of,
)
from flywheel.policy.bounds import measures, uses_of
from flywheel.policy.features import ONE
from flywheel.policy.linear_policy import typical_contexts
from flywheel.policy.moments import MomentSummary, outcome_vector
from flywheel.policy.reward import Composition
from flywheel.policy.uses import UseSummary

START_US = 1_795_200_000_000_000
TEXT = """
feature: f
quality: {q: 1}
reward: {min: 0, max: 1}
constraints: CONSTRAINTS
arms: [{name: dear, model: m}, {name: cheap, model: m}, {name: new, model: m}]
policy: {kind: KIND, explore_floor: 0.05, default: cheap}
"""
FEATURES = ", features: [{name: n, kind: number, low: 0, high: 1}]}"


def published(constraints="{p95_latency_ms: 3000}", kind="thompson", requests=400, features=FEATURES):
    """A policy after requests to two arms: the dear one is better, and slow in three of ten."""
    text = TEXT.replace("CONSTRAINTS", constraints).replace("KIND", kind)
    text = text.replace("default: cheap}", f"default: cheap{features}") if "linear" in kind else text
    charter = parse_charter(text)
    names, summary, uses, moments = measures(charter.constraints), Summary(), UseSummary(), MomentSummary()
    for number in range(requests):
        at, dear = unit_of(START_US + 1_000_000 * number), number % 2 == 0
        arm, reward = ("dear" if dear else "cheap"), float(number % 10 < (8 if dear else 5))
        slow = dear and number % 20 < 6
        composed = Composition(True, 0, reward, Decimal("0.02" if dear else "0.001"), 4e3 if slow else 1e3, {}, ())
        summary.add(at, arm, nano(reward))
        uses.add(at, arm, uses_of(names, composed, {"leak": float(not dear and number % 4 == 1)}))
        vector = (ONE, number % 3 * ONE // 2, 0)
        if charter.policy.linear:
            moments.add(at, arm, outcome_vector(vector, reward, (0.0, 1.0)))
    return build_policy(
        charter, charter_revision=1, charter_digest="d", policy_version=2, occurred_at_us=START_US,
        summaries=[summary], uses=[uses], moments=[moments],
    )  # fmt: skip


def off_the_wire(event):
    codec = Codec(LocalRegistry.load())
    return codec.decode(codec.encode("policy", event)).value


@pytest.mark.parametrize("kind", ["thompson", "thompson_gaussian", "epsilon_greedy", "linear_thompson"])
def test_the_event_charges_the_slow_arm_and_whoever_decides_does_as_it_says(kind):
    free, event = published("{error_rate: 0.5}", kind), off_the_wire(published(kind=kind))
    (price,) = event["prices"]
    charges = {standing["name"]: standing["charge"] for standing in event["standings"]}
    assert price["constraint"] == "p95_latency_ms" and price["used"] > price["bound"] > price["target"]
    assert charges["dear"] > charges["cheap"] == 0.0
    assert event["arms"][0]["propensity"] < free["arms"][0]["propensity"]
    assert not free["prices"] and compile_policy(free).own is None
    compiled = compile_policy(event)
    if compiled.linear is None:
        subset = compiled.distribution(0b111, ())
        assert subset.propensities == pytest.approx([arm["propensity"] for arm in event["arms"]])


@pytest.mark.parametrize("kind", ["thompson", "linear_thompson"])
def test_what_is_drawn_is_what_is_logged(kind):
    compiled, draws = (
        compile_policy(off_the_wire(published("{p95_latency_ms: 3000, q: {min: 0.1, strict: true}}", kind))),
        4000,
    )
    seen, said = Counter(), None
    for number in range(draws):
        made = decide(compiled, DecideRequest("default", "f", str(number), {"n": 0.5}), START_US)
        seen[made.arm] += 1
        said = dict(zip(made.arms, made.propensities, strict=True))
    assert sum(said.values()) == pytest.approx(1.0)
    for arm, share in said.items():
        assert abs(seen[arm] / draws - share) < 4 * (share * (1 - share) / draws) ** 0.5 + 1e-9


def test_a_budgets_charges_add_up_with_the_policys_own():
    event = published()
    own = np.array([standing["charge"] for standing in event["standings"]])
    compiled, extra = compile_policy(event), (0.1, 0.0, 0.2)
    expected = choice_probabilities(
        event["kind"], event["arms"], explore_floor=0.05, epsilon=0.0, charges=tuple(own + extra)
    )
    assert compiled.distribution(0b111, (), extra).propensities == expected.values
    earned = compiled.beliefs((), 0b101)
    assert [one.mean for one in earned] == pytest.approx(
        [event["arms"][place]["mean"] - own[place] for place in (0, 2)]
    )


@pytest.mark.parametrize("kind", ["thompson", "ucb1", "linear_thompson"])
def test_an_arm_held_to_exploring_gets_the_floor_unless_it_alone_may_serve(kind):
    event = off_the_wire(published("{quality: {min: 0.3, strict: true}}", kind))
    standings = {standing["name"]: standing for standing in event["standings"]}
    assert [standings[arm]["unproven"] for arm in ("dear", "cheap", "new")] == [None, None, "quality"]
    compiled = compile_policy(event)
    features = compiled.encode({"n": 0.5})
    assert compiled.distribution(0b111, features).propensities[2] == pytest.approx(0.05)
    assert compiled.distribution(0b100, features).propensities == (1.0,)
    # Even at the price of money that hits the others.
    assert compiled.distribution(0b111, features, (5.0, 5.0, 0.0)).propensities[2] == pytest.approx(0.05)


def test_an_arm_that_breaks_a_floor_does_not_serve_and_is_said_to():
    event = published("{leak: {max: 0.1}}")
    assert [arm["enabled"] for arm in event["arms"]] == [True, False, True]
    cheap = event["standings"][1]
    assert cheap["breaks"] == "leak" and event["arms"][1]["propensity"] == 0.0
    (leak,) = [each for each in cheap["measures"] if each["measure"] == "score:leak"]
    assert leak["mean"] == pytest.approx(0.5) and leak["low"] > 0.1
    assert decide(compile_policy(event), DecideRequest("default", "f", "r"), START_US).arm != "cheap"


def test_shares_that_are_declared_know_no_price():
    charter = (
        TEXT.replace("CONSTRAINTS", "{p95_latency_ms: 3000}").replace("KIND", "static").replace("m}", "m, share: 1}")
    )
    uses = UseSummary()
    uses.add(1 << 30, "dear", uses_of(("quality", "cost_usd", "latency_ms", "latency_ms>3000"),
                                      Composition(True, 0, 1.0, None, 5000.0, {}, ()), {}))  # fmt: skip
    event = build_policy(
        parse_charter(charter), charter_revision=1, charter_digest="d", policy_version=1, occurred_at_us=0,
        summaries=[], uses=[uses],
    )  # fmt: skip
    assert event["prices"] == [] and [arm["propensity"] for arm in event["arms"]] == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: found.pop(), "standings: must have the arms"),
        (lambda found: found[0].update(charge=-1.0), "standings: a charge lies between"),
        (lambda found: found[0].update(charge=float("nan")), "standings: a charge lies between"),
    ],
)
def test_charges_that_make_no_sense_are_refused(change, said):
    event = published()
    change(event["standings"])
    with pytest.raises(ValueError, match=said):
        compile_policy(event)


@given(st.integers(1, 7), st.tuples(*[st.floats(0, 1)] * 3))
@settings(max_examples=40, deadline=None)
def test_propensities_of_any_arms_and_charges_add_up_and_keep_the_floor(mask, extra):
    compiled = compile_policy(EVENT)
    bits = [place for place in range(3) if mask >> place & 1]
    found = compiled.distribution(mask, (), tuple(extra[place] for place in bits)).propensities
    assert sum(found) == pytest.approx(1.0) and min(found) >= 0.05 - 1e-12


EVENT = published("{p95_latency_ms: 3000, usd_per_hour: 2, quality: {min: 0.3, strict: true}}")


def test_typical_contexts_have_the_mean_and_the_spread_of_those_seen():
    features = ", features: [{name: long, kind: flag}, {name: n, kind: number, low: 0, high: 1}]}"
    text = TEXT.replace("CONSTRAINTS", "{}").replace("KIND", "linear_thompson").replace("cheap}", f"cheap{features}")
    charter, moments = parse_charter(text), MomentSummary()
    assert typical_contexts(charter, moments) == [compile_policy(built(charter, moments)).encode({})]
    encode = compile_policy(built(charter, moments)).encode
    seen = [encode({"long": n % 2 == 0, "n": (n % 7) / 7 if n % 5 else None}) for n in range(140)]
    for number, features in enumerate(seen):
        moments.add(1 << 20, "dear" if number % 3 else "cheap", outcome_vector(features, 0.5, (0.0, 1.0)))
    found = np.array(typical_contexts(charter, moments))
    assert found.mean(axis=0) == pytest.approx(np.mean(seen, axis=0))
    # One 4096th of a deviation is added in each direction, so that a slot that never varied makes no trouble.
    expected = np.cov(np.array(seen).T, bias=True)[1:, 1:] + np.eye(len(seen[0]) - 1)
    assert np.cov(found.T, bias=True)[1:, 1:] == pytest.approx(expected, rel=1e-6, abs=1e-3)
    assert set(np.round(found[:, 1])) == {0.0, ONE}


def built(charter, moments):
    return build_policy(
        charter, charter_revision=1, charter_digest="d", policy_version=1, occurred_at_us=0, summaries=[],
        moments=[moments],
    )  # fmt: skip
