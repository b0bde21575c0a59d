"""What is noticed, how it is told, and when it is over: examples."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

from flywheel_detector.core.off_level import Off

_spec = importlib.util.spec_from_file_location("detector_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)


def test_an_outage_is_told_once_with_its_evidence_and_over_when_it_is_over():
    world = parts.World()
    world.read([parts.charter(1, 1), parts.charter(2, 590)], 591)
    world.play(0, 600, parts.failing(0.02, 1))
    assert world.alerts == []
    world.play(600, 720, parts.failing(0.9, 2))
    first = world.said("error_rate")[0]
    assert first["state"] == "firing" and first["severity"] == "critical"
    assert first["scope"] == {"feature": "support", "arm": "strong", "provider": "openai", "model": "gpt-4o"}
    assert first["occurred_at"] <= parts.at(660)
    figures = first["attributes"]
    assert float(figures["expected"]) < 0.06 and float(figures["observed"]) > 0.5 and first["value"] > 0.5
    assert float(figures["e_value"]) >= float(figures["run_length"]) >= 100_000
    assert parts.at(540) <= first["window_start"] <= parts.at(625)
    assert "charter revision 2" in figures["changed_before"] and "revision 1" not in figures["changed_before"]
    assert figures["charter_revision"] == "2", "so that who acts on it can hear of that charter first"
    assert all(600 <= int(request[1:]) < 720 for request in figures["exemplars"].split(", "))
    assert "failed calls an hour" in figures["impact"]
    world.play(720, 1000, parts.failing(0.02, 3))
    reports = world.said("error_rate")
    assert {report["alert_id"] for report in reports} == {first["alert_id"]}
    assert [report["state"] for report in reports if report["state"] == "resolved"] == ["resolved"]
    assert reports[-1]["attributes"]["resolved_because"] == "back at its level"
    assert len({report["event_id"] for report in reports}) == len(reports)


def test_a_second_outage_is_noticed_as_quickly_as_the_first():
    """The level before the first is still known: what came while it fired was not learned."""
    world = parts.World()
    world.play(0, 600, parts.failing(0.02, 1))
    world.play(600, 700, parts.failing(0.9, 2))
    world.play(700, 1000, parts.failing(0.02, 3))
    assert world.said("error_rate")[-1]["state"] == "resolved"
    world.play(1000, 1060, parts.failing(0.9, 4))
    assert world.said("error_rate")[-1]["state"] == "firing"


def test_a_price_that_doubles_three_times_is_told_as_the_factor_the_rules_ask_for():
    def facts(n, at_s):
        spread = random.Random(f"cost:{n}").lognormvariate(0, 0.5)
        return [parts.call(n, at_s, cost=0.01 * spread * (8 if n >= 500 else 1))]

    world = parts.World()
    world.play(0, 600, facts)
    (alert,) = [each for each in world.said("cost_per_call") if each["state"] == "firing"][:1]
    assert 5 < float(alert["attributes"]["observed"]) / float(alert["attributes"]["expected"]) < 12
    assert alert["severity"] == "critical" and "USD an hour" in alert["attributes"]["impact"]


def test_quality_is_judged_under_the_arm_and_model_that_answered():
    def facts(n, at_s):
        dice = random.Random(f"quality:{n}")
        arm, model = ("strong", "gpt-4o") if n % 2 else ("cheap", "gpt-4o-mini")
        mean = 0.3 if arm == "cheap" and n >= 700 else 0.8
        judged = parts.score(n, at_s + 0.2, min(1.0, max(0.0, dice.gauss(mean, 0.1))))
        return [judged, parts.call(n, at_s, variant=arm, request_model=model)]

    world = parts.World()
    world.play(0, 850, facts)
    alerts = world.said("quality")
    assert alerts and all(alert["scope"]["arm"] == "cheap" for alert in alerts)
    figures = alerts[0]["attributes"]
    assert float(figures["observed"]) / float(figures["expected"]) < 0.8 and figures["measure"] == "score:judge.helpful"
    assert figures["explained_by"].startswith("cheap openai/gpt-4o-mini")


def test_a_call_without_an_arm_is_counted_under_that_of_its_decision():
    world = parts.World()
    world.read([parts.call(1, 1.0, variant=None, decision_id="decision-1")], 2)
    assert world.ledger == []
    world.read([parts.decision(1, 0.5, "cheap")], 3)
    bodies = "".join(entry.value["body"] for entry in world.ledger)
    assert '"arm":"cheap"' in bodies and '"latency_ms":900.0' in bodies


def test_getting_better_is_no_alert():
    world = parts.World()
    world.play(0, 500, parts.failing(0.5, 1))
    world.play(500, 800, parts.failing(0.0, 2))
    assert world.said("error_rate") == []


def test_calls_that_stop_are_a_silence_and_end_what_fires():
    world = parts.World()
    world.play(0, 600, parts.failing(0.02, 1))
    world.play(600, 680, parts.failing(0.9, 2))
    assert world.said("error_rate")[-1]["state"] == "firing"
    for at_s in range(680, 1100, 10):
        world.tick(at_s)
    assert world.said("error_rate")[-1]["attributes"]["resolved_because"] == "no more data"
    (silence,) = world.said("silence")
    assert silence["state"] == "firing" and silence["value"] > float(silence["attributes"]["expected"])
    world.play(1100, 1120, parts.failing(0.02, 3))
    assert [each["state"] for each in world.said("silence")] == ["firing", "resolved"]


def test_a_model_that_changes_under_its_name_is_named():
    def facts(n, at_s):
        dice = random.Random(f"length:{n}")
        later = n >= 600
        tokens = round(dice.lognormvariate(5 if later else 4, 0.3))
        model, policy = "gpt-4o-2" if later else "gpt-4o-1", n // 20
        return [parts.call(n, at_s, output_tokens=tokens, response_model=model, policy_version=policy)]

    world = parts.World()
    world.play(0, 700, facts)
    (alert,) = [each for each in world.said("drift") if each["state"] == "firing"][:1]
    assert alert["attributes"]["measure"] == "output_tokens" and alert["severity"] == "info"
    model, policy = alert["attributes"]["changed_before"].split("; ")
    assert model == "response_model gpt-4o-2 at 2026-11-21T00:10:00Z"
    assert policy.startswith("policy_version 3") and policy.endswith("before it)"), "what changes often is one line"


def test_a_new_level_becomes_the_normal_one():
    settings = parts.DetectSettings(warm_up=64, alerts=parts.AlertTerms(accept_us=300_000_000))
    world = parts.World(settings)
    world.play(0, 400, parts.failing(0.02, 1))
    world.play(400, 900, parts.failing(0.6, 2))
    reports = world.said("error_rate")
    assert reports[-1]["state"] == "resolved" and reports[-1]["attributes"]["resolved_because"] == "the new normal"


def test_the_budget_of_false_alarms_sets_the_run_length():
    def loudest(budget):
        world = parts.World(parts.DetectSettings(warm_up=64, false_alarms_per_day=budget))
        world.play(0, 300, parts.failing(0.02, 1))
        world.play(300, 400, parts.failing(0.9, 2))
        return float(world.said("error_rate")[0]["attributes"]["run_length"])

    assert loudest(1.0) == 100_000
    a_day = 24 * 300 * 6  # observations of six measures in these minutes, which are taken for the hour
    assert 0.5 * 2 * a_day / 1e-2 < loudest(1e-2) < 2 * 2 * a_day / 1e-2


def test_calls_that_run_into_their_timeout_count_when_they_are_told():
    """A call is dated when it began: when it is told a minute later, the windows of its time have closed."""

    def facts(n, at_s):
        quick = parts.call(n, at_s)
        return [quick, parts.call(10**6 + n, at_s - 60, status="TIMEOUT")] if n >= 660 else [quick]

    world = parts.World()
    world.play(0, 760, facts)
    first = world.said("error_rate")[0]
    assert first["state"] == "firing" and first["occurred_at"] <= parts.at(720)


def test_a_change_of_many_short_windows_is_over_after_the_time_that_was_set():
    """However short windows are, and however few of them are remembered."""
    off = Off("level_change", 0, 0, 0.0, 1.0, 2e5, 1e5, 0.1, True, [])
    for window in range(250):
        off.add(window * 500_000, [0.0])
    assert not off.is_over(125_000_000)
    off.add(125_000_000, [0.0])
    assert off.is_over(125_000_000)


def test_an_alert_of_a_series_that_was_forgotten_ends():
    """Others came, more than there may be; the one that fires is not heard of any more."""
    world = parts.World(parts.DetectSettings(warm_up=64, most_series=12))
    world.play(2900, 3500, parts.failing(0.02, 1))
    world.play(3500, 3590, parts.failing(0.9, 2))
    assert world.said("error_rate")[-1]["state"] == "firing"
    world.play(3600, 3700, lambda n, at_s: [parts.call(n, at_s, request_model=f"m{n % 3}")])
    last = world.said("error_rate")[-1]
    assert (last["state"], last["attributes"]["resolved_because"]) == ("resolved", "forgotten")
    assert last["alert_id"] == world.said("error_rate")[0]["alert_id"]


def test_a_silence_is_over_when_a_call_comes_and_not_before():
    """Other features join meanwhile, which leaves less of the budget, so a longer silence would be needed by now."""
    world = parts.World()
    world.play(0, 600, parts.failing(0.02, 1))
    at_s = 600
    while not world.said("silence"):
        at_s += 10
        world.tick(at_s)
    assert at_s < 1_200
    for n in range(30):
        world.read([parts.call(10_000 + n, at_s, feature=f"other-{n}")], at_s)
    for later in range(10, 200, 10):
        world.tick(at_s + later)
    assert [each["state"] for each in world.said("silence")] == ["firing"]
    world.read([parts.call(20_000, at_s + 200)], at_s + 201)
    world.tick(at_s + 210)
    assert [each["state"] for each in world.said("silence")] == ["firing", "resolved"]
