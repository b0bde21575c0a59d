"""What the runner needs from a broker and from a step; ``kafka.py`` and ``memory.py`` are the two brokers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from flywheel.stream.types import Event, FoldResult, Hold, Outgoing, RawRecord, TopicPartition, Verdict


class Listener(Protocol):
    """Hears of partitions given and taken, before the first record and after the last."""

    async def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """These partitions are this member's from now on."""
        ...

    async def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """These partitions are somebody else's as soon as this returns."""
        ...


class Consumer(Protocol):
    """A member of a group, or a reader without one."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def poll(self, *, max_records: int, timeout_ms: int) -> Mapping[TopicPartition, Sequence[RawRecord]]:
        """Records of partitions that are not paused, each partition's in offset order; empty after the timeout."""
        ...

    def assignment(self) -> frozenset[TopicPartition]: ...
    def seek(self, partition: TopicPartition, offset: int) -> None: ...
    def pause(self, partitions: Iterable[TopicPartition]) -> None: ...
    def resume(self, partitions: Iterable[TopicPartition]) -> None: ...
    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Tell the group the next offsets to read: advisory, the state's own offsets are the truth."""
        ...

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]: ...
    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]: ...


class Producer(Protocol):
    """Sends records; returns only when all of them are acknowledged by all in-sync replicas."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def send_many(self, records: Sequence[Outgoing]) -> None:
        """Raises Unavailable when not all were acknowledged in time: any of them may have arrived."""
        ...

    async def abandon(self) -> None:
        """Emit nothing of what is not acknowledged yet: sends under way fail with Unavailable."""
        ...


class Bus(Protocol):
    """A broker."""

    def consumer(self, *, topics: Sequence[str], group: str | None, listener: Listener | None = None) -> Consumer: ...
    def producer(self) -> Producer: ...
    async def partitions(self, topic: str) -> int: ...
    async def ensure_topics(self, topics: Sequence[str]) -> None: ...


class StateView(Protocol):
    """A batch's view of its shard's state: reads see the batch's own writes, which commit together or not at all."""

    @property
    def catching_up(self) -> bool:
        """Whether what lay on the log when this state was opened is not all read yet: until then a former life of the
        state, on a disk that was lost, may have emitted other outputs about the same facts."""
        ...

    def get(self, table: str, key: str) -> bytes | None: ...
    def get_many(self, table: str, keys: Iterable[str]) -> dict[str, bytes]: ...
    def put(self, table: str, key: str, value: bytes) -> None: ...
    def delete(self, table: str, key: str) -> None: ...
    def scan(
        self, table: str, start: str = "", stop: str | None = None, limit: int | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """Pairs with ``start <= key < stop``, ordered by key."""
        ...


@runtime_checkable
class Fold(Protocol):
    """A stateful step: pure, so that the same log gives the same state and outputs, however it is cut into batches."""

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult: ...


class Sink(Protocol):
    """An effect whose store also holds the offsets, so that both become durable in one act."""

    raw: bool

    async def positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The next offset to read of each partition, from the store itself; absent is from the beginning."""
        ...

    async def write(self, records: Sequence[Event | RawRecord]) -> Mapping[int, Verdict | Hold]:
        """Make the records durable and return verdicts by index; without one a record was written.

        An answer that holds a `Reject` means that NOTHING of this call was written: the runner has the dead letters
        acknowledged first and then calls again without those records, so no position ever passes an input whose dead
        letter is not safe. Raises Unavailable: any of the records may have been written, and all come again.
        """
        ...


Clock = Callable[[], float]
