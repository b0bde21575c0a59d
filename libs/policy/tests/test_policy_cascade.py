"""Cascades: an arm's plan as a charter declares it and a policy carries it, its calibration, its lots."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flywheel.policy import CharterInvalid, Summary, build_policy, compile_policy, parse_charter
from flywheel.policy.cascade import LEARNED_WEIGHTS, MOST_KNOTS, Escalation, break_even_doubt, read_plan

CHARTER = """
feature: support-answers
quality: {1.0: judge.helpful}
arms:
  - name: thrifty
    model: openai/gpt-4o-mini
    params: {temperature: 0.2}
    escalate: {to: strong, above: 0.35, calibration: [[0.1, 0.02], [0.5, 0.4]]}
  - {name: strong, model: openai/gpt-4o}
"""
TUNED = (
    CHARTER.replace("above: 0.35, ", "")
    + """
policy: {kind: thompson, explore_floor: 0.02}
tune:
  - {arm: thrifty, param: escalate.above, values: [0.1, 0.3, 1], start: 0.3}
"""
)


def published(text):
    """The policy event of a charter of which nothing is known yet."""
    charter = parse_charter(text)
    return build_policy(
        charter, charter_revision=1, charter_digest="d", policy_version=1, occurred_at_us=1, summaries=[Summary()]
    )


def test_a_policy_carries_the_plan_among_the_parameters():
    event = published(CHARTER)
    params = event["arms"][0]["params"]
    assert set(params) == {"temperature", "escalate"} and event["arms"][1]["params"] == {}
    plan = read_plan(params["escalate"])
    assert (plan.to, plan.above, plan.doubt, plan.width) == ("strong", 0.35, "logprobs", 0.0)
    assert compile_policy(event).plans == {"thrifty": plan}


def test_the_threshold_is_tuned_as_an_arm_for_each_value():
    event = published(TUNED)
    assert [arm["name"] for arm in event["arms"]] == [
        "thrifty:escalate.above:0.1", "thrifty:escalate.above:0.3", "thrifty:escalate.above:1", "strong",
    ]  # fmt: skip
    assert [arm["enabled"] for arm in event["arms"]] == [False, True, False, True]
    plans = compile_policy(event).plans
    assert [plans[arm["name"]].above for arm in event["arms"][:3]] == [0.1, 0.3, 1.0]
    assert {plan.calibration for plan in plans.values()} == {((0.1, 0.02), (0.5, 0.4))}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (CHARTER.replace("to: strong", "to: stron"), r"line 8: arms\.0\.escalate\.to: stron is not an arm"),
        (CHARTER.replace("to: strong", "to: thrifty"), r"arms\.0\.escalate\.to: thrifty escalates itself"),
        (CHARTER.replace("model: openai/gpt-4o}", "model: openai/gpt-4o, enabled: false}"), "strong is not enabled"),
        (CHARTER.replace("above: 0.35, ", ""), r"line 8: arms\.0\.escalate.*above: is missing"),
        (CHARTER.replace("0.35", "1.5"), r"arms\.0\.escalate\.above: Input should be less than or equal to 1"),
        (CHARTER.replace("above:", "abov:"), "did you mean above"),
        (CHARTER.replace("[0.5, 0.4]", "[0.1, 0.4]"), "the raw doubts of calibration must rise; 0.1 follows 0.1"),
        (CHARTER.replace("[0.5, 0.4]", "[0.5, 0.01]"), "the probabilities of calibration must not fall"),
        (CHARTER.replace("[0.5, 0.4]", "[0.5]"), r"arms\.0\.escalate\.calibration\.1"),
        (CHARTER.replace("[0.5, 0.4]", "[0.5, .inf]"), r"arms\.0\.escalate\.calibration\.1\.1"),
        (CHARTER.replace("temperature: 0.2", "escalate: 1"), r"params\.escalate: is no parameter of a model"),
        (TUNED.replace("[0.1, 0.3, 1]", "[0.1, 0.3, 2]"), "values: must be probabilities from 0 to 1"),
        (TUNED.replace("to: strong,", "to: strong, above: 0.1,"), "thrifty declares it too"),
        (TUNED.replace("escalate.above", "escalate.width"), "only escalate.above can be tuned"),
        (TUNED.replace("arm: thrifty", "arm: strong"), "strong does not escalate"),
    ],
)
def test_what_does_not_fit_is_named(text, problem):
    with pytest.raises(CharterInvalid, match=problem):
        parse_charter(text)


def test_a_policy_with_a_plan_that_makes_no_sense_is_refused():
    for plan, problem in [
        ({"to": "nobody", "above": 0.1}, r"arms\.thrifty\.params\.escalate\.to: 'nobody'"),
        ({"to": "strong"}, r"escalate\.above: is missing"),
        ({"to": "strong", "above": "x"}, r"escalate\.above"),
        ([], "escalate: Input should be an object"),
    ]:
        event = published(CHARTER)
        event["arms"][0]["params"]["escalate"] = json.dumps(plan)
        with pytest.raises(ValueError, match=problem):
            compile_policy(event)


def test_a_calibration_is_straight_between_its_points_and_level_beyond():
    plan = Escalation(to="strong", above=0.3, calibration=((0.1, 0.02), (0.5, 0.4)))
    assert [plan.calibrated(raw) for raw in (0.0, 0.1, 0.3, 0.5, 1.0)] == pytest.approx([0.02, 0.02, 0.21, 0.4, 0.4])
    assert Escalation(to="strong", above=0.3).calibrated(0.37) == 0.37


@st.composite
def calibrations(draw):
    xs = sorted(draw(st.sets(st.floats(0, 1, width=32), min_size=1, max_size=MOST_KNOTS)))
    ys = sorted(draw(st.lists(st.floats(0, 1, width=32), min_size=len(xs), max_size=len(xs))))
    return tuple(zip(xs, ys, strict=True))


@given(calibrations(), st.lists(st.floats(0, 1), min_size=2))
def test_a_calibration_is_numpys_interpolation_and_survives_its_text(knots, raws):
    plan = read_plan(Escalation(to="strong", above=0.3, calibration=knots).text())
    found = [plan.calibrated(raw) for raw in sorted(raws)]
    xs, ys = zip(*knots, strict=True)
    assert found == pytest.approx(np.interp(sorted(raws), xs, ys).tolist(), abs=1e-9)
    assert all(after >= before - 1e-12 for before, after in pairwise(found))


def test_lots_are_drawn_only_near_the_threshold():
    plan = Escalation(to="strong", above=0.3)
    assert [plan.chance(doubt) for doubt in (0.2, 0.3, 0.31)] == [0.0, 0.0, 1.0]
    wide = Escalation(to="strong", above=0.3, width=0.1)
    assert [wide.chance(doubt) for doubt in (0.1, 0.2, 0.3, 0.35, 0.4, 0.9)] == pytest.approx([0, 0, 0.5, 0.75, 1, 1])
    never = Escalation(to="strong", above=1.0, width=0.5)
    assert never.chance(1.0) == 0.0, "a plan that only watches"


@pytest.mark.parametrize(
    "field",
    [
        {"above": -0.1},
        {"doubt": "learned"},
        {"weights": (0.1,)},
        {"above": 1.1},
        {"width": 0.6},
        {"doubt": "mood"},
        {"to": ""},
    ],
)
def test_what_is_out_of_range_is_refused(field):
    with pytest.raises(ValidationError):
        Escalation(**{"to": "strong", "above": 0.3, **field})


def test_a_plan_fits_into_a_decision():
    weights = tuple(-1e-6 / (3 + n) for n in range(LEARNED_WEIGHTS))
    knots = tuple((n / 61, n / 67) for n in range(60))
    with pytest.raises(ValidationError, match="more than 4096 characters as JSON; round its numbers"):
        Escalation(to="strong", above=0.3, doubt="learned", weights=weights, calibration=knots)
    rounded = tuple(round(weight, 12) for weight in weights), tuple((round(x, 4), round(y, 4)) for x, y in knots)
    plan = Escalation(to="strong", above=0.3, doubt="learned", weights=rounded[0], calibration=rounded[1])
    assert read_plan(plan.text()) == plan


def test_escalating_pays_from_the_break_even_doubt_on():
    # A dollar must bring 20 of reward; a cent more that repairs a wrong answer pays from a doubt of 20 %.
    assert break_even_doubt(0.01, 20.0) == pytest.approx(0.2)
    assert break_even_doubt(0.01, 20.0, 0.5) == pytest.approx(0.4), "where the strong arm repairs half of them"
    assert break_even_doubt(1.0, 20.0) == 1.0
