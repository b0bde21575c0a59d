"""Rules as they are written: what fits what, and what is wrong with which line."""

from __future__ import annotations

import pytest

from flywheel.control import RulesInvalid, Signal, parse_rules
from flywheel.control.shipped import default_rules

GOOD = """version: 2
rules:
  - name: a
    when: {kind: error_rate, value: {above: 0.01}}
    do: [{action: disable}]
  - name: b
    priority: 5
    when: {kind: [error_rate, latency], severity: critical, scope: {feature: f}}
    do: [{action: pin, arm: cheap}, {action: escalate}]
"""


def signal(kind="error_rate", *, severity="critical", scope=None, **figures):
    known = {name: figures.get(name) for name in ("value", "threshold", "observed", "expected")}
    return Signal(kind, severity, scope or {}, **known, verdict=figures.get("verdict", ""))


def test_the_rule_of_highest_priority_that_fits_answers():
    tree = parse_rules(GOOD)
    assert tree.rule_for(signal(value=0.02)).name == "a"
    assert tree.rule_for(signal(value=0.02, scope={"feature": "f"})).name == "b"
    assert tree.rule_for(signal(severity="warning", value=0.02, scope={"feature": "f"})).name == "a"
    assert tree.rule_for(signal(value=0.01)) is None and tree.rule_for(signal(value=float("nan"))) is None
    assert tree.rule_for(signal(kind="drift")) is None


@pytest.mark.parametrize(("alert", "name"), [
    (signal(value=0.011, threshold=0.01), "errors"),
    (signal("cost_per_call", observed=2.1, expected=1.0), "cost"),
    (signal("cost_per_call", value=2.1, threshold=1.0), "cost"),
    (signal("cost_per_call", observed=1.85, expected=1.0), "cost"),
    (signal("cost_per_call", observed=1.7, expected=1.0), "slow-decay"),
    (signal("refusal_rate", value=0.11), "refusals"),
    (signal("refusal_rate", value=0.09), "slow-decay"),
    (signal("latency", observed=2600.0, expected=1000.0), "slow"),
    (signal("latency", observed=2400.0, expected=1000.0), "slow-decay"),
    (signal("quality", observed=0.63, expected=0.8), "quality"),
    (signal("quality", observed=0.65, expected=0.8), "slow-decay"),
    (signal("quality", observed=0.63, expected=0.8, verdict="quality"), "quality"),
    (signal("quality", observed=0.63, expected=0.8, verdict="both"), "quality"),
    (signal("quality", observed=0.63, expected=0.8, verdict="judge"), "judge"),
    (signal("judge_drift", observed=-0.1, expected=0.0), "judge-drift"),
    (signal("drift"), "slow-decay"),
    (signal("silence"), "silence"),
    (signal("guardrail", value=0.2, threshold=0.05), "guardrail"),
    (signal("proxy_divergence", value=0.9, threshold=0.5), "gamed-proxy"),
])  # fmt: skip
def test_the_default_tree_is_that_of_the_seeds(alert, name):
    assert default_rules().rule_for(alert).name == name


def test_a_rule_that_names_no_verdict_answers_any():
    tree = parse_rules(GOOD.replace("kind: error_rate", "kind: quality"))
    for verdict in ("judge", "quality", "both", ""):
        assert tree.rule_for(signal("quality", verdict=verdict, value=0.02)).name == "a"
    with pytest.raises(RulesInvalid, match="verdict"):
        parse_rules(GOOD.replace("kind: error_rate", "kind: quality, verdict: jury"))


def test_figures_of_an_alert():
    assert signal(observed=0.6, expected=0.8).deviation == pytest.approx(0.25)
    assert signal(value=0.08, threshold=0.01).deviation == pytest.approx(7.0)
    assert signal(value=1.0).deviation is None and signal(value=1.0, threshold=0.0).change is None


@pytest.mark.parametrize(("change", "line", "field"), [
    (("version: 2", "version: two"), 1, "version"),
    (("action: disable", "action: burn"), 5, "rules.0.do.0.action"),
    (("above: 0.01", "abov: 0.01"), 4, "rules.0.when.value.abov"),
    (("value: {above: 0.01}", "value: {}"), 4, "rules.0.when.value"),
    (("name: b", "name: a"), 2, "rules"),
    (("priority: 5", "verify: {within: 2h}"), 6, "rules.1.expires_after"),
    (("priority: 5", "cooldown: soon"), 7, "rules.1.cooldown"),
    (("do: [{action: disable}]", "do: []"), 5, "rules.0.do"),
])  # fmt: skip
def test_every_problem_has_its_line_and_field(change, line, field):
    with pytest.raises(RulesInvalid) as error:
        parse_rules(GOOD.replace(*change))
    problem = error.value.problems[0]
    assert (problem.line, problem.field) == (line, field), str(problem)


def test_what_is_no_mapping_is_refused():
    with pytest.raises(RulesInvalid):
        parse_rules("- 1")
