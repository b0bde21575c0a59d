"""The time is told while the intake keeps up, whatever keeps coming, and is not told over a backlog."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from flywheel.events import Codec, LocalRegistry
from flywheel.events.examples import examples
from flywheel.observe import Health, Metrics
from flywheel.stream import (
    Event,
    FoldResult,
    MemoryBus,
    Outgoing,
    Output,
    Runner,
    RunnerSettings,
    StateView,
    Ticker,
)

CODEC = Codec(LocalRegistry.load())
THUMB = examples("feedback")["thumb-up"]
INPUT, LEDGER = "llm-feedback", "control-ledger"
UNKNOWN = b"\x00\x00\x00\x99\x99later"


class TakeAll:
    """Takes everything."""

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
        return FoldResult([])


def entry(number: int, keys: Sequence[str], now_us: int) -> Output:
    value = {"event_id": f"{number}-{now_us}", "project": "", "occurred_at": now_us, "kind": "tick"}
    return Output(LEDGER, keys[number], "control_entry", value)


def ticker_of(bus: MemoryBus, metrics: Metrics) -> Ticker:
    return Ticker(bus, CODEC, metrics, ledger=LEDGER, inputs=[INPUT], entry=entry, tick_s=0.05, source="test")


async def partitions(bus: MemoryBus) -> list[tuple[str, int]]:
    return [(INPUT, number) for number in range(await bus.partitions(INPUT))]


@asynccontextmanager
async def reading(bus: MemoryBus, state_dir: Path, metrics: Metrics) -> AsyncIterator[None]:
    runner = Runner(
        service="intake", service_version="1", bus=bus, codec=CODEC, step=TakeAll(), topics=[INPUT], group="intake",
        state_dir=state_dir, metrics=metrics, health=Health(), settings=RunnerSettings(poll_ms=20),
    )  # fmt: skip
    task = asyncio.create_task(runner.run())
    try:
        yield
    finally:
        await runner.stop()
        await task


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


class Busy(MemoryBus):
    """A broker on which one more record lies whenever somebody asks where its partitions end: some wait at any time."""

    def consumer(self, **wanted: Any) -> Any:
        made = super().consumer(**wanted)
        real, numbers = made.end_offsets, itertools.count()

        async def end_offsets(asked: Any) -> Any:
            value = THUMB | {"event_id": f"e{next(numbers)}"}
            self.append(Outgoing(INPUT, b"a", CODEC.encode("feedback", value)))
            return await real(asked)

        made.end_offsets = end_offsets  # type: ignore[method-assign]
        return made


async def test_the_time_is_told_though_records_keep_coming_and_not_over_a_backlog(tmp_path: Path) -> None:
    bus, metrics, stop = Busy(), Metrics(), asyncio.Event()
    ticker, known = ticker_of(bus, metrics), await partitions(bus)
    assert not ticker.caught_up(known), "before it looked"
    async with reading(bus, tmp_path, metrics), asyncio.TaskGroup() as group:
        telling = group.create_task(ticker.run(stop))
        await until(lambda: len(bus.records(LEDGER)) > 0)
        assert any(metrics.value("lag_records", topic=t, partition=str(p)) for t, p in known)
        bus.append(Outgoing(INPUT, b"a", UNKNOWN))
        await until(lambda: not ticker.caught_up(known))
        stop.set()
        await telling


async def test_what_waits_in_a_partition_that_was_given_away_stops_nobodys_time(tmp_path: Path) -> None:
    """Every partition begins with a record that has to wait; one of two members loses half of them."""
    bus, mine, theirs = MemoryBus(), Metrics(), Metrics()
    for number in range(200):
        bus.append(Outgoing(INPUT, f"k{number}".encode(), UNKNOWN))
    known = await partitions(bus)

    def waiting(metrics: Metrics) -> int:
        return sum(bool(metrics.value("overdue_records", topic=t, partition=str(p))) for t, p in known)

    async with reading(bus, tmp_path, mine):
        await until(lambda: waiting(mine) == len(known))
        async with reading(bus, tmp_path, theirs):
            await until(lambda: waiting(mine) + waiting(theirs) == len(known) and waiting(theirs) > 0)
