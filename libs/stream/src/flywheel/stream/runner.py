"""The loop: poll, sort, fold or write, commit, send; and what happens when partitions move or a neighbour is down.

Order of a fold's batch: (1) state, offsets, outbox and marks commit in one local transaction; (2) the outbox is sent
and forgotten once acknowledged, and sent again after a crash; (3) the group is told the offsets, which is advice only.
A sink writes offsets with its effect, so for it (1) is the write.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import time
from typing import TypeVar

from flywheel.events import Codec
from flywheel.observe import Health, Metrics, logger
from flywheel.stream.breaker import Breaker
from flywheel.stream.clock import now
from flywheel.stream.errors import Fatal, Unavailable
from flywheel.stream.faults import armed_faults
from flywheel.stream.offsets import resume_at
from flywheel.stream.ports import Bus, Fold, Sink
from flywheel.stream.settings import SESSION_TIMEOUT_S, RunnerSettings
from flywheel.stream.shard import Identity, Shard
from flywheel.stream.sink import SinkShards
from flywheel.stream.state import ShardState
from flywheel.stream.types import RawRecord, TopicPartition
from flywheel.stream.waits import Waits
from flywheel.stream.watch import Watch, count_age, count_batch, trace_handled

T = TypeVar("T")
log = logger("stream.runner")
Records = Mapping[TopicPartition, Sequence[RawRecord]]


def _by_shard(polled: Records) -> Mapping[int, Records]:
    found: dict[int, dict[TopicPartition, Sequence[RawRecord]]] = defaultdict(dict)
    for partition, records in polled.items():
        found[partition.partition][partition] = records
    return found


class _Stopped(Exception):
    """Asked to stop while waiting for something."""


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
        self._faults = armed_faults(os.environ)
        self._name = name or group
        self._bus, self._codec, self._step = bus, codec, step
        self._topics, self._state_dir = tuple(topics), state_dir
        self._settings = settings or RunnerSettings()
        self._metrics, self._health = metrics, health
        self._consumer = bus.consumer(topics=self._topics, group=group, listener=self)
        self._producer = bus.producer()
        self._shards: dict[int, Shard] = {}
        self._stop = asyncio.Event()
        self._committed: dict[TopicPartition, int] = {}
        self._commit_at = 0.0
        self._breaker = Breaker(self._settings.breaker_records)
        self._sending: dict[Shard, asyncio.Task[None]] = {}
        self._failure: Exception | None = None
        self._generation = 0
        self._waits = Waits(self._consumer, self._settings, metrics)
        self._watch = Watch(
            name=self._name,
            consumer=self._consumer,
            waits=self._waits,
            done=self._durable,
            settings=self._settings,
            metrics=metrics,
            health=health,
        )
        self._sinks = (
            None
            if isinstance(step, Fold)
            else SinkShards(
                step=step,
                codec=codec,
                identity=self._identity,
                producer=self._producer,
                metrics=metrics,
                faults=self._faults,
            )
        )

    # Called by the bus

    async def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """Open the shards of these partitions and read on where their state ends, not where the group says."""
        self._generation += 1
        self._consumer.pause(partitions)  # before the first await: nothing may be read from a place not yet decided
        self._metrics.count("stream_rebalances_total", 1, kind="assigned")
        try:
            await self._take_over(partitions)
        except _Stopped:
            return
        except Exception as error:  # the client would log it and go on; `run` raises it
            self._failure = error

    async def _take_over(self, partitions: Sequence[TopicPartition]) -> None:
        generation = self._generation
        positions = await self._positions(partitions)
        begins = await self._retrying("kafka", lambda: self._consumer.beginning_offsets(partitions))
        ends = await self._retrying("kafka", lambda: self._consumer.end_offsets(partitions))
        if generation != self._generation:
            return  # after a freeze two may take over at once: the group has decided anew, and that one goes on
        self._watch.begin.update(begins)
        for partition in partitions:
            if self._sinks is None and partition.partition not in self._shards:
                continue  # its state is held by another process
            done = positions.get(partition)
            offset = resume_at(self._name, partition, done=done, begin=begins[partition], end=ends[partition])
            self._consumer.seek(partition, offset)
            self._committed.pop(partition, None)
            if self._sinks is not None:
                self._sinks.begin(partition, offset)
                continue
            shard = self._shards[partition.partition]
            if offset < ends[partition]:
                shard.ends[partition] = ends[partition]
            if shard.unsent:
                self._waits.note(partition, 0.0)  # what a crash left in the outbox goes first
        self._consumer.resume([p for p in partitions if p not in self._waits])
        self._health.set_ready(self._name, True, f"{len(self._consumer.assignment())} partitions")

    async def _positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        if self._sinks is not None:
            sinks = self._sinks
            return await self._retrying("store", lambda: sinks.positions(partitions))
        for number in sorted({p.partition for p in partitions} - set(self._shards)):
            try:
                self._shards[number] = self._open(number)
            except Unavailable as error:
                self._waits.hold([p for p in partitions if p.partition == number], error)
        opened = {p: self._shards[p.partition].state.offsets for p in partitions if p.partition in self._shards}
        return {p: offsets[p] for p, offsets in opened.items() if p in offsets}

    async def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Finish or abandon what is under way within one deadline, then let the partitions go."""
        self._metrics.count("stream_rebalances_total", 1, kind="revoked")
        self._generation += 1
        ends = now() + self._settings.revoke_within_s
        if self._sinks is not None:
            await self._sinks.revoked(partitions, self._settings.revoke_within_s)
        await self._let_go({p.partition for p in partitions} & set(self._shards), ends)
        for partition in partitions:
            self._waits.forget(partition)
            self._breaker.forget(partition)

    async def _let_go(self, numbers: Iterable[int], ends: float) -> None:
        """Close shards by ``ends`` (seconds of the loop's clock); what is still being sent then is abandoned."""
        for number in sorted(numbers):
            if not await self._shards.pop(number).revoke(max(0.0, ends - now())):
                await self._producer.abandon()

    # The loop ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until `stop`; dependencies that are away are waited for. Raises Fatal."""
        self._watch.start()
        try:
            await self._retrying("kafka", self._producer.start)
            await self._check_topics()
            await self._retrying("kafka", self._consumer.start)
            while not self._stop.is_set():
                await self._turn()
                self._watch.check()
                self._look_at_sends()
        except _Stopped:
            log.info("stopped_while_waiting")
        finally:
            self._watch.stop()
            await self._leave()

    async def _check_topics(self) -> None:
        """Wait until all topics exist; a fold's must have one number of partitions, as its shards are those."""
        counts: dict[str, int] = {}
        for topic in self._topics:
            counts[topic] = await self._retrying("kafka", partial(self._bus.partitions, topic))
        if self._sinks is None and len(set(counts.values())) > 1:
            raise Fatal(f"{self._name}: topics are not partitioned alike, so keys do not meet: {counts}")

    async def stop(self) -> None:
        """Ask `run` to finish the batch in hand and leave."""
        self._stop.set()

    async def _turn(self) -> None:
        await self._resume_due()
        try:
            polled = await self._consumer.poll(
                max_records=self._settings.max_records, timeout_ms=self._settings.poll_ms
            )
            if polled:
                self._faults.at("after_fetch")
        except Unavailable as error:
            await self._back_off("kafka", error)
            return
        if self._failure is not None:
            raise self._failure
        if self._watch.frozen:
            await self._after_freeze()
            return
        count_age(self._metrics, polled, time())
        if self._sinks is not None:
            await self._write(self._sinks, self._through_breaker(polled))
        else:
            generation = self._generation
            for number, records in _by_shard(self._through_breaker(polled)).items():
                if generation == self._generation:  # else these were read before a rebalance: they are read again
                    await self._process(number, records)
        if now() >= self._commit_at:
            await self._tell_group()

    async def _after_freeze(self) -> None:
        """The process stood still so long that the group may have given its partitions away: drop what is in hand.

        After a heartbeat's time the client knows; what it then still holds is taken over as if it were assigned anew.
        """
        log.warning("frozen", seconds=now() - self._watch.turned_at)
        self._consumer.pause(self._consumer.assignment())
        await self._sleep(SESSION_TIMEOUT_S / 2)
        self._watch.turned_at = now()
        await self.assigned(sorted(self._consumer.assignment()))

    def _through_breaker(self, polled: Records) -> Records:
        """What to take now; the rest of a stopped partition is read again when it resumes."""
        taken = self._breaker.let_through(polled)
        for partition, records in polled.items():
            if len(taken[partition]) < len(records):
                self._waits.pause(partition, taken[partition][-1].offset + 1, self._settings.breaker_wait_s)
        return taken

    async def _write(self, sinks: SinkShards, polled: Records) -> None:
        if not polled:
            return
        try:
            with self._metrics.timed("stream_batch_seconds", step=self._name):
                held = await sinks.take(polled)
        except Unavailable as error:
            self._waits.rewind({p: records[0].offset for p, records in polled.items() if records}, error)
            return
        self._metrics.observe("stream_batch_records", sum(map(len, polled.values())), step=self._name)
        self._progress({p: records for p, records in polled.items() if p not in held})
        for partition, (offset, hold) in held.items():
            self._waits.rewind({partition: offset}, Unavailable(hold.reason, hold.retry_after_s))
        for partition, records in polled.items():
            if partition not in held:
                self._look(partition, len(records), sinks.buried[partition], records[-1].offset + 1)

    async def _process(self, number: int, records: Records) -> None:
        shard = self._shards.get(number)
        if shard is None:
            return
        if shard.unsent >= self._settings.max_unsent_batches:
            await self._send(shard)
            if shard.unsent:
                return  # paused and rewound: these records come again
        with self._metrics.timed("stream_batch_seconds", step=self._name):
            batch = await shard.take(records, self._step)  # type: ignore[arg-type]
        if batch is None:
            self._reopen(number, shard)
            return
        self._metrics.observe("stream_batch_records", len(batch.events), step=self._name)
        count_batch(self._metrics, batch)
        self._progress({p: some for p, some in records.items() if p not in batch.unknown})
        for partition, offset in batch.unknown.items():
            self._waits.rewind({partition: offset}, Unavailable(f"unknown schema at {partition.topic}/{offset}", 5.0))
        for partition, taken in batch.taken.items():
            if partition not in batch.unknown and partition in batch.offsets:
                self._look(partition, taken, batch.refused[partition], batch.offsets[partition])
        self._send_soon(shard)

    def _look(self, partition: TopicPartition, taken: int, bad: int, after: int) -> None:
        """Stop the partition where its records are nothing but dead letters."""
        if self._breaker.saw(partition, taken=taken, bad=bad):
            log.error("breaker_open", topic=partition.topic, partition=partition.partition, offset=after)
            self._waits.pause(partition, after, self._settings.breaker_wait_s)

    def _reopen(self, number: int, shard: Shard) -> None:
        """Another process opened this shard's state. While the group says it is ours, go on from what that one left."""
        if self._shards.get(number) is not shard:
            return  # revoked: it is not ours
        log.warning("state_taken_by_another", shard=number)
        self._shards.pop(number).state.close()
        held = [p for p in self._consumer.assignment() if p.partition == number]
        self._waits.hold(held, Unavailable("another process opened the state"))

    def _send_soon(self, shard: Shard) -> None:
        """Send the outbox while the next batch is folded."""
        task = self._sending.get(shard)
        if task is not None and task.done():
            task.result()
        if shard.unsent and (task is None or task.done()):
            self._sending[shard] = asyncio.create_task(self._send(shard))

    def _look_at_sends(self) -> None:
        """Raise what ended a send. By shard, not number: one that came back must not wait for its former self."""
        for shard, task in list(self._sending.items()):
            if task.done():
                del self._sending[shard]
                task.result()

    async def _send(self, shard: Shard) -> None:
        """Send the shard's outbox; while that fails the shard's partitions stay paused and nothing more is taken."""
        try:
            sent = await shard.flush(self._producer)
        except Unavailable as error:
            self._metrics.gauge("stream_outbox_records", shard.unsent_records, partition=shard.number)
            held = [p for p in self._consumer.assignment() if p.partition == shard.number]
            self._waits.rewind({p: shard.state.offsets.get(p, self._watch.begin.get(p, 0)) for p in held}, error)
            return
        for topic, count in sent.items():
            self._metrics.count("stream_outputs_total", count, topic=topic)
        self._metrics.gauge("stream_outbox_records", 0, partition=shard.number)
        self._watch.progress()

    async def _leave(self) -> None:
        ends = now() + self._settings.revoke_within_s
        for shard in self._shards.values():
            self._send_soon(shard)
        if self._sending:
            await asyncio.wait(self._sending.values(), timeout=max(0.1, ends - now()))
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.1, ends - now())):
                await self._tell_group()
        if self._sinks is not None:
            await self._sinks.revoked(sorted(self._sinks.durable()), max(0.0, ends - now()))
        await self._let_go(list(self._shards), ends)
        with suppress(TimeoutError):  # a broker that is away need not hear that we leave
            async with asyncio.timeout(max(1.0, ends - now())):
                await self._consumer.stop()
        await self._producer.stop()

    # Waiting -------------------------------------------------------------------------------------------------------

    async def _resume_due(self) -> None:
        due = self._waits.due()
        closed = [p for p in due if self._sinks is None and p.partition not in self._shards]
        if closed:
            for partition in closed:
                self._waits.forget(partition)
            await self._take_over(closed)
        for partition in due:
            shard = self._shards.get(partition.partition)
            if shard is not None and shard.unsent:
                await self._send(shard)
                if shard.unsent:
                    return  # its partitions wait anew
        self._waits.resume(p for p in due if p in self._waits and p not in closed)

    async def _back_off(self, dependency: str, error: Unavailable) -> None:
        self._metrics.count("stream_retries_total", 1, dependency=dependency)
        self._health.set_ready(self._name, False, error.detail)
        log.warning("waiting", dependency=dependency, why=error.detail)
        await self._sleep(self._waits.delay(dependency, error))

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not through `stop`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _retrying(self, dependency: str, act: Callable[[], Awaitable[T]]) -> T:
        """What ``act`` gives once its dependency is there. Raises _Stopped."""
        while not self._stop.is_set():
            try:
                done = await act()
            except Unavailable as error:
                await self._back_off(dependency, error)
            else:
                self._waits.succeeded(dependency)
                return done
        raise _Stopped

    # Progress ------------------------------------------------------------------------------------------------------

    def _open(self, number: int) -> Shard:
        path = None if self._state_dir is None else self._state_dir / self._name / f"{number}.sqlite"
        state = ShardState(path, synchronous=self._settings.synchronous)
        return Shard(number=number, state=state, codec=self._codec, identity=self._identity, faults=self._faults)

    def _progress(self, records: Records) -> None:
        if records:
            self._watch.progress()
        trace_handled(self._identity.service, records)
        for partition in records:
            self._waits.succeeded(partition)

    def _durable(self) -> Mapping[TopicPartition, int]:
        if self._sinks is not None:
            return self._sinks.durable()
        return {p: n for s in self._shards.values() for p, n in s.acknowledged.items()}

    async def _tell_group(self) -> None:
        self._commit_at = now() + self._settings.commit_every_s
        held = self._consumer.assignment()
        news = {p: n for p, n in self._durable().items() if p in held and self._committed.get(p) != n}
        try:
            if news:
                self._faults.at("before_offset_commit")
                await self._consumer.commit(news)
                self._committed.update(news)
        except Unavailable as error:  # it is told again; the offsets that count are our own
            log.warning("offsets_not_told", why=error.detail)
