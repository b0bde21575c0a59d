"""A service of two folds, one of which looks at a compacted table: how they start, wait for it and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from pydantic import Field

from flywheel.events import Codec
from flywheel.observe import Health, Metrics, ServiceSettings, operations_app, serve, stop_on_signals
from flywheel.stream.kafka import KafkaBus
from flywheel.stream.ports import Bus, Fold, StateView
from flywheel.stream.runner import Runner
from flywheel.stream.settings import RunnerSettings
from flywheel.stream.table import CompactedTable
from flywheel.stream.types import Event, FoldResult, Output


class StageSettings(ServiceSettings):
    """What an operator chooses for a service of stages; a service adds its own."""

    group: str = Field(
        "flywheel", min_length=1, description="Front of the consumer groups' names; another one reads the log anew."
    )
    batch_records: int = Field(5_000, ge=1, le=100_000, description="Most records in one batch of a stage.")
    poll_ms: int = Field(50, ge=1, le=10_000, description="Longest wait for records, in milliseconds.")


@dataclass(frozen=True, slots=True)
class Stage:
    """One fold and what it reads; ``count`` is told each of its outputs."""

    name: str
    topics: Sequence[str]
    codec: Codec
    fold: Fold
    count: Callable[[Output], None]


@dataclass(frozen=True, slots=True)
class Process:
    """The process that runs the stages."""

    service: str
    version: str
    settings: StageSettings
    bus: Bus
    metrics: Metrics
    health: Health


class Counted:
    """A fold whose outputs are counted."""

    def __init__(self, fold: Fold, count: Callable[[Output], None]) -> None:
        self._fold, self._count = fold, count

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
        """Fold, then count."""
        result = self._fold.fold(shard, events, state)
        for output in result.outputs:
            self._count(output)
        return result


Work = Callable[[Bus, Metrics, Health, asyncio.Event], Coroutine[None, None, None]]


async def serve_process(service: str, version: str, settings: ServiceSettings, work: Work) -> None:
    """Run ``work`` on Kafka beside the operations endpoint until SIGTERM, which finishes the batches in hand."""
    metrics, health, stop = Metrics(), Health(), asyncio.Event()
    metrics.gauge("build_info", 1, service=service, version=version)
    stop_on_signals(stop)
    bus = KafkaBus(settings.kafka_bootstrap, client_id=service)
    operations = operations_app(health, metrics)
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(operations, settings.host, settings.ops_port or 0, name="ops", stop=stop))
        group.create_task(work(bus, metrics, health, stop))


async def run_stages(
    process: Process, *, first: Stage, second: Stage, table: CompactedTable, needs: str, stop: asyncio.Event
) -> None:
    """Run both stages until ``stop`` is set. The first begins when ``table`` is read to its end; ``needs`` is the name
    under which readiness says so."""
    health = process.health
    for part in (first.name, second.name, needs):
        health.set_ready(part, False, "starting")
    behind, ahead = runner_of(process, second), runner_of(process, first)
    async with asyncio.TaskGroup() as group:
        group.create_task(table.run())
        group.create_task(behind.run())
        ready = group.create_task(table.ready.wait())
        stopped = group.create_task(stop.wait())
        await asyncio.wait([ready, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            health.set_ready(needs, True)
            group.create_task(ahead.run())
        await stopped
        ready.cancel()
        await table.stop()
        await ahead.stop()
        await behind.stop()


def runner_of(process: Process, stage: Stage) -> Runner:
    """Return the runner of one stage."""
    settings = process.settings
    return Runner(
        service=process.service,
        service_version=process.version,
        bus=process.bus,
        codec=stage.codec,
        step=Counted(stage.fold, stage.count),
        topics=stage.topics,
        group=f"{settings.group}-{stage.name}",
        state_dir=settings.state_dir / process.service,
        metrics=process.metrics,
        health=process.health,
        settings=RunnerSettings(max_records=settings.batch_records, poll_ms=settings.poll_ms),
        name=stage.name,
    )
