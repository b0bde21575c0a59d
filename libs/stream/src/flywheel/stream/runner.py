"""The loop: poll, sort, fold or write, commit, send; and what happens when partitions move or a neighbour is down.

Order of a fold's batch: (1) state, offsets, outbox and marks commit in one local transaction; (2) the outbox is sent
and forgotten once acknowledged, and sent again after a crash; (3) the group is told the offsets, which is advice only.
A sink writes offsets with its effect, so for it (1) is the write.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import monotonic
from typing import TypeVar

from flywheel.events import Codec
from flywheel.observe import Health, Metrics, logger
from flywheel.stream.errors import Unavailable
from flywheel.stream.ports import Bus, Fold, Sink
from flywheel.stream.shard import Batch, Identity, Shard
from flywheel.stream.sink import SinkShards
from flywheel.stream.state import ShardState
from flywheel.stream.types import RawRecord, Reject, Skip, TopicPartition

T = TypeVar("T")
log = logger("stream.runner")
Records = Mapping[TopicPartition, Sequence[RawRecord]]


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """How the loop behaves; the defaults suit one process on a small machine."""

    max_records: int = 5000
    """Records per poll over all partitions: bounds memory together with the broker's fetch size."""
    poll_ms: int = 50
    commit_every_s: float = 1.0
    """How often the group is told offsets."""
    revoke_within_s: float = 10.0
    """Shared by everything a revoke or a shutdown waits for; shorter than the rebalance timeout."""
    backoff_s: float = 0.2
    backoff_max_s: float = 10.0
    stuck_after_s: float = 120.0
    """Records waiting and none finished for this long: dump stacks and exit 1."""
    synchronous: str = "NORMAL"
    """SQLite's setting: NORMAL survives the death of the process, FULL that of the machine."""


class Runner:
    """Runs one step over its topics until stopped."""

    def __init__(
        self,
        *,
        service: str,
        service_version: str,
        bus: Bus,
        codec: Codec,
        step: Fold | Sink,
        topics: Sequence[str],
        group: str,
        state_dir: Path | None,
        metrics: Metrics,
        health: Health,
        settings: RunnerSettings | None = None,
        name: str | None = None,
    ) -> None:
        self._identity = Identity(service, service_version)
        self._name = name or group
        self._bus, self._codec, self._step = bus, codec, step
        self._topics, self._state_dir = tuple(topics), state_dir
        self._settings = settings or RunnerSettings()
        self._metrics, self._health = metrics, health
        self._consumer = bus.consumer(topics=self._topics, group=group, listener=self)
        self._producer = bus.producer()
        self._shards: dict[int, Shard] = {}
        self._waiting: dict[TopicPartition, float] = {}
        self._attempts: dict[object, int] = defaultdict(int)
        self._stop = asyncio.Event()
        self._committed: dict[TopicPartition, int] = {}
        self._begin: dict[TopicPartition, int] = {}
        self._commit_at = self._progress_at = monotonic()
        self._jitter = Random(os.getpid())
        self._sinks = (
            None
            if isinstance(step, Fold)
            else SinkShards(step=step, codec=codec, identity=self._identity, producer=self._producer, metrics=metrics)
        )

    # Called by the bus ---------------------------------------------------------------------------------------------

    async def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """Open the shards of these partitions and read on where their state ends, not where the group says."""
        self._consumer.pause(partitions)  # before the first await: nothing may be read from a place not yet decided
        self._metrics.count("stream_rebalances_total", 1, kind="assigned")
        positions = await self._positions(partitions)
        fresh = [p for p in partitions if not positions.get(p)]
        if fresh:
            self._begin.update(await self._retrying("kafka", lambda: self._consumer.beginning_offsets(fresh)))
        for partition in partitions:
            offset = positions.get(partition) or self._begin.get(partition, 0)
            if self._sinks is not None:
                self._sinks.begin(partition, offset)
            self._consumer.seek(partition, offset)
            self._committed.pop(partition, None)
            if self._sinks is None and self._shards[partition.partition].unsent:
                self._waiting[partition] = monotonic()  # what a crash left in the outbox goes first
        self._consumer.resume([p for p in partitions if p not in self._waiting])
        self._health.set_ready(self._name, True, f"{len(self._consumer.assignment())} partitions")

    async def _positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        if self._sinks is not None:
            sinks = self._sinks
            return await self._retrying("store", lambda: sinks.positions(partitions))
        for number in sorted({p.partition for p in partitions} - set(self._shards)):
            self._shards[number] = self._open(number)
        return {p: self._shards[p.partition].state.offsets.get(p, 0) for p in partitions}

    async def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Finish or abandon what is under way within one deadline, then let the partitions go."""
        self._metrics.count("stream_rebalances_total", 1, kind="revoked")
        ends = monotonic() + self._settings.revoke_within_s
        if self._sinks is not None:
            await self._sinks.revoked(partitions, self._settings.revoke_within_s)
        for number in sorted({p.partition for p in partitions} & set(self._shards)):
            await self._shards.pop(number).revoke(max(0.0, ends - monotonic()))
        for partition in partitions:
            self._waiting.pop(partition, None)

    # The loop ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until `stop`; dependencies that are away are waited for. Raises Fatal."""
        await self._retrying("kafka", self._producer.start)
        await self._retrying("kafka", self._consumer.start)
        watch = asyncio.create_task(self._watch())
        try:
            while not self._stop.is_set():
                await self._turn()
        finally:
            watch.cancel()
            await self._leave()

    async def stop(self) -> None:
        """Ask `run` to finish the batch in hand and leave."""
        self._stop.set()

    async def _turn(self) -> None:
        await self._resume_due()
        try:
            polled = await self._consumer.poll(
                max_records=self._settings.max_records, timeout_ms=self._settings.poll_ms
            )
        except Unavailable as error:
            await self._back_off("kafka", error)
            return
        if self._sinks is not None:
            await self._write(self._sinks, polled)
        else:
            for number, records in self._by_shard(polled).items():
                await self._process(number, records)
        if monotonic() >= self._commit_at:
            await self._tell_group()

    async def _write(self, sinks: SinkShards, polled: Records) -> None:
        try:
            with self._metrics.timed("stream_batch_seconds", step=self._name):
                held = await sinks.take(polled)
        except Unavailable as error:
            self._rewind({p: records[0].offset for p, records in polled.items() if records}, error)
            return
        self._progress({p: records for p, records in polled.items() if p not in held})
        for partition, (offset, hold) in held.items():
            self._rewind({partition: offset}, Unavailable(hold.reason, hold.retry_after_s))

    async def _process(self, number: int, records: Records) -> None:
        shard = self._shards.get(number)
        if shard is None:
            return
        batch = shard.sort(records)
        for partition, offset in batch.unknown.items():
            self._rewind({partition: offset}, Unavailable(f"unknown schema at {partition.topic}/{offset}", 5.0))
        if batch.offsets:
            with self._metrics.timed("stream_batch_seconds", step=self._name):
                if not await shard.process(batch, self._step):  # type: ignore[arg-type]
                    return
            self._count(batch)
        await self._send(shard, records)

    async def _send(self, shard: Shard, records: Records) -> None:
        """Send the shard's outbox; while that fails the shard's partitions stay paused and nothing more is taken."""
        try:
            await shard.flush(self._producer)
        except Unavailable as error:
            self._metrics.gauge("stream_outbox_records", len(shard.state.outbox()), partition=shard.number)
            held = [p for p in self._consumer.assignment() if p.partition == shard.number]
            self._rewind({p: shard.state.offsets.get(p, self._begin.get(p, 0)) for p in held}, error)
            return
        self._metrics.gauge("stream_outbox_records", 0, partition=shard.number)
        self._progress(records)

    async def _leave(self) -> None:
        ends = monotonic() + self._settings.revoke_within_s
        try:
            async with asyncio.timeout(max(0.1, ends - monotonic())):
                await self._tell_group()
        except (Unavailable, TimeoutError) as error:
            log.warning("offsets_not_told", detail=str(error))
        if self._sinks is not None:
            await self._sinks.revoked(sorted(self._consumer.assignment()), max(0.0, ends - monotonic()))
        for shard in self._shards.values():
            await shard.revoke(max(0.0, ends - monotonic()))
        self._shards.clear()
        await self._consumer.stop()
        await self._producer.stop()

    # Waiting -------------------------------------------------------------------------------------------------------

    def _rewind(self, offsets: Mapping[TopicPartition, int], error: Unavailable) -> None:
        """Read these again later: the partitions pause, the member goes on heartbeating."""
        held = [p for p in offsets if p in self._consumer.assignment()]
        for partition in held:
            self._attempts[partition] += 1
            self._consumer.seek(partition, offsets[partition])
            self._waiting[partition] = monotonic() + self._delay(partition, error)
            self._metrics.gauge("stream_paused", 1, topic=partition.topic, partition=partition.partition)
        self._consumer.pause(held)
        self._metrics.count("stream_retries_total", 1, dependency="downstream")
        log.warning("paused", partitions=[f"{p.topic}/{p.partition}" for p in held], why=error.detail)

    async def _resume_due(self) -> None:
        due = [p for p, at in self._waiting.items() if at <= monotonic()]
        for partition in due:
            shard = self._shards.get(partition.partition)
            if shard is not None and shard.unsent:
                await self._send(shard, {})
                if shard.unsent:
                    return  # its partitions wait anew
            if self._waiting.pop(partition, None) is not None:
                self._metrics.gauge("stream_paused", 0, topic=partition.topic, partition=partition.partition)
        if due:
            held = self._consumer.assignment()
            self._consumer.resume([p for p in due if p in held and p not in self._waiting])

    def _delay(self, what: object, error: Unavailable) -> float:
        steps = min(self._attempts[what], 10)
        longest: float = min(self._settings.backoff_max_s, self._settings.backoff_s * 2.0**steps)
        return max(min(error.retry_after_s, longest), longest * self._jitter.uniform(0.5, 1.0))

    async def _back_off(self, dependency: str, error: Unavailable) -> None:
        self._attempts[dependency] += 1
        self._metrics.count("stream_retries_total", 1, dependency=dependency)
        self._health.set_ready(self._name, False, error.detail)
        log.warning("waiting", dependency=dependency, why=error.detail)
        await asyncio.sleep(self._delay(dependency, error))

    async def _retrying(self, dependency: str, act: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                done = await act()
            except Unavailable as error:
                await self._back_off(dependency, error)
            else:
                self._attempts.pop(dependency, None)
                return done

    # Progress ------------------------------------------------------------------------------------------------------

    def _open(self, number: int) -> Shard:
        path = None if self._state_dir is None else self._state_dir / self._name / f"{number}.sqlite"
        state = ShardState(path, synchronous=self._settings.synchronous)
        return Shard(number=number, state=state, codec=self._codec, identity=self._identity)

    @staticmethod
    def _by_shard(polled: Records) -> dict[int, dict[TopicPartition, Sequence[RawRecord]]]:
        found: dict[int, dict[TopicPartition, Sequence[RawRecord]]] = defaultdict(dict)
        for partition, records in polled.items():
            found[partition.partition][partition] = records
        return found

    def _progress(self, records: Records) -> None:
        if records:
            self._progress_at = monotonic()
        for partition in records:
            self._attempts.pop(partition, None)

    def _count(self, batch: Batch) -> None:
        for event in batch.events:
            self._metrics.count("stream_records_total", 1, topic=event.topic, verdict="ok")
        for topic, verdict in batch.verdicts:
            kind = "skip" if isinstance(verdict, Skip) else "reject"
            self._metrics.count("stream_records_total", 1, topic=topic, verdict=kind)
            if isinstance(verdict, Reject):
                self._metrics.count("stream_dead_letters_total", 1, topic=topic, reason=verdict.reason)

    def _durable(self) -> Mapping[TopicPartition, int]:
        if self._sinks is not None:
            return self._sinks.durable()
        return {p: n for s in self._shards.values() for p, n in s.acknowledged.items()}

    async def _tell_group(self) -> None:
        self._commit_at = monotonic() + self._settings.commit_every_s
        durable = self._durable()
        held = self._consumer.assignment()
        news = {p: n for p, n in durable.items() if p in held and self._committed.get(p) != n}
        if news:
            await self._consumer.commit(news)
            self._committed.update(news)

    async def _watch(self) -> None:
        """Measure lag; when records wait and none is finished for too long, say where everything stands and exit."""
        while True:
            await asyncio.sleep(1.0)
            self._health.beat(self._name, self._settings.stuck_after_s)
            held = sorted(self._consumer.assignment())
            try:
                ends = await self._consumer.end_offsets(held) if held else {}
            except Unavailable:
                continue
            durable = self._durable()
            lag = {p: max(0, end - durable.get(p, self._begin.get(p, 0))) for p, end in ends.items()}
            for partition, records in lag.items():
                self._metrics.gauge("lag_records", records, topic=partition.topic, partition=partition.partition)
            behind = sum(lag.values()) > 0 and not self._waiting
            if not behind:
                self._progress_at = max(self._progress_at, monotonic() - self._settings.stuck_after_s / 2)
            elif monotonic() - self._progress_at > self._settings.stuck_after_s:
                log.error("stuck", lag=sum(lag.values()), seconds=self._settings.stuck_after_s)
                faulthandler.dump_traceback(file=sys.stderr)
                os._exit(1)
