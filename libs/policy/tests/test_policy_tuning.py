"""Tuning a parameter along its grid: which points may serve, and what comes of it."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.policy import (
    CharterInvalid,
    Constraint,
    Evidence,
    Summary,
    build_policy,
    compile_policy,
    constrain,
    nano,
    parse_charter,
)
from flywheel.policy.difference import log_evidence
from flywheel.policy.tuning import FALSE_STEP, TuneSpec, open_points
from flywheel.testkit.tuning_worlds import FLAT, UNIMODAL, charter_of, play

CHARTER = """\
feature: f
quality: {q: 1}
reward: {min: 0, max: 1}
arms:
  - {name: strong, model: openai/gpt-4o}
  - {name: cheap, model: openai/gpt-4o-mini, params: {max_tokens: 600}}
policy: {kind: thompson, explore_floor: 0.02, default: cheap}
tune:
  - {arm: cheap, param: temperature, values: [0, 0.2, 0.4, 0.7, 1.0], start: 0.4, min_outcomes: 50}
"""
COLD, COOL, START, WARM, HOT = (f"cheap:temperature:{value}" for value in ("0", "0.2", "0.4", "0.7", "1.0"))


def published(rewards, text=CHARTER):
    """Return the policy after so many rewards of 1 and 0 by arm."""
    summary = Summary()
    for arm, (won, lost) in rewards.items():
        for value in [1.0] * won + [0.0] * lost:
            summary.add(1, arm, nano(value))
    return build_policy(
        parse_charter(text), charter_revision=1, charter_digest="d", policy_version=2, occurred_at_us=1,
        summaries=[summary],
    )  # fmt: skip


def serving(event):
    return [arm["name"] for arm in event["arms"] if arm["enabled"]]


def test_a_tuned_arm_is_an_arm_for_each_value_and_begins_at_its_start():
    event = published({})
    assert [arm["name"] for arm in event["arms"]] == ["strong", COLD, COOL, START, WARM, HOT]
    assert serving(event) == ["strong", START] and event["default_arm"] == START
    assert event["arms"][3]["params"] == {"max_tokens": "600", "temperature": "0.4"}
    assert [arm["propensity"] for arm in event["arms"]] == pytest.approx([0.5, 0, 0, 0.5, 0, 0])
    assert compile_policy(event).full_mask == 0b001001


def test_the_first_step_waits_for_outcomes_and_the_next_for_proof():
    assert serving(published({START: (35, 14)})) == ["strong", START]
    assert serving(published({START: (35, 15)})) == ["strong", COOL, START, WARM]
    even = {START: (35, 15), WARM: (36, 14)}
    assert HOT not in serving(published(even))
    risen = {START: (300, 200), WARM: (400, 100)}
    assert serving(published(risen)) == ["strong", COOL, WARM, HOT]


def test_a_point_proven_worse_is_left_and_one_that_was_tried_stays_open():
    event = published({START: (400, 100), WARM: (250, 250), COOL: (3, 1)})
    assert serving(event) == ["strong", COOL, START]
    generous = CHARTER.replace("min_outcomes: 50", "min_outcomes: 50, drop: 0.4")
    assert WARM in serving(published({START: (400, 100), WARM: (250, 250)}, generous))


def test_neighbours_tell_of_a_point_more_than_distant_ones_do():
    event = published({START: (90, 10)})
    priors = {prior["name"]: prior for prior in event["priors"]}
    means = [priors[name]["mean"] for name in (WARM, HOT)]
    assert means[0] > means[1] > 0.5 and priors[WARM]["relatives"].keys() == {START}
    assert priors["strong"]["relatives"] == {} and priors["strong"]["weight"] == pytest.approx(2.0)


def test_a_step_of_two_opens_two_places():
    text = CHARTER.replace("min_outcomes: 50", "min_outcomes: 50, step: 2").replace("start: 0.4", "start: 0")
    event = published({COLD: (40, 20)}, text)
    assert serving(event) == ["strong", COLD, COOL, START]


@given(
    st.lists(st.tuples(st.integers(0, 400), st.floats(0, 1)), min_size=7, max_size=7),
    st.integers(0, 6),
    st.integers(1, 3),
)
def test_nothing_serves_more_than_a_step_from_points_with_outcomes_and_something_always_serves(found, start, step):
    spec = TuneSpec(arm="a", param="t", values=list(range(7)), start=start, step=step, min_outcomes=50)
    names = spec.names()
    tried = {name: n for name, (n, _) in zip(names, found, strict=True)}
    evidence = {
        name: Evidence(float(n), n * rate, n * rate * rate) for name, (n, rate) in zip(names, found, strict=True)
    }
    opened = open_points(spec, tried, evidence, width=1.0, prior_weight=2.0)
    places = {names.index(name) for name in opened}
    ready = {place for place, name in enumerate(names) if tried[name] >= 50}
    assert places
    for place in places:
        assert tried[names[place]] or place == start or any(abs(place - near) <= step for near in ready)


def test_the_evidence_by_hand():
    # 100 of 200 against 160 of 200, tightest at 200: information 1 / (v1/200 + v2/200), half of it discounted.
    v1, v2 = (0.5 + 50) / 202, (0.5 + 32) / 202
    known = 200 / (v1 + v2)
    found = log_evidence(
        Evidence(200, 160, 160), Evidence(200, 100, 100), by=0.0, most_at=200, width=1.0, prior_weight=2.0
    )
    assert found == pytest.approx(0.5 * 0.09 * known / 2 - 0.5 * math.log(2))
    assert log_evidence(Evidence(9, 1, 1), Evidence(9, 2, 2), by=0.0, most_at=9, width=1, prior_weight=2) == 0.0


@pytest.mark.parametrize("rate", [0.5, 0.95])
def test_equal_points_are_hardly_ever_told_apart_however_often_one_looks(rate):
    """2,000 runs of two alike coins, looked at after each of 50 to 5,000 outcomes of each: at most FALSE_STEP of them
    are told apart, by more than three standard errors of that share."""
    random = np.random.default_rng(5)
    runs, most = 2000, 5000
    told = 0
    for _ in range(runs // 100):
        wins = (random.random((2, 100, most)) < rate).cumsum(axis=2)[:, :, 49:]
        n = np.arange(50, most + 1)
        difference = (wins[0] - wins[1]) / n
        variances = (0.5 + wins - wins**2 / n) / (2 + n)
        known = n / variances.sum(axis=0)
        tuned = 50 / variances.sum(axis=0)
        log_e = 0.5 * difference**2 * known**2 / (known + tuned) - 0.5 * np.log1p(known / tuned)
        told += int(((log_e > -math.log(FALSE_STEP)) & (difference > 0)).any(axis=1).sum())
        one = [Evidence(float(n[-1]), float(w[0, -1]), float(w[0, -1])) for w in wins]
        at_end = log_evidence(*one, by=0.0, most_at=50, width=1.0, prior_weight=2.0)
        assert at_end == pytest.approx(float(log_e[0, -1]) if difference[0, -1] > 0 else 0.0)
    assert told / runs < FALSE_STEP + 3 * math.sqrt(FALSE_STEP / runs)


@pytest.mark.slow
def test_the_best_of_a_smooth_curve_is_found():
    """From the second of seven points; four seeds (`python tests/bench/run.py tuning` plays 100)."""
    charter = charter_of(7, start=1)
    best = max(UNIMODAL)
    for seed in range(4):
        found = play(charter, lambda at: UNIMODAL, seed=seed, requests=8000)
        assert best - UNIMODAL[found.favourite(80)] <= 0.02 + 1e-9, (seed, found.tried)


@pytest.mark.slow
def test_a_flat_curve_is_not_wandered_along():
    charter = charter_of(7, start=3)
    tried = Counter[int]()
    for seed in range(4):
        found = play(charter, lambda at: FLAT, seed=seed, requests=4000)
        tried.update(np.flatnonzero(found.tried).tolist())
    assert set(tried) == {2, 3, 4}


@pytest.mark.slow
def test_the_last_good_points_serve_again_when_the_one_in_use_is_spoiled():
    charter = charter_of(7, start=4)
    spoiled = (*UNIMODAL[:5], 0.2, 0.2)
    for seed in range(3):
        found = play(charter, lambda at: UNIMODAL if at < 3000 else spoiled, seed=seed, requests=5000, every=50)
        assert found.shares[-10:, 5:].sum(axis=1).mean() < 0.15
        assert found.favourite(100) in (3, 4)


@pytest.mark.parametrize(
    ("written", "instead", "problem"),
    [
        ("arm: cheap, param", "arm: dear, param", "line 9: tune.0.arm: dear is not an arm; one of strong, cheap"),
        ("start: 0.4", "start: 0.3", "line 9: tune.0: start 0.3 is not one of the values 0, 0.2, 0.4, 0.7, 1.0"),
        ("[0, 0.2, 0.4", "[0.2, 0, 0.4", "line 9: tune.0: values must be in order"),
        ("[0, 0.2, 0.4", "[0, 0, 0.4", "line 9: tune.0: values must differ"),
        ("[0, 0.2, 0.4", "[0, low, 0.4", "line 9: tune.0: values must be in order"),
        ("[0, 0.2, 0.4", "[0, true, 0.4", "line 9: tune.0.values: True is no number"),
        ("[0, 0.2, 0.4", "[0, 'a b', 0.4", "line 9: tune.0.values: 'a b' is no number"),
        ("[0, 0.2, 0.4, 0.7, 1.0]", "[0.4]", "line 9: tune.0.values: List should have at least 2"),
        ("param: temperature", "param: max_tokens", "line 9: tune.0.param: cheap has it among its params too"),
        ("min_outcomes: 50", "min_outcomes: 5", "line 9: tune.0.min_outcomes: Input should be greater than"),
        ("min_outcomes", "min_outcome", "line 9: tune.0.min_outcome: unknown field; did you mean min_outcomes?"),
        ("min_outcomes: 50", "step: 0", "line 9: tune.0.step: Input should be greater than or equal to 1"),
        ("kind: thompson", "kind: ucb1", "line 8: tune: ucb1 does not believe that neighbours are alike"),
        ("explore_floor: 0.02", "explore_floor: 0", "line 7: policy.explore_floor: tune needs at least 0.01"),
        ("explore_floor: 0.02", "explore_floor: 0.2", "line 7: policy.explore_floor: 6 arms cannot each have"),
        ("kind: thompson", "half_life: 50 outcomes", "line 9: tune.0.min_outcomes: of all arms' outcomes"),
        ("name: strong", "name: cheap:temperature:0", "line 9: tune.0.arm: cheap:temperature:0 is an arm already"),
    ],
)
def test_a_mistake_is_named_with_line_and_field(written, instead, problem):
    assert written in CHARTER
    with pytest.raises(CharterInvalid) as caught:
        parse_charter(CHARTER.replace(written, instead, 1))
    found = [str(one) for one in caught.value.problems]
    assert any(line.startswith(problem) for line in found), found


def test_one_parameter_of_an_arm_at_a_time():
    more = "  - {arm: cheap, param: top_p, values: [0.5, 1], start: 1}\n"
    with pytest.raises(CharterInvalid, match=r"tune\.1\.arm: another parameter of cheap is tuned already"):
        parse_charter(CHARTER + more)


def test_efforts_are_words_in_their_declared_order():
    efforts = "effort, values: [low, medium, high], start: low"
    text = CHARTER.replace("temperature, values: [0, 0.2, 0.4, 0.7, 1.0], start: 0.4", efforts)
    low, medium = "cheap:effort:low", "cheap:effort:medium"
    assert serving(published({low: (40, 20)}, text)) == ["strong", low, medium]


def test_a_kind_that_looks_at_the_context_tunes_too():
    text = CHARTER.replace("kind: thompson,", "kind: linear_thompson, features: [{name: premium, kind: flag}],")
    event = published({START: (40, 20)}, text)
    assert serving(event) == ["strong", COOL, START, WARM]
    compiled = compile_policy(event)
    at = compiled.encode({"premium": True})
    assert compiled.distribution(compiled.full_mask, at).names == ("strong", COOL, START, WARM)
    prior = next(prior for prior in event["priors"] if prior["name"] == WARM)
    assert event["linear"][4]["coefficients"][0] == pytest.approx(prior["mean"]) and prior["mean"] > 0.5


def test_a_point_that_a_control_disables_leaves_the_open_ones():
    compiled = compile_policy(published({START: (40, 20)}))
    control = Constraint(control_id="c", kind="disable", arms=(START, "strong"))
    held = constrain(compiled, [control])
    assert [arm.name for place, arm in enumerate(held.arms) if held.full_mask >> place & 1] == [COOL, WARM]
    assert held.default.name == COOL
