"""Every service's sinks, held to the runner's promises over the examples in ``schemas/examples``."""

from __future__ import annotations

import asyncio
import importlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from flywheel.events import Codec, LocalRegistry, topics
from flywheel.events.examples import examples
from flywheel.observe import Health, Metrics
from flywheel.stream import Fold, MemoryBus, Outgoing, Runner, RunnerSettings, Sink, StepSpec, TopicPartition
from flywheel.stream.kafka import partition_of

SERVICES = ("ingest", "router", "bandit", "budget", "controller", "detector", "notifier", "recorder")
NOW_MS = 1_795_219_300_000
SETTINGS = RunnerSettings(poll_ms=5, backoff_s=0.02, backoff_max_s=0.1, commit_every_s=0.02)
codec = Codec(LocalRegistry.load())


def sinks(folder: Path) -> Iterator[tuple[StepSpec, Sink, Path]]:
    for service in SERVICES:
        wiring = importlib.import_module(f"flywheel_{service}.wiring")
        for spec in wiring.runner_specs() if hasattr(wiring, "runner_specs") else ():
            step = spec.make_step(folder / spec.name)
            if not isinstance(step, Fold):
                yield spec, step, folder / spec.name


def examples_and_junk(spec: StepSpec) -> MemoryBus:
    """Every example of every topic, all under one key; in the middle, where a topic has dead letters, some junk."""
    bus = MemoryBus(lambda: NOW_MS)
    for name in spec.topics:
        values = [codec.encode(topics()[name].event, value) for value in examples(topics()[name].event).values()]
        junk = [b"junk"] if topics()[name].dlq else []
        for data in (*values[:1], *junk, *values[1:]):
            bus.append(Outgoing(name, b"key", data))
    return bus


def ends(bus: MemoryBus, spec: StepSpec) -> dict[TopicPartition, int]:
    logs = {p: len(bus.log(p)) for name in spec.topics for p in bus.partitions_of(name)}
    return {partition: count for partition, count in logs.items() if count}


@asynccontextmanager
async def running(spec: StepSpec, step: Sink, bus: MemoryBus, group: str) -> AsyncIterator[None]:
    runner = Runner(
        service="conformance",
        service_version="1",
        bus=bus,
        codec=codec,
        step=step,
        topics=spec.topics,
        group=group,
        state_dir=None,
        metrics=Metrics(),
        health=Health(),
        settings=SETTINGS,
    )
    task = asyncio.create_task(runner.run())
    try:
        yield
    finally:
        await runner.stop()
        await task
        getattr(step, "close", lambda: None)()  # as the end of its process would


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not holds():
            await asyncio.sleep(0.02)


def letters(bus: MemoryBus, spec: StepSpec) -> list[dict[str, Any]]:
    names = {topics()[name].dlq for name in spec.topics} - {None}
    found = [codec.decode(r.value or b"").value for name in sorted(names) for r in bus.records(name)]
    return [letter for letter in found if letter["service"] == "conformance"]  # the others are examples


async def test_a_sink_settles_every_record_whatever_restarts(tmp_path: Path) -> None:
    found = 0
    for spec, step, folder in sinks(tmp_path):
        found += 1
        bus = examples_and_junk(spec)
        sources = [name for name in spec.topics if topics()[name].dlq in {*topics()}]
        async with running(spec, step, bus, "first"):
            await until(lambda b=bus, s=spec: b.committed("first").items() >= ends(b, s).items())  # type: ignore[misc]
        said = letters(bus, spec)
        assert Counter(d["source_topic"] for d in said if d["reason"] == "undecodable") == Counter(sources)
        assert all(d["value"] == b"junk" for d in said if d["reason"] == "undecodable")
        before = {letter["event_id"] for letter in said}
        assert len(before) == len(said)

        bus.append(Outgoing(sources[0], b"key", b"junk"))
        again = spec.make_step(folder)  # a new process over what the first one made durable, a group that knows nothing
        partitions = sorted(ends(bus, spec))
        assert set(partitions) <= set(await again.positions(partitions)), "what is durable says where to read on"
        async with running(spec, again, bus, "second"):
            await until(lambda b=bus, s=spec: b.committed("second").items() >= ends(b, s).items())  # type: ignore[misc]
        after = {letter["event_id"] for letter in letters(bus, spec)}
        assert before < after, f"{spec.name}: what is read again gets the dead letter it had"
        assert len(after) == len(before) + 1

        # A schema nobody knows yet holds its own partition, and no other.
        waiting = bus.append(Outgoing(sources[0], b"key", b"\x00\x00\x00\x99\x99later"))
        held = TopicPartition(sources[0], waiting.partition)
        other = next(k for k in "bcdefgh" if partition_of(k.encode(), 4) != waiting.partition)
        bus.append(Outgoing(sources[0], other.encode(), b"junk"))
        async with running(spec, spec.make_step(folder), bus, "third"):
            await until(lambda b=bus, s=spec, a=after: {d["event_id"] for d in letters(b, s)} > a)  # type: ignore[misc]
            await until(lambda b=bus, h=held, w=waiting: b.committed("third").get(h, 0) == w.offset)  # type: ignore[misc]
            await asyncio.sleep(0.3)
            assert bus.committed("third")[held] == waiting.offset
    assert found, "no service has a sink"
