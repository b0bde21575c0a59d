"""The service as wired, on the in-memory bus: declarations, alerts and the time in; actions, controls, charters out."""

from __future__ import annotations

import asyncio
import importlib.util
from hashlib import sha256
from pathlib import Path

import pytest

from flywheel.control import Item, Record
from flywheel.control.shipped import default_rules_text
from flywheel.events import event_id, topics
from flywheel.observe import Health, Metrics, load_settings
from flywheel.pricing import bundled_prices
from flywheel.stream import MemoryBus, Output, Publisher
from flywheel.stream.kafka import partition_of
from flywheel.stream.ticker import partition_keys
from flywheel_controller.adapters import Prices
from flywheel_controller.core import INPUTS, LEDGER
from flywheel_controller.settings import ControllerSettings
from flywheel_controller.wiring import VERSION, run_stages, runner_specs

_spec = importlib.util.spec_from_file_location("controller_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)
FAST = default_rules_text().replace("return_after: 10m", "return_after: 20s")


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> int:
        return parts.T0 // 1000 + round(self.now_s * 1000)


def values(bus, topic):
    return [parts.CODEC.decode(record.value).value for record in bus.records(topic)]


async def until(condition, seconds=60.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def charter(revision, at_us):
    text = parts.CHARTER.format(feature="support", prompt=revision)
    digest = sha256(text.encode()).hexdigest()
    value = {
        "event_id": event_id("charter", revision), "project": "acme", "feature": "support", "occurred_at": at_us,
        "revision": revision, "charter_yaml": text, "digest": digest,
    }  # fmt: skip
    return Output("charters", "acme/support", "charter", value)


def alert(state, at_us):
    value = {
        "event_id": event_id("alert", state), "alert_id": "e", "project": "acme", "occurred_at": at_us,
        "kind": "error_rate", "severity": "critical", "state": state, "subject": "s", "title": "errors",
        "scope": {"feature": "support", "arm": "strong"}, "value": 0.2, "threshold": 0.01,
    }  # fmt: skip
    return Output("alerts", "s", "alert", value)


async def test_an_alert_is_acted_on_verified_and_returned_and_a_person_wins(tmp_path):
    clock, health, metrics, stop = Clock(), Health(), Metrics(), asyncio.Event()
    bus = MemoryBus(clock)
    publisher = Publisher(bus, parts.CODEC, source="test")
    await publisher.start()
    rules = {
        "event_id": "r", "project": "acme", "occurred_at": 0, "revision": 1, "rules_yaml": FAST, "digest": "d",
    }  # fmt: skip
    await publisher.publish([charter(1, parts.T0), Output("control-rules", "acme", "control_rules", rules)])
    settings = load_settings(ControllerSettings, state_dir=tmp_path, poll_ms=5, tick_s=0.05)
    service = asyncio.create_task(run_stages(settings, bus, metrics, health, stop))
    kinds = lambda: [value["kind"] for value in values(bus, LEDGER)]  # noqa: E731
    await until(lambda: health.ready and {"charter", "rules", "tick"} <= set(kinds()))
    clock.now_s = 100
    await publisher.publish([alert("firing", parts.T0 + 100_000_000)])
    await until(lambda: values(bus, "controls"))
    (control,) = values(bus, "controls")
    assert [(item["kind"], item["arms"]) for item in control["items"]] == [("disable", ["strong"])]
    clock.now_s = 200
    await publisher.publish([alert("resolved", parts.T0 + 200_000_000)])
    await until(lambda: [a["state"] for a in values(bus, "actions")] == ["applied", "verified"])
    clock.now_s = 221
    await until(lambda: len(values(bus, "controls")) == 2)
    assert values(bus, "controls")[-1]["items"] == []
    record = Record("acme", "support", "person", 9, parts.T0, (Item("m", "pin", ("cheap",)),), by="ana")
    await publisher.publish([Output("controls", record.key, "control", record.event(), record.place)])
    await until(lambda: len(values(bus, "actions")) == 4)
    stop.set()
    await service
    found = values(bus, "actions")
    assert [(a["kind"], a["state"]) for a in found[2:]] == [("disable", "returned"), ("override", "applied")]
    assert found[-1]["by"] == "ana" and metrics.value("actions_total", kind="override", state="applied") == 1
    assert not bus.records("alerts.dlq") and not bus.records("control-ledger.dlq")


def test_the_topics_read_are_those_declared():
    declared = {name for name, topic in topics().items() if "controller" in topic.consumers}
    assert declared == {*INPUTS, LEDGER}
    assert {spec.name for spec in runner_specs()} == {"controller-intake", "controller-act"}
    assert VERSION


@pytest.mark.parametrize("partitions", [1, 3, 4, 12])
def test_the_time_reaches_every_partition(partitions):
    keys = partition_keys(partitions)
    assert [partition_of(key.encode(), partitions) for key in keys] == list(range(partitions))


def test_arms_are_ranked_by_what_a_typical_call_costs():
    prices = Prices(bundled_prices())
    strong, cheap = (prices(f"openai/{name}", parts.T0) for name in ("gpt-4o", "gpt-4o-mini"))
    assert strong is not None and cheap is not None and 0 < cheap < strong / 5
    assert prices("nobody/knows", parts.T0) is None and prices("bare", parts.T0) is None
