"""The service as wired, on the in-memory bus: budgets, facts and requests in; leases, states and dead letters out."""

from __future__ import annotations

import asyncio
import importlib.util
from dataclasses import replace
from pathlib import Path

from flywheel.events import Codec, LocalRegistry, topics
from flywheel.observe import Health, Metrics, load_settings
from flywheel.stream import MemoryBus, Output, Publisher
from flywheel_budget.core import INPUTS, LEDGER
from flywheel_budget.settings import BudgetSettings
from flywheel_budget.wiring import NEEDED, VERSION, run_stages, runner_specs

_spec = importlib.util.spec_from_file_location("budget_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)
CODEC = Codec(LocalRegistry.load())
ALWAYS = replace(parts.DAILY, effective_from_us=0)


def values(bus, topic):
    return [CODEC.decode(record.value).value for record in bus.records(topic)]


def sent(event, key):
    return Output(event.topic, key, event.event, event.value, "acme/day" if event.topic == LEDGER else None)


async def until(condition, seconds=60.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_declared_budget_is_leased_spent_and_told_of(facts, tmp_path):
    now_us = parts.T0 + 60_000_000
    bus, health, metrics, stop = MemoryBus(lambda: now_us // 1000), Health(), Metrics(), asyncio.Event()
    publisher = Publisher(bus, CODEC, source="test")
    await publisher.start()
    wrong = ALWAYS.event(0) | {"event_id": "wrong", "budget": "other", "time_zone": "Mars/Base"}
    declared = [
        Output("budgets", "acme/day", "budget", ALWAYS.event(0)),
        Output("budgets", "acme/other", "budget", wrong),
    ]
    await publisher.publish(declared)
    settings = load_settings(BudgetSettings, state_dir=tmp_path, poll_ms=5)
    service = asyncio.create_task(run_stages(settings, bus, metrics, health, stop))
    await until(lambda: health.ready and values(bus, "budget-states"))
    await publisher.publish([sent(facts.request("a.1", 1, 0, 500, need=100), "a.1")])
    await until(lambda: values(bus, "budget-leases"))
    (lease,) = values(bus, "budget-leases")
    assert parts.pico(lease["granted_usd"]) == 500 and lease["reason"] == "granted"
    made = [facts.decision("r", 1, ("a.1", 100, 100)), facts.call("r", 2, 30), facts.call("q", 3, 7)]
    await publisher.publish([sent(event, event.value["request_id"]) for event in made])
    await until(lambda: parts.pico(values(bus, "budget-states")[-1]["spent_usd"]) == 37)
    stop.set()
    await service
    state = values(bus, "budget-states")[-1]
    assert (parts.pico(state["exposure_usd"]), state["calls"], state["holders"]) == (400, 2, 1)
    (letter,) = values(bus, "budgets.dlq")
    assert (letter["reason"], letter["field"]) == ("budget_invalid", "time_zone")
    assert metrics.value("leases_total", budget="day", reason="granted") == 1


async def test_what_fires_is_over_with_its_day_though_nothing_comes_any_more(facts, tmp_path):
    """The time is told on the ledger, and the guard's clock goes on by it."""
    now = [parts.T0 + 60_000_000]
    bus, health, metrics, stop = MemoryBus(lambda: now[0] // 1000), Health(), Metrics(), asyncio.Event()
    publisher = Publisher(bus, CODEC, source="test")
    await publisher.start()
    await publisher.publish([Output("budgets", "acme/day", "budget", ALWAYS.event(0))])
    settings = load_settings(BudgetSettings, state_dir=tmp_path, poll_ms=5, tick_s=0.05)
    service = asyncio.create_task(run_stages(settings, bus, metrics, health, stop))
    await until(lambda: health.ready and values(bus, "budget-states"))
    await publisher.publish([sent(facts.call("q", 3, 1_000), "q")])
    await until(lambda: len(values(bus, "alerts")) == 4)
    now[0] += 86_400_000_000
    await until(lambda: len(values(bus, "alerts")) == 8)
    stop.set()
    await service
    alerts = values(bus, "alerts")
    assert [alert["state"] for alert in alerts] == ["firing"] * 4 + ["resolved"] * 4
    assert {alert["alert_id"] for alert in alerts[:4]} == {alert["alert_id"] for alert in alerts[4:]}
    assert {value["kind"] for value in values(bus, LEDGER)} == {"definition", "spend", "tick"}
    assert not bus.records("budget-ledger.dlq")


def test_the_topics_read_are_those_declared_and_every_field_needed_exists():
    declared = {name for name, topic in topics().items() if "budget" in topic.consumers}
    assert declared == {*INPUTS, LEDGER}
    assert {spec.name for spec in runner_specs()} == {"budget-spend", "budget-guard"}
    for event, fields in NEEDED.items():
        assert set(fields) <= {field["name"] for field in CODEC.schema(event)["fields"]}
    assert VERSION


async def test_stopping_before_the_budgets_are_read_is_clean(tmp_path):
    stop = asyncio.Event()
    stop.set()
    settings = load_settings(BudgetSettings, state_dir=tmp_path)
    async with asyncio.timeout(120):
        await run_stages(settings, MemoryBus(), Metrics(), Health(), stop)
