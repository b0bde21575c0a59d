"""The default rules: what is done about what, how it is judged and taken back."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from flywheel.control import Item, parse_rules
from flywheel.control.shipped import default_rules_text
from flywheel.events import rfc3339
from flywheel.stream import Reject, Skip

_spec = importlib.util.spec_from_file_location("controller_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)
BAD = {"value": 0.08, "threshold": 0.01}
ONE_RULE = """version: 2
limits: {{per_hour: {per_hour}, per_feature_per_hour: {per_feature}}}
rules:
  - name: errors
    when: {{kind: error_rate}}
    do: [{{action: disable}}]
    cooldown: 1s
    verify: {{within: 60s}}
    expires_after: 2m
    flaps: {{most: {most}, within: 24h}}
"""


def test_errors_after_a_change_take_it_back_and_that_is_verified(world):
    world.charter(2, at_s=3600)
    world.alert("e", "error_rate", at_s=3700, **BAD)
    assert world.prompts() == ["1"] and world.controls() == []
    (applied,) = [a for a in world.actions() if a["state"] == "applied"]
    assert applied["kind"] == "rollback" and applied["cause"] == ["e"] and applied["expires_at"] is None
    assert applied["verify_by"] == applied["applied_at"] + 600_000_000 and applied["value_before"] == pytest.approx(7.0)
    world.resolve("e", "error_rate", at_s=3900)
    world.ticks(3900 + 86_400, 600)
    assert world.steps() == [("rollback", "applied"), ("rollback", "verified")]
    assert world.prompts() == ["1"] and world.told() == []


def test_a_change_read_behind_the_alert_it_caused_is_taken_back_all_the_same(world):
    """The controller was away: the charter and the alert wait on two topics, and either may be read first."""
    world.alert("e", "error_rate", at_s=3700, **BAD)
    assert world.controls() == [("disable", ("strong",))]
    world.charter(2, at_s=3701, occurred_s=3600)
    assert world.controls() == [] and world.prompts() == ["1"]
    assert world.steps() == [("disable", "applied"), ("disable", "superseded"), ("rollback", "applied")]


def test_an_alert_waits_for_the_charter_it_was_noticed_under(world):
    """Which charter that was the detector says: nothing is done before the change that may be to blame is read."""
    world.alert("e", "error_rate", at_s=3700, attributes={"charter_revision": "2"}, **BAD)
    assert world.steps() == []
    world.charter(2, at_s=3701, occurred_s=3600)
    assert world.prompts() == ["1"] and world.controls() == []
    assert world.steps() == [("rollback", "applied")]


@pytest.mark.parametrize("revision", ["2", "9" * 18])
def test_a_charter_that_does_not_come_is_waited_for_until_the_time_is_told(world, revision):
    """It is told when nothing waits to be read: then there is no such charter."""
    world.alert("e", "error_rate", at_s=3700, attributes={"charter_revision": revision}, **BAD)
    assert world.steps() == []
    world.tick(3702)
    assert world.steps() == [("disable", "applied")] and world.controls() == [("disable", ("strong",))]


@pytest.mark.parametrize("revision", ["1", "0", "", "-3", "2.5", "nan", "²", "9" * 19])
def test_an_alert_under_a_known_charter_or_none_that_makes_sense_is_answered_at_once(world, revision):
    world.alert("e", "error_rate", at_s=3700, attributes={"charter_revision": revision}, **BAD)
    assert world.steps() == [("disable", "applied")]


def test_a_person_is_told_of_traffic_that_fell_and_not_of_a_rise(world):
    """No rule can bring callers back."""
    world.alert("rise", "traffic", scope={"feature": "support"}, attributes={"observed": "200", "expected": "60"})
    assert world.steps() == [] and world.told() == []
    world.alert("fall", "traffic", scope={"feature": "support"}, attributes={"observed": "20", "expected": "60"})
    assert world.steps() == [("escalate", "proposed")] and world.controls() == []
    assert world.told() == [("action_escalated", "firing")]


def test_a_change_made_after_the_alert_is_not_blamed(world):
    world.alert("e", "error_rate", at_s=3700, **BAD)
    world.charter(2, at_s=3701)
    assert world.controls() == [("disable", ("strong",))] and world.prompts() == []


def at(seconds):
    return rfc3339(parts.T0 + seconds * 1_000_000)


@pytest.mark.parametrize("change", [3560, 3699])
def test_a_change_made_after_the_trouble_began_is_not_blamed_though_it_came_before_the_alert(world, change):
    world.charter(2, at_s=change)
    world.alert("e", "error_rate", at_s=3700, attributes={"since": at(3400)}, **BAD)
    assert world.controls() == [("disable", ("strong",))] and world.prompts() == []
    assert world.steps() == [("disable", "applied")]


@pytest.mark.parametrize("change", [3300, 3400, 3540])
def test_a_change_made_before_it_or_about_when_it_began_is_blamed(world, change):
    """When it began is an estimate: nearer to that than to the alert, the change may be the cause."""
    world.charter(2, at_s=change)
    world.alert("e", "error_rate", at_s=3700, attributes={"since": at(3400)}, **BAD)
    assert world.prompts() == ["1"] and world.controls() == []


def test_a_change_within_the_second_in_which_it_began_is_blamed(world):
    """A beginning is told in whole seconds, so it is up to a second too early."""
    world.charter(2, at_s=3699.9)
    world.alert("e", "error_rate", at_s=3700.2, attributes={"since": at(3699)[:19] + "Z"}, **BAD)
    assert world.prompts() == ["1"]


@pytest.mark.parametrize(
    "since", ["", "yesterday", "-1", "1970-01-01T00:00:00Z", at(3701), "9999-12-31T23:59:59-23:00"]
)
def test_a_beginning_that_makes_no_sense_exonerates_no_change(world, since):
    world.charter(2, at_s=3690)
    world.alert("e", "error_rate", at_s=3700, attributes={"since": since}, **BAD)
    assert world.prompts() == ["1"]


def test_a_change_read_behind_the_alert_is_not_blamed_either_where_it_came_after_the_beginning(world):
    world.alert("e", "error_rate", at_s=3700, attributes={"since": at(3400)}, **BAD)
    world.charter(2, at_s=3701, occurred_s=3690)
    assert world.controls() == [("disable", ("strong",))] and world.prompts() == []


def test_by_when_it_began_the_first_report_says(world):
    """Later ones lie ever farther from the beginning, and so would blame ever later changes."""
    world.charter(2, at_s=3600)
    world.alert("q", "error_rate", at_s=3700, attributes={"since": at(3400)}, value=0.009, threshold=0.005)
    assert world.steps() == []  # so small a rate no rule answers
    world.alert("q", "error_rate", at_s=4000, attributes={"since": at(3400)}, **BAD)
    assert world.controls() == [("disable", ("strong",))] and world.prompts() == []


def test_a_rollback_without_effect_is_undone_and_a_person_is_told(world):
    world.charter(2, at_s=3600)
    world.alert("e", "error_rate", at_s=3700, **BAD)
    world.alert("e", "error_rate", at_s=4000, value=0.075, threshold=0.01)  # hardly better
    world.ticks(4400)
    assert world.prompts() == ["1", "2"]
    assert world.steps() == [("rollback", "applied"), ("rollback", "undone")]
    assert world.told() == [("action_failed", "firing")]
    world.ticks(20_000, 60)
    assert world.steps()[2:] == []  # given up: nothing more about this alert
    world.resolve("e", "error_rate", at_s=20_001)
    assert world.told()[-1] == ("action_failed", "resolved")


def test_half_the_deviation_gone_is_an_effect(world):
    world.charter(2, at_s=3600)
    world.alert("e", "error_rate", at_s=3700, **BAD)
    world.alert("e", "error_rate", at_s=4000, value=0.04, threshold=0.01)
    world.ticks(4400)
    assert world.steps()[:2] == [("rollback", "applied"), ("rollback", "verified")]


def test_an_old_change_is_not_blamed_and_the_arm_goes_until_the_cause_is_over(world):
    world.charter(2, at_s=3600)
    world.alert("e", "error_rate", at_s=3600 + 7300, **BAD)
    assert world.controls() == [("disable", ("strong",))] and world.prompts() == []
    world.resolve("e", "error_rate", at_s=11_200)
    world.ticks(11_200 + 590)
    assert world.controls() == [("disable", ("strong",))]
    world.ticks(11_200 + 660)
    assert world.controls() == []
    assert world.steps() == [("disable", "applied"), ("disable", "verified"), ("disable", "returned")]


def test_what_came_back_too_early_goes_again_at_once_and_for_twice_as_long(world):
    held_s = []
    for n in range(2):
        begun_s = world.now_s + 10_000 * (1 - n) + 5
        world.alert("e", "error_rate", at_s=begun_s, **BAD)
        assert world.controls() == [("disable", ("strong",))]
        world.resolve("e", "error_rate", at_s=begun_s + 300)  # no calls, no alert: whether it is over, the return tells
        resolved_s = world.now_s
        while world.controls():
            world.tick(world.now_s + 10)
        held_s.append(world.now_s - resolved_s)
    assert held_s == [600, 1200]
    assert world.steps("refused") == [] and len(world.steps("returned")) == 2


def test_an_arm_is_not_at_fault_where_the_others_are_in_the_same_trouble(world):
    arms = ("strong", "cheap", "other")
    for at, arm in enumerate(arms):
        world.alert(arm, "error_rate", at_s=10_000 + at, scope={"feature": "support", "arm": arm}, **BAD)
    for arm in arms[:2]:
        world.resolve(arm, "error_rate", at_s=10_300, scope={"feature": "support", "arm": arm})  # nothing asks it
    assert world.steps("verified") == []
    world.ticks(10_000 + 620)
    assert world.steps("undone") == [("disable", "it showed no effect within its window")] * 2
    assert world.controls() == [] and ("action_failed", "firing") in world.told()


def test_a_slow_decay_of_another_arm_is_another_matter(world):
    scope = {"feature": "support", "arm": "cheap"}
    world.alert("d", "quality", at_s=10_000, scope=scope, attributes={"observed": "0.72", "expected": "0.8"})
    world.alert("q", "quality", at_s=20_000, attributes={"observed": "0.5", "expected": "0.8"})
    world.resolve("q", "quality", at_s=20_300)
    assert [step for step in world.steps() if step[0] == "disable"] == [("disable", "applied"), ("disable", "verified")]


def test_two_arms_may_be_disabled_and_the_last_never(world):
    for at, arm in enumerate(("strong", "cheap", "other")):
        world.alert(arm, "error_rate", at_s=10_000 + at, scope={"feature": "support", "arm": arm}, **BAD)
    assert sorted(world.controls()) == [("disable", ("cheap",)), ("disable", ("strong",))]
    assert world.steps("refused")[0][1].startswith("impossible")
    assert world.told() == [("action_impossible", "firing")]


def test_a_model_in_trouble_goes_from_every_feature_that_has_it(world):
    world.charter(1, feature="search", at_s=10)
    world.alert("m", "error_rate", at_s=10_000, scope={"provider": "openai", "model": "gpt-4o"}, **BAD)
    assert world.controls("support") == world.controls("search") == [("disable", ("strong",))]
    world.resolve("m", "error_rate", at_s=10_100, scope={"provider": "openai", "model": "gpt-4o"})
    world.ticks(10_800)
    assert world.controls("support") == world.controls("search") == []


def test_dear_calls_go_to_the_cheapest_acceptable_arm(world):
    world.alert("c", "cost_per_call", at_s=10_000, attributes={"observed": "0.03", "expected": "0.01"})
    assert world.controls() == [("pin", ("cheap",))]


def test_the_cheapest_arm_is_not_taken_when_it_is_bad(world):
    world.now_s = 100
    world.policy(2, {"strong": 0.9, "cheap": 0.2, "other": 0.8})
    world.alert("c", "cost_per_call", at_s=10_000, attributes={"observed": "0.03", "expected": "0.01"})
    assert world.controls() == [("pin", ("other",))]


@pytest.mark.parametrize(("kind", "little", "much"), [("refusal_rate", 0.04, 0.3), ("latency", 1.8, 3.1)])
def test_an_arm_that_refuses_or_is_slow_goes_and_a_little_of_it_is_only_proposed(world, kind, little, much):
    world.alert("x", kind, at_s=10_000, value=little, attributes={"observed": str(little), "expected": "1"})
    assert world.controls() == [] and world.steps() == [("propose", "proposed")]
    world.alert("x", kind, at_s=10_060, value=much, attributes={"observed": str(much), "expected": "1"})
    assert world.controls() == [("disable", ("strong",))]
    world.resolve("x", kind, at_s=10_400)
    world.ticks(12_000)
    assert world.steps()[1:] == [("disable", "applied"), ("disable", "verified"), ("disable", "returned")]


def test_a_doubled_price_is_acted_on_though_a_mean_of_few_calls_shows_a_little_less(world):
    world.alert("c", "cost_per_call", at_s=10_000, attributes={"observed": "0.0193", "expected": "0.01"})
    assert world.controls() == [("pin", ("cheap",))]


def test_quality_down_a_fifth_pauses_what_is_tried_and_slow_decay_is_only_proposed(world):
    scope = {"feature": "support"}
    world.alert("q", "quality", at_s=30_000, scope=scope, attributes={"observed": "0.72", "expected": "0.8"})
    assert world.controls() == [] and world.steps() == [("propose", "proposed")]
    assert world.told() == [("action_proposed", "firing")]
    world.alert("q", "quality", at_s=30_060, scope=scope, attributes={"observed": "0.6", "expected": "0.8"})
    assert world.controls() == [("pause", ("strong",))]
    world.ticks(30_060 + 1900)
    assert world.controls() == [] and world.told()[-1] == ("action_failed", "firing")


def judged(world, at_s, verdict, alert_id="q"):
    attributes = {"observed": "0.5", "expected": "0.8", "verdict": verdict}
    world.alert(alert_id, "quality", at_s=at_s, attributes=attributes)


def test_no_arm_pays_for_a_judge_who_judges_otherwise(world):
    world.alert("j", "judge_drift", at_s=30_000, scope={"feature": "support"})
    judged(world, 30_001, "judge")
    world.tick(30_100)
    assert world.controls() == [] and world.steps() == [("propose", "proposed")] * 2
    assert world.told() == [("action_proposed", "firing")] * 2


def test_where_the_answers_are_worse_too_the_arm_is_disabled(world):
    judged(world, 30_000, "judge")
    assert world.controls() == []
    judged(world, 30_120, "both")
    assert world.controls() == [("disable", ("strong",))]


def test_what_was_done_before_the_probes_told_is_taken_back(world):
    judged(world, 30_000, "")
    assert world.controls() == [("disable", ("strong",))]
    judged(world, 30_120, "judge")
    assert world.controls() == []
    assert world.steps("undone") == [("disable", "the judge changed, not what it judges")]
    assert world.steps()[-1] == ("propose", "proposed")


def test_it_stays_while_another_alert_still_speaks_for_it(world):
    judged(world, 30_000, "", "q")
    judged(world, 30_010, "quality", "other")
    judged(world, 30_120, "judge", "q")
    assert world.controls() == [("disable", ("strong",))] and world.steps("undone") == []


def test_a_rule_of_higher_priority_takes_over_and_a_lower_one_waits(world):
    scope = {"feature": "support"}
    world.alert("q", "quality", at_s=30_000, scope=scope, attributes={"observed": "0.5", "expected": "0.8"})
    world.alert("c", "cost_per_call", at_s=30_001, attributes={"observed": "0.03", "expected": "0.01"})
    assert world.controls() == [("pin", ("cheap",))]
    world.tick(30_100)
    assert world.steps() == [("pause", "applied"), ("pause", "superseded"), ("pin", "applied"), ("pause", "refused")]
    assert world.steps("refused") == [("pause", "priority: rule cost holds the feature")]


def test_what_only_got_better_is_taken_back_when_its_time_is_over(world):
    world.rules(1, ONE_RULE.format(per_hour=100, per_feature=100, most=9))
    world.alert("e", "error_rate", at_s=10_000, **BAD)
    world.alert("e", "error_rate", at_s=10_030, value=0.02, threshold=0.01)
    world.ticks(10_110, 10)
    assert world.controls() == [("disable", ("strong",))]
    world.tick(10_120)
    assert world.controls() == []
    assert world.steps()[:3] == [("disable", "applied"), ("disable", "verified"), ("disable", "expired")]
    world.ticks(10_200, 10)
    assert world.controls() == [("disable", ("strong",))]  # it still fires: tried again after the cooldown


def test_what_comes_back_again_and_again_ends_with_a_person(world):
    world.rules(1, ONE_RULE.format(per_hour=100, per_feature=100, most=2))
    for n in range(4):
        world.alert("e", "error_rate", at_s=1000 * n + 1000, **BAD)
        world.resolve("e", "error_rate", at_s=1000 * n + 1030)
        world.ticks(1000 * n + 1900)
    assert world.steps().count(("disable", "applied")) == world.steps().count(("disable", "expired")) == 2
    assert world.steps("refused")[-1] == ("disable", "flapping: done 2 times within 86400 s")
    assert ("action_flapping", "firing") in world.told()


def test_no_more_changes_in_an_hour_than_declared(world):
    world.rules(1, ONE_RULE.format(per_hour=2, per_feature=1, most=100))
    for n, feature in enumerate(("f1", "f2", "f3")):
        world.charter(1, feature=feature, at_s=10 + n)
    for n, feature in enumerate(("f1", "f1", "f2", "f3")):
        scope = {"feature": feature, "arm": ("strong", "cheap", "strong", "strong")[n]}
        world.alert(f"e{n}", "error_rate", at_s=10_000 + n, scope=scope, **BAD)
    assert [world.controls(f) for f in ("f1", "f2", "f3")] == [[("disable", ("strong",))]] * 2 + [[]]
    assert [why.split(":")[0] for _, why in world.steps("refused")] == ["limit", "limit"]
    applied_s = [(a["occurred_at"] - parts.T0) / 1e6 for a in world.actions() if a["state"] == "applied"]
    world.ticks(14_000)
    later_s = [(a["occurred_at"] - parts.T0) / 1e6 for a in world.actions() if a["state"] == "applied"]
    assert applied_s == [10_000, 10_002] and later_s[2] >= 13_600  # what had to wait is done when there is room


def test_a_person_wins_and_gives_back(world):
    world.alert("e", "error_rate", at_s=10_000, **BAD)
    world.now_s = 10_010
    world.person(1, Item("mine", "pin", ("strong",)), expires_s=20_000)
    assert world.controls() == []
    world.alert("c", "cost_per_call", at_s=10_020, attributes={"observed": "0.03", "expected": "0.01"})
    assert world.controls() == []
    world.ticks(19_990, 600)
    taken = [("disable", "applied"), ("override", "applied"), ("disable", "overridden")]
    assert world.steps() == [*taken, ("disable", "refused"), ("pin", "refused")]
    assert {why for _, why in world.steps("refused")} == {"override: a person's control is in force"}
    assert world.controls() == []
    world.ticks(20_100, 30)
    assert ("override", "expired") in world.steps()
    assert world.controls() == [("disable", ("strong",))]  # it still fires


def test_a_person_lifts_what_they_said(world):
    world.person(5, Item("mine", "pin", ("cheap",)))
    world.person(4, Item("old", "pin", ("strong",)))
    assert isinstance(world.verdicts[-1], Skip)
    world.person(6, lifted=True)
    assert world.steps() == [("override", "applied"), ("override", "lifted")]


def test_a_newer_charter_of_a_person_ends_a_rollback_and_is_not_touched(world):
    world.charter(2, at_s=3600)
    world.alert("e", "error_rate", at_s=3700, **BAD)
    world.charter(3, at_s=3800)
    world.ticks(4400)
    assert world.steps()[:2] == [("rollback", "applied"), ("rollback", "superseded")]
    assert world.prompts() == ["1"]


def test_a_person_who_took_the_same_revision_is_said_again(world):
    world.charter(2, at_s=3600)
    world.alert("e", "error_rate", at_s=3700, **BAD)
    assert world.revisions["support"] == 3
    world.charter(9, at_s=3701, revision=3)
    assert world.prompts() == ["1", "9"] and world.revisions["support"] == 4
    assert world.steps()[:2] == [("rollback", "applied"), ("rollback", "superseded")]


def test_in_dry_run_it_only_says_what_it_would_do(world):
    world.rules(1, default_rules_text().replace("mode: act", "mode: dry_run").replace("version: 2", "version: 7"))
    world.charter(2, at_s=3600)
    world.alert("e", "error_rate", at_s=3700, **BAD)
    world.alert("d", "drift", at_s=3800)
    world.ticks(20_000, 300)
    assert world.steps() == [("rollback", "proposed"), ("propose", "proposed")]
    assert [a["dry_run"] for a in world.actions()] == [True, False]
    assert {output.topic for output in world.said} == {"actions"}


def test_late_repeated_and_foreign_reports_change_nothing(world):
    world.alert("e", "error_rate", at_s=10_000, **BAD)
    world.alert("e", "error_rate", at_s=10_000, **BAD)
    world.resolve("e", "error_rate", at_s=10_100)
    before = list(world.said)
    world.alert("e", "error_rate", at_s=10_200, occurred_at=parts.T0 + 10_000_000_000, **BAD)
    assert isinstance(world.verdicts[-1], Skip)
    world.alert("b", "budget_threshold", at_s=10_201, scope={"team": "cx"})
    world.alert("own", "action_failed", at_s=10_202)
    assert isinstance(world.verdicts[-1], Skip)
    assert world.said == before


def test_what_makes_no_sense_is_refused_with_its_field(world):
    world.alert("x" * 600, "error_rate")
    world.alert("e", "error_rate", state="burning")
    world.rules(1, "version: 1\nrules: []\n")
    world.person(1, Item("c", "pin", ()))
    world._enter({"event_id": "e", "project": "acme", "occurred_at": 0, "kind": "what"})
    world._enter({"event_id": "e", "project": "acme", "occurred_at": 0, "kind": "alert", "body": "[1"})
    world._enter({"event_id": "e", "project": "acme", "occurred_at": 0, "kind": "alert", "body": "{}"})
    fields = [verdict.field for verdict in world.verdicts if isinstance(verdict, Reject)]
    assert fields == ["alert_id", "state", "rules", "items.0.arms", "kind", "body", "body"]
    assert world.said == []


def test_the_default_rules_are_what_the_documentation_says():
    tree = parse_rules(default_rules_text())
    assert [(rule.name, rule.priority) for rule in tree.rules] == [
        ("errors", 100), ("cost", 80), ("refusals", 70), ("quality", 60), ("slow", 50), ("judge", 20),
        ("judge-drift", 10), ("slow-decay", 10), ("silence", 10), ("traffic", 10), ("guardrail", 10),
        ("gamed-proxy", 10),
    ]  # fmt: skip
