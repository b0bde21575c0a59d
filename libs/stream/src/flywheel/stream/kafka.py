"""Apache Kafka through aiokafka, behind the runner's ports."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError, TopicAlreadyExistsError

from flywheel.events import topics as declared_topics
from flywheel.stream.errors import Unavailable
from flywheel.stream.kafka_connections import mend
from flywheel.stream.kafka_producer import KafkaProducer, partition_of
from flywheel.stream.ports import Listener
from flywheel.stream.settings import REBALANCE_TIMEOUT_S, SESSION_TIMEOUT_S
from flywheel.stream.types import RawRecord, TopicPartition

ANSWER_S = 10.0
__all__ = ["KafkaBus", "KafkaConsumer", "KafkaProducer", "partition_of"]


class KafkaBus:
    """A Kafka cluster.

    Args:
        bootstrap: where to begin, ``host:port,…``.
        client_id: how this client names itself in the broker's logs.
        security: passed to aiokafka as it is (``security_protocol``, ``sasl_mechanism``, ``ssl_context`` …).
        replication: copies of the topics that `ensure_topics` creates.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str = "flywheel",
        security: Mapping[str, Any] | None = None,
        replication: int = 1,
    ) -> None:
        self._replication = replication
        self._common: dict[str, Any] = {"bootstrap_servers": bootstrap, "client_id": client_id, **(security or {})}

    def consumer(self, *, topics: Sequence[str], group: str | None, listener: Listener | None = None) -> KafkaConsumer:
        """A group member that commits by hand, or without a group a reader of all partitions from the beginning."""
        return KafkaConsumer(self._common, topics, group, listener)

    def producer(self) -> KafkaProducer:
        """An idempotent producer, ``acks=all``, lz4."""
        return KafkaProducer(self._common)

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises Unavailable while there is no such topic."""
        admin = AIOKafkaAdminClient(**self._common)
        try:
            await admin.start()
            found = await admin.describe_topics([topic])
        except (KafkaError, OSError) as error:
            raise Unavailable(f"describing {topic}: {error!r}") from error
        finally:
            await admin.close()
        count = len(found[0]["partitions"])
        if not count:
            raise Unavailable(f"topic {topic} does not exist yet")
        return count

    async def ensure_topics(self, topics: Sequence[str]) -> None:
        """Create those of the declared topics that are missing."""
        declared = declared_topics()
        new = []
        for name in topics:
            topic = declared[name]
            config = {"cleanup.policy": topic.cleanup, "message.timestamp.type": "LogAppendTime"}
            config["retention.ms"] = str(topic.retention_ms)
            new.append(NewTopic(name, topic.partitions, self._replication, topic_configs=config))
        admin = AIOKafkaAdminClient(**self._common)
        try:
            await admin.start()
            for topic in new:
                try:
                    await admin.create_topics([topic])
                except TopicAlreadyExistsError:
                    continue
        except (KafkaError, OSError) as error:
            raise Unavailable(f"creating topics: {error!r}") from error
        finally:
            await admin.close()


class _Rebalance(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        await self._listener.revoked(sorted(TopicPartition(p.topic, p.partition) for p in revoked))

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        await self._listener.assigned(sorted(TopicPartition(p.topic, p.partition) for p in assigned))


def _theirs(partition: TopicPartition) -> aiokafka.TopicPartition:
    return aiokafka.TopicPartition(partition.topic, partition.partition)


class KafkaConsumer:
    """See `flywheel.stream.ports.Consumer`."""

    def __init__(
        self, common: Mapping[str, Any], topics: Sequence[str], group: str | None, listener: Listener | None
    ) -> None:
        self._topics, self._group, self._listener = list(topics), group, listener
        self._common = common
        self._client: Any = None

    async def start(self) -> None:
        """Join the group, or take all partitions. Raises Unavailable."""
        self._client = aiokafka.AIOKafkaConsumer(
            **self._common,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            # range: partition i of every topic goes to the same member, so that a shard stays in one place
            partition_assignment_strategy=(RangePartitionAssignor,),
            max_partition_fetch_bytes=4 * 2**20,
            fetch_max_wait_ms=100,
            session_timeout_ms=int(SESSION_TIMEOUT_S * 1000),
            heartbeat_interval_ms=2_000,
            max_poll_interval_ms=300_000,
            rebalance_timeout_ms=int(REBALANCE_TIMEOUT_S * 1000),
        )
        mend(self._client._client)
        if self._listener is not None:
            self._client.subscribe(self._topics, listener=_Rebalance(self._listener))
        else:
            self._client.subscribe(self._topics)
        try:
            await self._client.start()
        except (KafkaError, OSError) as error:
            await self._client.stop()
            raise Unavailable(f"joining group {self._group}: {error!r}") from error

    async def stop(self) -> None:
        """Leave."""
        if self._client is None:
            return
        try:
            await self._client.stop()
        except asyncio.CancelledError:
            # aiokafka lets the cancellation of its own fetches out, where a connection broke just before; ours goes on.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            await self._client._client.close()

    async def poll(self, *, max_records: int, timeout_ms: int) -> Mapping[TopicPartition, Sequence[RawRecord]]:
        """See the port. Raises Unavailable."""
        try:
            found = await self._client.getmany(timeout_ms=timeout_ms, max_records=max_records)
        except KafkaError as error:
            raise Unavailable(f"polling: {error!r}") from error
        return {
            TopicPartition(p.topic, p.partition): [
                RawRecord(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers) for r in records
            ]
            for p, records in found.items()
        }

    def assignment(self) -> frozenset[TopicPartition]:
        """Partitions held now."""
        if self._client is None:
            return frozenset()
        return frozenset(TopicPartition(p.topic, p.partition) for p in self._client.assignment())

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read from ``offset`` next."""
        self._client.seek(_theirs(partition), offset)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Poll nothing of these; heartbeats go on."""
        self._client.pause(*map(_theirs, partitions))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Poll these again."""
        self._client.resume(*map(_theirs, partitions))

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See the port. Raises Unavailable."""
        try:
            async with asyncio.timeout(ANSWER_S):  # without it the client tries for as long as the broker is away
                await self._client.commit({_theirs(p): offset for p, offset in offsets.items()})
        except (KafkaError, TimeoutError) as error:
            raise Unavailable(f"committing offsets: {error!r}") from error

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offset after the last record of each."""
        return await self._offsets(self._client.end_offsets, partitions)

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offset of the first record still there of each."""
        return await self._offsets(self._client.beginning_offsets, partitions)

    async def _offsets(self, ask: Any, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        try:
            async with asyncio.timeout(ANSWER_S):
                found = await ask([_theirs(p) for p in partitions])
        except (KafkaError, TimeoutError) as error:
            raise Unavailable(f"asking for offsets: {error!r}") from error
        return {TopicPartition(p.topic, p.partition): offset for p, offset in found.items()}
