"""The service as wired, on the in-memory bus: calls in; observations, alerts and dead letters out."""

from __future__ import annotations

import asyncio
import importlib.util
import random
from pathlib import Path

from flywheel.events import topics
from flywheel.observe import Health, Metrics, load_settings
from flywheel.stream import MemoryBus, Output, Publisher
from flywheel_detector.core import INPUTS, LEDGER
from flywheel_detector.settings import DetectorSettings
from flywheel_detector.wiring import NEEDED, VERSION, run_stages, runner_specs

_spec = importlib.util.spec_from_file_location("detector_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)


def values(bus, topic):
    return [parts.CODEC.decode(record.value).value for record in bus.records(topic)]


def sent(event):
    return Output(event.topic, event.value["request_id"], event.event, event.value)


async def until(condition, seconds=120.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_an_outage_becomes_an_alert(tmp_path):
    now_s = 0.0
    bus = MemoryBus(lambda: parts.T0 // 1000 + round(now_s * 1000))
    health, metrics, stop = Health(), Metrics(), asyncio.Event()
    publisher = Publisher(bus, parts.CODEC, source="test")
    await publisher.start()
    dice = random.Random(1)
    settings = load_settings(DetectorSettings, state_dir=tmp_path, poll_ms=5, tick_s=0.05, warm_up=64)
    service = asyncio.create_task(run_stages(settings, bus, metrics, health, stop))
    await until(lambda: health.ready)
    n = 0
    while not values(bus, "alerts"):
        rate = 0.02 if now_s < 300 else 0.9
        made = [parts.call(n + k, now_s + k, status="ERROR" if dice.random() < rate else "OK") for k in range(20)]
        n, now_s = n + 20, now_s + 20
        await publisher.publish([sent(event) for event in made])
        ticks = len(bus.records(LEDGER))
        await until(lambda ticks=ticks: len(bus.records(LEDGER)) > ticks + 12)
        assert n < 1000
    await publisher.publish([sent(parts.call(n, now_s, latency_ms=-1.0))])
    await until(lambda: bus.records("llm-calls.dlq"))
    stop.set()
    await service
    alert = values(bus, "alerts")[0]
    assert (alert["kind"], alert["state"], alert["scope"]["arm"]) == ("error_rate", "firing", "strong")
    (letter,) = values(bus, "llm-calls.dlq")
    assert (letter["reason"], letter["field"]) == ("out_of_range", "latency_ms")
    assert metrics.value("detector_alerts_total", kind="error_rate", state="firing") == 1
    assert not bus.records("detection-ledger.dlq")


def test_the_topics_read_are_those_declared_and_every_field_needed_exists():
    declared = {name for name, topic in topics().items() if "detector" in topic.consumers}
    assert declared == {*INPUTS, LEDGER}
    assert {spec.name for spec in runner_specs()} == {"detector-intake", "detector-detect"}
    for event, fields in NEEDED.items():
        assert set(fields) <= {field["name"] for field in parts.CODEC.schema(event)["fields"]}
    assert VERSION


async def test_stopping_at_once_is_clean(tmp_path):
    stop = asyncio.Event()
    stop.set()
    settings = load_settings(DetectorSettings, state_dir=tmp_path)
    async with asyncio.timeout(120):
        await run_stages(settings, MemoryBus(), Metrics(), Health(), stop)
