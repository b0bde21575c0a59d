"""A broker in memory that rebalances: for tests, which may also make it repeat records or refuse a topic."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flywheel.events import topics as declared_topics
from flywheel.stream.errors import Unavailable
from flywheel.stream.kafka import partition_of
from flywheel.stream.ports import Listener
from flywheel.stream.types import Outgoing, RawRecord, TopicPartition


@dataclass(slots=True)
class _Group:
    members: list[MemoryConsumer] = field(default_factory=list)
    committed: dict[TopicPartition, int] = field(default_factory=dict)


class MemoryBus:
    """Topics, partitions and groups in one process; ``clock_ms`` stamps records, as LogAppendTime does.

    A topic has the partitions it declares, ``default_partitions`` where it is not declared, ``partitions`` if given.
    """

    def __init__(
        self,
        clock_ms: Callable[[], int] = lambda: 0,
        *,
        default_partitions: int = 4,
        partitions: int | None = None,
    ) -> None:
        self._clock_ms = clock_ms
        self._default_partitions = default_partitions
        self._partitions = partitions
        self._logs: dict[TopicPartition, list[RawRecord]] = {}
        self._topics: dict[str, tuple[TopicPartition, ...]] = {}
        self._groups: dict[str, _Group] = defaultdict(_Group)
        self.refused: set[str] = set()
        """Topics that refuse every record, until removed from here."""
        self.repeat_sends = False
        """Whether every record sent is also sent a second time."""

    def records(self, topic: str) -> list[RawRecord]:
        """Everything a topic holds, partition by partition."""
        return [r for p in self.partitions_of(topic) for r in self._logs[p]]

    def partitions_of(self, topic: str) -> list[TopicPartition]:
        """A topic's partitions; it is created when first named."""
        if topic not in self._topics:
            declared = declared_topics().get(topic)
            count = self._partitions or (declared.partitions if declared else self._default_partitions)
            self._topics[topic] = tuple(TopicPartition(topic, number) for number in range(count))
            self._logs |= {partition: [] for partition in self._topics[topic]}
        return list(self._topics[topic])

    def append(self, outgoing: Outgoing) -> RawRecord:
        """Put a record at the end of the partition its key chooses."""
        if outgoing.topic in self.refused:
            raise Unavailable(f"{outgoing.topic} refuses records", 0.0)
        partitions = self.partitions_of(outgoing.topic)
        chooser = outgoing.partition_key or outgoing.key or b""
        partition = partitions[partition_of(chooser, len(partitions))]
        log = self._logs[partition]
        record = RawRecord(
            partition.topic,
            partition.partition,
            len(log),
            self._clock_ms(),
            outgoing.key,
            outgoing.value,
            outgoing.headers,
        )
        log.append(record)
        return record

    def log(self, partition: TopicPartition) -> Sequence[RawRecord]:
        """The records of one partition."""
        if partition not in self._logs:
            self.partitions_of(partition.topic)
        return self._logs[partition]

    def consumer(self, *, topics: Sequence[str], group: str | None, listener: Listener | None = None) -> MemoryConsumer:
        """See the port."""
        return MemoryConsumer(self, topics, group, listener)

    def producer(self) -> MemoryProducer:
        """See the port."""
        return MemoryProducer(self)

    async def partitions(self, topic: str) -> int:
        """See the port."""
        return len(self.partitions_of(topic))

    async def ensure_topics(self, topics: Sequence[str]) -> None:
        """See the port."""
        for topic in topics:
            self.partitions_of(topic)

    def committed(self, group: str) -> Mapping[TopicPartition, int]:
        """What a group was told."""
        return dict(self._groups[group].committed)

    async def join(self, group: str, member: MemoryConsumer) -> None:
        """Add a member: everybody gives up their partitions, then takes their range."""
        await self._rebalance(group, [*self._groups[group].members, member])

    async def leave(self, group: str, member: MemoryConsumer) -> None:
        """Remove a member."""
        await self._rebalance(group, [m for m in self._groups[group].members if m is not member], leaving=member)

    async def _rebalance(self, name: str, members: list[MemoryConsumer], leaving: MemoryConsumer | None = None) -> None:
        group = self._groups[name]
        for member in [*group.members]:
            await member.lose()
        group.members = members
        for rank, member in enumerate(members):
            mine = []
            for topic in member.topics:
                partitions = self.partitions_of(topic)
                size, extra = divmod(len(partitions), len(members))
                start = rank * size + min(rank, extra)
                mine += partitions[start : start + size + (rank < extra)]
            await member.gain(mine, {p: group.committed.get(p, 0) for p in mine})

    def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Remember what a group was told."""
        self._groups[group].committed.update(offsets)


class Positions:
    """Where a consumer in memory reads on, by partition, and which it leaves alone."""

    def __init__(self) -> None:
        self._next: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()

    def assignment(self) -> frozenset[TopicPartition]:
        """See the port."""
        return frozenset(self._next)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """See the port."""
        self._next[partition] = offset

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """See the port."""
        self._paused |= set(partitions)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """See the port."""
        self._paused -= set(partitions)


class MemoryConsumer(Positions):
    """See `flywheel.stream.ports.Consumer`."""

    def __init__(self, bus: MemoryBus, topics: Sequence[str], group: str | None, listener: Listener | None) -> None:
        super().__init__()
        self._bus, self.topics, self._group, self._listener = bus, list(topics), group, listener

    async def start(self) -> None:
        """Join the group, or take everything."""
        if self._group is None:
            await self.gain([p for t in self.topics for p in self._bus.partitions_of(t)], {})
        else:
            await self._bus.join(self._group, self)

    async def stop(self) -> None:
        """Leave."""
        if self._group is not None:
            await self._bus.leave(self._group, self)
        self._next.clear()

    async def lose(self) -> None:
        """Give up all partitions."""
        if self._listener is not None and self._next:
            await self._listener.revoked(sorted(self._next))
        self._next.clear()
        self._paused.clear()

    async def gain(self, partitions: Sequence[TopicPartition], committed: Mapping[TopicPartition, int]) -> None:
        """Take partitions, reading on where the group was told unless the listener seeks."""
        self._next = {p: committed.get(p, 0) for p in partitions}
        if self._listener is not None:
            await self._listener.assigned(sorted(partitions))

    async def poll(self, *, max_records: int, timeout_ms: int) -> Mapping[TopicPartition, Sequence[RawRecord]]:
        """See the port."""
        await asyncio.sleep(0)
        found: dict[TopicPartition, Sequence[RawRecord]] = {}
        left = max_records
        for partition in sorted(self._next):
            if partition in self._paused or not left:
                continue
            at = self._next[partition]
            records = self._bus.log(partition)[at : at + left]
            if records:
                found[partition] = list(records)
                self._next[partition] = records[-1].offset + 1
                left -= len(records)
        if not found:
            await asyncio.sleep(min(timeout_ms, 1) / 1000)
        return found

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See the port."""
        if self._group is not None:
            self._bus.commit(self._group, offsets)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """See the port."""
        return {p: len(self._bus.log(p)) for p in partitions}

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """See the port."""
        return dict.fromkeys(partitions, 0)


class MemoryProducer:
    """See `flywheel.stream.ports.Producer`."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus

    async def start(self) -> None:
        """Nothing to connect to."""

    async def stop(self) -> None:
        """Nothing to disconnect from."""

    async def abandon(self) -> None:
        """Nothing is ever under way."""

    async def send_many(self, records: Sequence[Outgoing]) -> None:
        """See the port."""
        await asyncio.sleep(0)
        for record in records:
            self._bus.append(record)
            if self._bus.repeat_sends:
                self._bus.append(record)
