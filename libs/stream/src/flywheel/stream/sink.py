"""The sink half of the runner: effects whose store holds the offsets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from flywheel.events import Codec
from flywheel.observe import Metrics
from flywheel.stream.faults import Faults
from flywheel.stream.ports import Producer, Sink
from flywheel.stream.records import dead_letter, decode
from flywheel.stream.shard import Identity
from flywheel.stream.types import Event, Hold, Outgoing, RawRecord, Reject, Skip, TopicPartition, Verdict

Records = Mapping[TopicPartition, Sequence[RawRecord]]
Held = Mapping[TopicPartition, tuple[int, Hold]]
UNKNOWN_SCHEMA_RETRY_S = 5.0


class SinkShards:
    """Hands batches to the sink; dead letters are acknowledged before the offsets behind them count as done."""

    def __init__(
        self,
        *,
        step: Sink,
        codec: Codec,
        identity: Identity,
        producer: Producer,
        metrics: Metrics,
        faults: Faults | None = None,
    ) -> None:
        self._step, self._codec, self._identity = step, codec, identity
        self._producer, self._metrics = producer, metrics
        self._faults = faults or Faults()
        self._next: dict[TopicPartition, int] = {}
        self._done: dict[TopicPartition, int] = {}
        self._busy = asyncio.Lock()
        self.buried: Counter[TopicPartition] = Counter()
        """Dead letters of each partition in the last `take`."""

    async def positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Where to read on, by the store's own word. Raises Unavailable."""
        return await self._step.positions(partitions)

    def begin(self, partition: TopicPartition, offset: int) -> None:
        """From now on take this partition's records from ``offset`` on."""
        self._next[partition] = self._done[partition] = offset

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

    async def take(self, polled: Records) -> Held:
        """Write one poll's records; returns where which partition waits, and why.

        Raises:
            Unavailable: some prefix may be durable, and all may be given again.
        """
        async with self._busy:
            self.buried.clear()
            records = [
                record
                for partition, some in polled.items()
                for record in some
                if partition in self._next and record.offset >= self._next[partition]
            ]
            if not records:
                return {}
            held = await self._write(records)
            for record in records:
                partition = TopicPartition(record.topic, record.partition)
                waits = partition in held and record.offset >= held[partition][0]
                if partition in self._next and not waits:  # else revoked meanwhile
                    self._next[partition] = self._done[partition] = record.offset + 1
            return held

    async def _write(self, records: Sequence[RawRecord]) -> Held:
        held: dict[TopicPartition, tuple[int, Hold]] = {}
        left, decoded, refused = self._sort(records, held)
        await self._bury(refused)
        while left:
            given: Sequence[RawRecord] | Sequence[Event] = left if self._step.raw else decoded
            verdicts = await self._step.write(given)
            self._faults.at("after_effect")
            for index, verdict in sorted(verdicts.items()):
                if isinstance(verdict, Hold):
                    place = TopicPartition(left[index].topic, left[index].partition)
                    held.setdefault(place, (left[index].offset, verdict))
            rejected = {i: v for i, v in verdicts.items() if isinstance(v, Reject)}
            if not rejected:
                self._count(left, verdicts)
                break
            await self._bury([(left[i], verdict) for i, verdict in sorted(rejected.items())])
            kept = [i for i in range(len(left)) if i not in rejected]
            left, decoded = [left[i] for i in kept], [decoded[i] for i in kept] if decoded else []
        return held

    def _sort(
        self, records: Sequence[RawRecord], held: dict[TopicPartition, tuple[int, Hold]]
    ) -> tuple[list[RawRecord], list[Event], list[tuple[RawRecord, Reject]]]:
        """What to give the step, decoded unless it wants bytes; what no step could take; who waits for a schema."""
        if self._step.raw:
            return list(records), [], []
        left: list[RawRecord] = []
        events: list[Event] = []
        refused: list[tuple[RawRecord, Reject]] = []
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            if partition in held:
                continue
            decoded = decode(self._codec, record)
            if decoded is None:
                held[partition] = (record.offset, Hold("unknown schema", UNKNOWN_SCHEMA_RETRY_S))
            elif isinstance(decoded, Reject):
                refused.append((record, decoded))
            else:
                left.append(record)
                events.append(decoded)
        return left, events, refused

    def _count(self, records: Sequence[RawRecord], verdicts: Mapping[int, Verdict | Hold]) -> None:
        skipped = Counter(records[i].topic for i, v in verdicts.items() if isinstance(v, Skip))
        taken = Counter(r.topic for i, r in enumerate(records) if i not in verdicts)
        for verdict, counts in (("skip", skipped), ("ok", taken)):
            for topic, count in counts.items():
                self._metrics.count("stream_records_total", count, topic=topic, verdict=verdict)

    async def _bury(self, refused: Sequence[tuple[RawRecord, Reject]]) -> None:
        """Send dead letters and wait until they are acknowledged. Raises Unavailable."""
        letters: list[Outgoing] = []
        for record, verdict in refused:
            letter = dead_letter(
                self._codec, record, verdict, service=self._identity.service, version=self._identity.version
            )
            letters += [letter] if letter is not None else []
        if letters:
            await self._producer.send_many(letters)
            self._faults.at("after_dead_letters")
        for record, verdict in refused:
            self.buried[TopicPartition(record.topic, record.partition)] += 1
            self._metrics.count("stream_records_total", 1, topic=record.topic, verdict="reject")
            self._metrics.count("stream_dead_letters_total", 1, topic=record.topic, reason=verdict.reason)
