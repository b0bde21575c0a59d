"""Traffic that falls without ending is told to a person, once, with what is usual; and it is over when it is back."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flywheel.testkit.dict_state import DictState
from flywheel_detector.core.facts import Fact
from flywheel_detector.core.ledger import observation_entries

_spec = importlib.util.spec_from_file_location("detector_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)
HOUR_S, DAY_S = 3_600, 86_400
STEP_S = 1_200


class Ledger(parts.World):
    """Calls go onto the ledger as stage 1 passes them on: there are days of them."""

    def calls(self, from_s: int, until_s: int, per_hour: float, rng: Any) -> None:
        for start_s in range(from_s, until_s, STEP_S):
            times = start_s + np.sort(rng.random(rng.poisson(per_hour * STEP_S / HOUR_S))) * STEP_S
            marks = [f"{rng.integers(2**62):016x}" for _ in times]
            facts = [
                Fact("call", parts.at(at_s), mark, "support", "openai/gpt-4o", "strong", "", {}, {"error_rate": 0.0})
                for at_s, mark in zip(times.tolist(), marks, strict=True)
            ]
            pairs = [(each, each.mark) for each in facts]
            self._append(list(observation_entries("acme", "support", pairs)), start_s + STEP_S)
            self.tick(start_s + STEP_S)


@pytest.fixture(scope="module")
def nine_days() -> Ledger:
    """A call a minute, day and night."""
    world = Ledger()
    world.calls(0, 9 * DAY_S, 60.0, np.random.default_rng(1))
    assert world.alerts == []
    return world


def go_on(world: Ledger) -> Ledger:
    """Another one that goes on from where it is."""
    again = Ledger()
    again.state = DictState()
    again.state.tables = {name: dict(rows) for name, rows in world.state.tables.items()}
    return again


def test_a_fall_is_told_with_what_is_usual_and_over_when_it_is_back(nine_days):
    world, rng = go_on(nine_days), np.random.default_rng(2)
    fell_s, back_s = 9 * DAY_S, 9 * DAY_S + 8 * HOUR_S
    world.calls(fell_s, back_s, 12.0, rng)
    first = world.said("traffic")[0]
    assert first["state"] == "firing" and first["severity"] in ("warning", "critical")
    assert first["scope"] == {"feature": "support"} and first["occurred_at"] <= parts.at(fell_s + 4 * HOUR_S)
    figures = first["attributes"]
    assert float(figures["expected"]) == pytest.approx(60, rel=0.15)
    assert float(figures["observed"]) == pytest.approx(12, rel=0.5) == first["value"]
    assert abs(first["window_start"] - parts.at(fell_s)) < 30 * 60 * 10**6
    assert float(figures["e_value"]) >= float(figures["run_length"]) >= 100_000
    world.calls(back_s, back_s + 4 * HOUR_S, 60.0, rng)
    reports = world.said("traffic")
    assert reports[-1]["state"] == "resolved" and reports[-1]["attributes"]["resolved_because"] == "back at its level"
    assert {report["alert_id"] for report in reports} == {first["alert_id"]}
    assert [report["state"] for report in reports].count("resolved") == 1
    assert len({report["event_id"] for report in reports}) == len(reports)
    assert {alert["kind"] for alert in world.alerts} == {"traffic"}


def test_after_a_day_what_is_left_is_the_new_normal(nine_days):
    world = go_on(nine_days)
    world.calls(9 * DAY_S, 13 * DAY_S, 20.0, np.random.default_rng(3))
    reports = world.said("traffic")
    assert [report["state"] for report in reports if report["state"] == "resolved"] == ["resolved"]
    assert reports[-1]["attributes"]["resolved_because"] == "the new normal"


def test_a_rise_is_told_as_information(nine_days):
    world = go_on(nine_days)
    world.calls(9 * DAY_S, 9 * DAY_S + 2 * HOUR_S, 300.0, np.random.default_rng(4))
    (first, *_) = world.said("traffic")
    assert first["severity"] == "info" and first["value"] > 200
    assert {alert["kind"] for alert in world.alerts} == {"traffic"}
