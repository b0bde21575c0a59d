"""The sink half of the runner: effects whose store holds the offsets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from flywheel.events import Codec
from flywheel.observe import Metrics
from flywheel.stream.errors import Unavailable
from flywheel.stream.ports import Producer, Sink
from flywheel.stream.records import dead_letter, decode
from flywheel.stream.shard import Identity
from flywheel.stream.types import Event, Outgoing, RawRecord, Reject, Skip, TopicPartition, Verdict

Records = Mapping[TopicPartition, Sequence[RawRecord]]


class SinkShards:
    """Hands batches to the sink; dead letters are acknowledged before the offsets behind them count as done."""

    def __init__(self, *, step: Sink, codec: Codec, identity: Identity, producer: Producer, metrics: Metrics) -> None:
        self._step, self._codec, self._identity = step, codec, identity
        self._producer, self._metrics = producer, metrics
        self._next: dict[TopicPartition, int] = {}
        self._done: dict[TopicPartition, int] = {}
        self._busy = asyncio.Lock()

    async def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Where to read on, by the store's own word. Raises Unavailable."""
        positions = await self._step.positions(partitions)
        for partition in partitions:
            self._next[partition] = positions.get(partition, 0)
            self._done.pop(partition, None)
        return positions

    async def revoked(self, partitions: Sequence[TopicPartition], deadline_s: float) -> None:
        """Wait for a write under way, at most so long, then forget these partitions."""
        for partition in partitions:
            self._next.pop(partition, None)
        try:
            async with asyncio.timeout(deadline_s), self._busy:
                pass
        except TimeoutError:
            pass
        for partition in partitions:
            self._done.pop(partition, None)

    def durable(self) -> Mapping[TopicPartition, int]:
        """The next offset of each partition whose earlier records are done with."""
        return dict(self._done)

    async def take(self, polled: Records) -> None:
        """Write one poll's records. Raises Unavailable: some prefix may be durable, and all may be given again."""
        async with self._busy:
            records: list[RawRecord] = []
            ends: dict[TopicPartition, int] = {}
            for partition, some in polled.items():
                due = self._next.get(partition)
                fresh = [r for r in some if due is not None and r.offset >= due]
                if fresh:
                    records += fresh
                    ends[partition] = fresh[-1].offset + 1
            if not records:
                return
            await (self._write_raw(records) if self._step.raw else self._write_decoded(records))
            for partition, end in ends.items():
                if partition in self._next:  # not revoked meanwhile
                    self._next[partition] = self._done[partition] = end

    async def _write_raw(self, records: Sequence[RawRecord]) -> None:
        verdicts = await self._step.write(records)
        await self._settle(records, verdicts)

    async def _write_decoded(self, records: Sequence[RawRecord]) -> None:
        events: list[Event] = []
        refused: dict[int, Verdict] = {}
        for index, record in enumerate(records):
            decoded = decode(self._codec, record)
            if decoded is None:
                raise Unavailable(f"unknown schema at {record.topic}/{record.partition}/{record.offset}", 5.0)
            if isinstance(decoded, Reject):
                refused[index] = decoded
            else:
                events.append(decoded)
        verdicts = await self._step.write(events)
        await self._settle(records, refused)
        await self._settle([e.raw for e in events], verdicts)

    async def _settle(self, records: Sequence[RawRecord], verdicts: Mapping[int, Verdict]) -> None:
        letters: list[Outgoing] = []
        for index, verdict in sorted(verdicts.items()):
            record = records[index]
            kind = "skip" if isinstance(verdict, Skip) else "reject"
            self._metrics.count("stream_records_total", 1, topic=record.topic, verdict=kind)
            if isinstance(verdict, Reject):
                self._metrics.count("stream_dead_letters_total", 1, topic=record.topic, reason=verdict.reason)
                letter = dead_letter(
                    self._codec, record, verdict, service=self._identity.service, version=self._identity.version
                )
                letters += [letter] if letter is not None else []
        if letters:
            await self._producer.send_many(letters)
