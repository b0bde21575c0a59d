"""What stage 1 takes, and what it refuses with the field at fault."""

from __future__ import annotations

import importlib.util
import json
from decimal import Decimal
from pathlib import Path

import pytest

from flywheel.stream import Fatal, Reject, Skip
from flywheel_detector.core import DetectFold, IntakeFold, IntakeSettings
from flywheel_detector.core.book import MAX_NAMES
from flywheel_detector.core.facts import Fact, fact_of
from flywheel_detector.core.requests import MAX_FACTS

_spec = importlib.util.spec_from_file_location("detector_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)
AHEAD_US = 300_000_000


def measured(**more):
    fact = fact_of(parts.call(1, 0, **more), AHEAD_US)
    assert isinstance(fact, Fact)
    return dict(fact.measured)


def test_what_a_call_shows():
    assert measured(cache_read_tokens=25, ttft_ms=80.0) == {
        "error_rate": 0.0, "refusal_rate": 0.0, "latency_ms": 900.0, "ttft_ms": 80.0, "cost_usd": 0.01,
        "input_tokens": 100.0, "output_tokens": 50.0, "cache_share": 0.25,
    }  # fmt: skip
    assert measured(status="TIMEOUT") == {"error_rate": 1.0}
    assert measured(status="CANCELLED") == {}
    assert measured(finish_reason="content_filter")["refusal_rate"] == 1.0
    assert "cost_usd" not in measured(cost=None)


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (parts.call(1, 0, latency_ms=-1.0), "latency_ms"),
        (parts.call(1, 0, ttft_ms=float("nan")), "ttft_ms"),
        (parts.call(1, 0, cost_usd=Decimal(-1)), "cost_usd"),
        (parts.call(1, 0, request_id=""), "request_id"),
        (parts.call(1, 0, feature="f" * 200), "feature"),
        (parts.call(1, 0, request_model="m" * 300), "request_model"),
        (parts.call(1, 0, occurred_at=parts.at(400)), "occurred_at"),
        (parts.call(1, 0, occurred_at=0), "occurred_at"),
        (parts.score(1, 0, 1.5), "score"),
        (parts.score(1, 0, 0.5, name="j" * 200), "evaluator"),
        (parts.decision(1, 0, "a" * 200), "arm"),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(event, field):
    found = fact_of(event, AHEAD_US)
    assert isinstance(found, Reject) and found.field == field


def test_what_is_rightly_without_effect():
    assert fact_of(parts.call(1, 0, shadow=True), AHEAD_US) == Skip("shadow")
    assert fact_of(parts.score(1, 0, None), AHEAD_US) == Skip("no_score")
    assert isinstance(fact_of(parts.score(1, 0, None, passed=True), AHEAD_US), Fact)


def test_late_and_repeated_facts_are_skipped_and_no_request_fills_the_state():
    world = parts.World()
    world.read([parts.call(1, 30_000), parts.call(1, 30_000), parts.call(2, 0)], 30_001)
    assert world.verdicts == [Skip("duplicate"), Skip("too_late")]
    many = [parts.call(n, 30_000, request_id="one") for n in range(10, 12 + MAX_FACTS)]
    world.read(many, 30_001)
    assert [verdict.field for verdict in world.verdicts[2:]] == ["request_id", "request_id"]


def test_no_entry_is_larger_than_a_record_may_be():
    """Long ids of characters that JSON spells with twelve bytes: entries are cut by their size, nothing is lost."""
    world = parts.World()
    world.read([parts.call(n, n / 100, request_id=f"{n:04d}" + "\U0001f40d" * 500) for n in range(600)], 10)
    sizes = [len(parts.CODEC.encode("detection_entry", entry.value)) for entry in world.ledger]
    assert len(sizes) > 1 and max(sizes) < 400_000
    told = [line for entry in world.ledger for line in json.loads(entry.value["body"])["observations"]]
    assert sorted(line[3][:4] for line in told) == [f"{n:04d}" for n in range(600)]


def test_what_is_remembered_of_versions_is_bounded():
    world = parts.World()
    world.read([parts.call(1, 1)], 2)
    world.read(
        [parts.score(n, 2, 0.5, name=f"judge-{n}", evaluator_version="1", request_id="r1") for n in range(40)], 3
    )
    (stored,) = world.state.tables["books"].values()
    places = json.loads(stored)["places"].values()
    assert max(len(place["seen"]) for place in places) == MAX_NAMES


def test_a_fact_waits_no_longer_than_it_helps():
    """The decision never comes: once its topic is read further, the call is counted without an arm."""
    world = parts.World()
    world.read([parts.call(1, 0, variant=None, decision_id="lost")], 1)
    assert world.ledger == []
    world.read([parts.call(2, 100), parts.decision(2, 100, "strong")], 101)
    bodies = "".join(entry.value["body"] for entry in world.ledger)
    assert '"r1"' in bodies and '"arm":"","model":"openai/gpt-4o"' in bodies


def test_requests_are_let_go():
    fold, state = IntakeFold(IntakeSettings(remember_s=100)), parts.DictState()
    fold.fold(0, [parts.call(1, 0), parts.score(1, 1, 0.5)], state)
    assert state.tables["requests"]
    fold.fold(0, [parts.call(2, 250)], state)
    assert len(state.tables["requests"]) == len(state.tables["leaving"]) == 1 and not state.tables.get("waiting")


@pytest.mark.parametrize("stage", ["detector-intake", "detector-detect"])
def test_a_state_of_another_form_ends_the_service_with_what_to_do(stage):
    fold = {"detector-intake": IntakeFold(), "detector-detect": DetectFold()}[stage]
    state = parts.DictState()
    fold.fold(3, [], state)
    state.put("form", "form", b"99")
    with pytest.raises(Fatal, match=f"{stage}: shard 3 has a state of form 99"):
        fold.fold(3, [], state)
