"""Bounds a charter declares under ``constraints``: broken, told with evidence, kept again."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.policy import parse_charter
from flywheel_detector.core.guardrails import MAX_GUARDRAILS, guardrails_of
from flywheel_detector.core.ledger import charter_entry
from flywheel_detector.core.off_level import Off

_spec = importlib.util.spec_from_file_location("detector_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)

LEARNING = parts.DetectSettings(
    warm_up=100_000,
    alerts=parts.AlertTerms(resolve_us=60_000_000, quiet_us=120_000_000, repeat_us=60_000_000),
)
"""No series learns its level in these tests: what is told is told of bounds alone."""


def declared(constraints: str, *, revision: int = 1, at_s: float = 0.0):
    return parts.charter(revision, at_s, more=f"constraints: {{{constraints}}}\n")


def watched(constraints: str, *phases):
    """A world with bounds; each phase is (until second, facts of a second)."""
    world, start = parts.World(LEARNING), 0
    world.read([declared(constraints)], 0)
    for until, facts in phases:
        world.play(start, until, facts)
        start = until
    return world


def test_an_error_rate_above_its_bound_is_told_and_is_over_when_it_is_kept_again():
    calm, broken = parts.failing(0.002, 1), parts.failing(0.2, 2)
    world = watched("error_rate: 0.02", (600, calm), (760, broken), (1100, calm))
    alerts = world.said("guardrail")
    first, last = alerts[0], alerts[-1]
    assert [first["state"], last["state"]] == ["firing", "resolved"]
    assert {each["alert_id"] for each in alerts} == {first["alert_id"]}
    assert first["occurred_at"] <= parts.at(700) and abs(first["window_start"] - parts.at(600)) <= 60e6
    assert first["scope"] == {"feature": "support", "arm": "strong", "provider": "openai", "model": "gpt-4o"}
    assert (first["threshold"], first["severity"]) == (0.02, "critical") and 0.1 < first["value"] < 0.4
    figures = first["attributes"]
    assert figures["guardrail"] == "error_rate" and float(figures["e_value"]) >= float(figures["run_length"]) >= 1e5
    assert all(600 <= int(request[1:]) < 760 for request in figures["exemplars"].split(", "))
    assert last["attributes"]["resolved_because"] == "kept again" and last["value"] <= 0.02
    assert world.alerts == alerts, "the level is still being learned: nothing else is told"


def test_a_handful_of_failures_breaks_no_bound_and_neither_does_what_keeps_it():
    world = watched("error_rate: 0.02", (12, parts.failing(1.0, 1)))
    assert world.alerts == []
    world = watched("error_rate: 0.3", (900, parts.failing(0.3, 3)))
    assert world.alerts == []


def slow(share: float, seed: int):
    def facts(n, at_s):
        dice = random.Random(f"{seed}:{n}")
        late = dice.random() < share
        return [parts.call(n, at_s, latency_ms=4_000.0 if late else dice.uniform(200, 900))]

    return facts


def test_a_p95_is_broken_by_the_share_of_slow_calls_and_not_by_one():
    world = watched("p95_latency_ms: 3000", (500, slow(0.04, 1)), (800, slow(0.3, 2)))
    first = world.said("guardrail")[0]
    assert first["occurred_at"] > parts.at(500)
    assert first["threshold"] == pytest.approx(0.05) and 0.1 < first["value"] < 0.6
    assert "above 3000 ms" in first["title"] and first["attributes"]["limit"] == "3000"


def test_the_mean_cost_is_held_to_its_bound_in_dollars():
    def facts(n, at_s):
        spread = random.Random(f"cost:{n}").lognormvariate(-0.125, 0.5)
        return [parts.call(n, at_s, cost=0.009 * spread * (3 if n >= 400 else 1))]

    world = watched("cost_usd: 0.01", (700, facts))
    first = world.said("guardrail")[0]
    assert first["occurred_at"] > parts.at(400) and first["threshold"] == pytest.approx(0.01)
    assert 0.015 < first["value"] < 0.05 and "USD an hour" in first["attributes"]["impact"]


def test_scores_have_a_least_and_a_largest_value_and_belong_to_what_they_judge():
    def facts(n, at_s):
        dice = random.Random(f"score:{n}")
        arm, bad = ("strong", False) if n % 2 else ("cheap", n >= 400)
        leak = float(bad and dice.random() < 0.1)
        return [
            parts.call(n, at_s, variant=arm),
            parts.score(n, at_s + 0.2, 0.4 if bad else 0.8),
            parts.score(n, at_s + 0.3, leak, name="safety.leak"),
        ]

    world = watched("judge.helpful: {min: 0.6}, safety.leak: {max: 0.001}", (700, facts))
    told = {alert["attributes"]["guardrail"]: alert for alert in world.said("guardrail")}
    assert set(told) == {"judge.helpful", "safety.leak"}
    assert all(alert["scope"]["arm"] == "cheap" and alert["occurred_at"] > parts.at(400) for alert in told.values())
    assert told["judge.helpful"]["threshold"] == pytest.approx(0.6)
    assert told["judge.helpful"]["value"] == pytest.approx(0.4, abs=0.1)


def test_a_bound_that_is_declared_otherwise_ends_its_alert():
    world = watched("error_rate: 0.02", (300, parts.failing(0.3, 1)))
    assert world.said("guardrail")[-1]["state"] == "firing"
    world.read([declared("error_rate: 0.5", revision=2, at_s=300)], 300)
    world.play(300, 330, parts.failing(0.3, 2))
    last = world.said("guardrail")[-1]
    assert (last["state"], last["attributes"]["resolved_because"]) == ("resolved", "not declared any more")
    world.play(330, 600, parts.failing(0.3, 3))
    assert world.said("guardrail")[-1] == last


def test_calls_that_stop_end_it():
    world = watched("error_rate: 0.02", (300, parts.failing(0.3, 1)))
    for at_s in range(300, 600, 10):
        world.tick(at_s)
    assert world.said("guardrail")[-1]["attributes"]["resolved_because"] == "no more data"


def test_what_a_charter_declares_becomes_bounds_of_measures():
    text = parts.CHARTER.format(feature="support", prompt=1) + (
        "constraints: {p95_latency_ms: 3000, p99_ttft_ms: 800, error_rate: 0.01, safety.leak: {max: 0.001},\n"
        "  judge.helpful: {min: 0.6}, usd_per_hour: 40, refusal_rate: 1, latency_ms: {min: 5}}\n"
        "slo: [{metric: success_rate, min: 0.99, window: 30d}]\n"
    )
    entry = charter_entry(
        {"project": "acme", "feature": "support", "occurred_at": 1, "revision": 1}, parse_charter(text)
    )
    rails = guardrails_of(json.loads(entry.value["body"])["bounds"])
    assert {(rail.label, rail.measure, rail.quantile) for rail in rails} == {
        ("p95_latency_ms max", "latency_ms", 0.95), ("p99_ttft_ms max", "ttft_ms", 0.99),
        ("error_rate max", "error_rate", None), ("safety.leak max", "score:safety.leak", None),
        ("judge.helpful min", "score:judge.helpful", None),
    }  # fmt: skip


NUMBER = st.one_of(st.none(), st.floats(), st.integers(), st.just(10**400))
NAMES = st.sampled_from(["p95_latency_ms", "error_rate", "cost_usd", "judge", "p95_judge", "usd_per_hour"]) | st.text()


@given(st.dictionaries(NAMES, st.lists(NUMBER, min_size=2, max_size=2), max_size=40), st.floats(0, 1e12))
def test_any_numbers_make_bounds_that_can_be_watched(bounds: dict[str, list[float | None]], value: float):
    rails = guardrails_of(bounds)
    assert len(rails) <= MAX_GUARDRAILS and len({rail.label for rail in rails}) == len(rails)
    for rail in rails:
        assert rail.bound >= 0 and rail.figure(value) >= 0 and rail.said(rail.figure(value))
        assert rail.shown(rail.bound) == pytest.approx(rail.limit if rail.quantile is None else 1 - rail.quantile)


@pytest.mark.parametrize("bad", [{"a": 1}, {"a": [1]}, {"a": [None, "1"]}, {"a": [True, None]}])
def test_what_are_no_bounds_is_refused(bad):
    with pytest.raises(ValueError, match="bounds"):
        guardrails_of(bad)


def test_a_small_breach_is_over_once_enough_was_seen_and_not_by_a_lucky_minute():
    """Errors at 3 % against a bound of 1 %, 16 a window: 20 good windows say little, 20 more times as many enough."""
    dice = random.Random(5)
    off = Off("guardrail", 0, 0, 0.01, 0.03, 2e5, 1e5, 0.17, True, [])
    for window in range(200):
        off.add(window * 10_000_000, [float(dice.random() < 0.03) for _ in range(16)])
        assert not off.is_over(60_000_000)
    window = 200
    while not off.is_over(60_000_000):
        off.add(window * 10_000_000, [float(dice.random() < 0.005) for _ in range(16)])
        window += 1
    assert 210 < window < 600
    assert len(off.trail) <= 60 and sum(entry[1] for entry in off.trail) == 16 * window
