"""The breaker under a sink: what holds for a fold (`test_stream_trouble.py`) holds there too."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from flywheel.events import Codec, LocalRegistry
from flywheel.events.examples import examples
from flywheel.observe import Health, Metrics
from flywheel.stream import Event, Hold, MemoryBus, Outgoing, RawRecord, Reject, Runner, RunnerSettings, TopicPartition
from flywheel.stream.types import Verdict


class Store:
    """A sink that takes what is not junk, as bytes or decoded; junk that cannot be decoded never reaches it."""

    def __init__(self, *, raw: bool) -> None:
        self.raw = raw
        self.taken: list[bytes | None] = []

    async def positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {}

    async def write(self, records: Sequence[Event | RawRecord]) -> Mapping[int, Verdict | Hold]:
        raws = [r if isinstance(r, RawRecord) else r.raw for r in records]
        rejected: dict[int, Verdict | Hold] = {
            i: Reject("undecodable", None, "junk") for i, r in enumerate(raws) if r.value == b"junk"
        }
        if not rejected:
            self.taken += [r.value for r in raws]
        return rejected


@pytest.mark.parametrize("raw", [True, False])
async def test_a_sinks_partition_of_nothing_but_poison_is_stopped_and_goes_on_after_it(raw: bool) -> None:
    bus, metrics, step, codec = MemoryBus(), Metrics(), Store(raw=raw), Codec(LocalRegistry.load())
    junk = [bus.append(Outgoing("llm-feedback", b"r", b"junk")) for _ in range(8)]
    runner = Runner(
        service="store",
        service_version="1",
        bus=bus,
        codec=codec,
        step=step,
        topics=["llm-feedback"],
        group="store",
        state_dir=None,
        metrics=metrics,
        health=Health(),
        settings=RunnerSettings(poll_ms=5, breaker_records=5, breaker_wait_s=0.5, max_records=2),
    )
    running = asyncio.create_task(runner.run())
    try:
        async with asyncio.timeout(120):
            while not metrics.value("stream_paused", topic="llm-feedback", partition=junk[0].partition):
                await asyncio.sleep(0.01)
            assert len(bus.records("llm-feedback.dlq")) == 6, "three polls of two, then it is stopped"
            good = codec.encode("feedback", examples("feedback")["thumb-up"])
            bus.append(Outgoing("llm-feedback", b"r", good))
            while not step.taken:
                await asyncio.sleep(0.01)
        assert step.taken == [good]
        assert len(bus.records("llm-feedback.dlq")) == 8
    finally:
        await runner.stop()
        await running
