"""A policy under controls: who may serve, with which propensity, under which id."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.events import event_id
from flywheel.policy import Constraint, DecideRequest, compile_policy, constrain, decide, decision_event

NOW = 1_795_219_200_000_000
NAMES = ("strong", "cheap", "large")


def policy(**changes):
    arms = [
        {
            "name": name, "model": f"openai/{name}", "prompt_name": None, "prompt_version": None, "params": {},
            "eligible_when": rules, "enabled": enabled, "weight": 20.0, "mean": 0.6, "variance": 0.01, "alpha": alpha,
            "beta": 8.0, "score": 0.0, "propensity": 0.0,
        }
        for name, alpha, rules, enabled in (
            ("strong", 12.0, [], True), ("cheap", 11.0, [], True),
            ("large", 14.0, [{"field": "plan", "operator": "eq", "value": '"pro"'}], True), ("off", 9.0, [], False),
        )
    ]  # fmt: skip
    return compile_policy({
        "project": "acme", "feature": "f", "occurred_at": NOW, "policy_version": 3, "kind": "thompson_beta",
        "default_arm": "strong", "explore_floor": 0.02, "epsilon": 0.0, "stale_after_s": 0.0, "arms": arms,
        "context": ["plan"], **changes,
    })  # fmt: skip


def ask(number=1, plan="pro"):
    return DecideRequest("acme", "f", f"r{number}", {"plan": plan})


def test_a_disabled_arm_never_serves_and_the_rest_keep_a_distribution():
    held = constrain(policy(), [Constraint("c1", "disable", ("strong",))])
    made = [decide(held, ask(n), NOW) for n in range(300)]
    assert {d.arm for d in made} == {"cheap", "large"}
    assert made[0].arms == ("cheap", "large") and math.isclose(sum(made[0].propensities), 1.0, abs_tol=1e-9)
    assert {d.control for d in made} == {"c1"} and {d.reason for d in made} == {"policy"}
    assert decision_event(made[0], ask(0), occurred_at_us=NOW)["control"] == "c1"
    alone = decide(held, ask(1, "free"), NOW)
    assert (alone.arm, alone.propensity, alone.fallback) == ("cheap", 1.0, False)


def test_a_pinned_arm_is_certain_and_serves_also_whom_its_rule_shuts_out():
    held = constrain(policy(), [Constraint("p", "pin", ("large",)), Constraint("d", "disable", ("cheap",))])
    assert {decide(held, ask(n), NOW).arm for n in range(50)} == {"large"}
    assert decide(held, ask(1), NOW).propensities == (1.0,) and decide(held, ask(1), NOW).control == "d+p"
    shut_out = decide(held, ask(1, "free"), NOW)
    assert (shut_out.arm, shut_out.reason, shut_out.fallback) == ("large", "nothing_eligible", True)


def test_a_paused_policy_gives_the_default_for_certain():
    held = constrain(policy(), [Constraint("p", "pause")])
    made = decide(held, ask(), NOW)
    assert (made.arm, made.propensity, made.reason, made.fallback, made.control) == ("strong", 1.0, "paused", True, "p")
    assert held.outlook({}, NOW).arms == 0
    other = constrain(policy(), [Constraint("p", "pause"), Constraint("d", "disable", ("strong",))])
    assert decide(other, ask(), NOW).arm == "cheap"


def test_a_decision_under_a_control_has_an_id_of_its_own():
    plain, held = policy(), constrain(policy(), [Constraint("c1", "disable", ("strong",))])
    assert decide(plain, ask(), NOW).decision_id == event_id("decision", "acme", "f", "r1", 3)
    assert decide(held, ask(), NOW).decision_id == event_id("decision", "acme", "f", "r1", 3, "c1")
    assert decide(plain, ask(), NOW).control is None
    assert "control" not in decision_event(decide(plain, ask(), NOW), ask(), occurred_at_us=NOW)


def test_what_bears_on_nothing_changes_nothing():
    plain = policy()
    for constraint in (
        Constraint("c", "disable", ("unknown", "off")),
        Constraint("c", "disable", NAMES),
        Constraint("c", "pin", ("off",)),
    ):
        assert constrain(plain, [constraint]) is plain


constraints = st.builds(
    Constraint, st.sampled_from("abcdef"), st.sampled_from(["disable", "pin", "pause"]),
    st.lists(st.sampled_from([*NAMES, "off", "unknown"]), max_size=4).map(tuple),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(made=st.lists(constraints, max_size=5), plan=st.sampled_from(["pro", "free"]), number=st.integers(0, 50))
def test_some_arm_always_serves_and_never_one_that_is_off(made, plan, number):
    held = constrain(policy(), made)
    decision = decide(held, ask(number, plan), NOW)
    assert decision.arm in NAMES
    assert math.isclose(sum(decision.propensities), 1.0, abs_tol=1e-9)
    assert decision.propensities[decision.arms.index(decision.arm)] == decision.propensity > 0
    disabled = {name for each in made if each.kind == "disable" for name in each.arms}
    if not set(NAMES) <= disabled:
        assert decision.arm not in disabled or sum(e.kind == "disable" for e in made) > 1
