"""The service as wired, on the in-memory bus: charters and facts in, outcomes and policies out, bad charters aside."""

from __future__ import annotations

import asyncio

import pytest

from flywheel.events import Codec, LocalRegistry, topics
from flywheel.observe import Health, Metrics, load_settings
from flywheel.stream import MemoryBus, Output, Publisher
from flywheel_bandit.core import INPUTS
from flywheel_bandit.settings import BanditSettings
from flywheel_bandit.wiring import LEARN_TOPICS, NEEDED, VERSION, run_stages, runner_specs

CODEC = Codec(LocalRegistry.load())


def sent(event, key):
    return Output(event.topic, key, event.event, event.value)


def values(bus, topic):
    return [CODEC.decode(record.value).value for record in bus.records(topic)]


async def until(condition, seconds=30.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("late_charter", [False, True])
async def test_facts_become_outcomes_and_policies(facts, tmp_path, late_charter):
    bus, health, metrics, stop = MemoryBus(), Health(), Metrics(), asyncio.Event()
    publisher = Publisher(bus, CODEC, source="test")
    await publisher.start()
    charter = [sent(facts.charter(), "default/answers")]
    wrong = [sent(facts.charter("feature: [", revision=2), "default/answers")]
    parts = []
    for number in range(20):
        r = f"r{number}"
        batch = [
            facts.decision(r, number),
            facts.call(r, number),
            facts.judged(r, number, 1.0),
            facts.thumb(r, number, 1.0),
        ]
        parts += [sent(event, r) for event in batch]
    await publisher.publish(parts if late_charter else charter + wrong + parts)
    settings = load_settings(BanditSettings, state_dir=tmp_path, poll_ms=5)
    service = asyncio.create_task(run_stages(settings, bus, metrics, health, stop))
    if late_charter:
        await until(lambda: health.ready)
        await publisher.publish(charter + wrong)
        await asyncio.sleep(0.3)
        # Stage 1 looks at charters when facts arrive.
        more = [sent(facts.decision(f"more{n}", 30.0), f"more{n}") for n in range(40)]
        await publisher.publish(more)
    await until(lambda: any(p["outcomes"] == 20 for p in values(bus, "policies")))
    await until(lambda: len(bus.records("charters.dlq")) == 1)
    stop.set()
    await service
    assert {o["status"] for o in values(bus, "llm-outcomes")} == {"complete"}
    assert metrics.value("outcomes_total", feature="answers", status="complete") == 20
    policies = values(bus, "policies")
    versions = [policy["policy_version"] for policy in policies]
    assert versions == sorted(set(versions))
    assert metrics.value("policy_version", feature="answers") == versions[-1]
    assert values(bus, "charters.dlq")[0]["field"] == "charter_yaml"


def test_the_topics_read_are_those_declared_and_every_field_needed_exists():
    declared = {name for name, topic in topics().items() if "bandit" in topic.consumers}
    assert declared == {*INPUTS, *LEARN_TOPICS}
    assert {spec.name for spec in runner_specs()} == {"bandit-join", "bandit-learn"}
    for event, fields in NEEDED.items():
        assert set(fields) <= {field["name"] for field in CODEC.schema(event)["fields"]}
    assert VERSION


async def test_stopping_before_the_charters_are_read_is_clean(tmp_path):
    stop = asyncio.Event()
    stop.set()
    settings = load_settings(BanditSettings, state_dir=tmp_path)
    async with asyncio.timeout(120):
        await run_stages(settings, MemoryBus(), Metrics(), Health(), stop)
