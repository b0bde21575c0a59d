"""What is on the running Kafka: topics with their counts, and records as they arrive. Reads without a group, commits
nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from flywheel.events import Codec, Undecodable, UnknownSchema, load_registry, topics


class KafkaAway(RuntimeError):
    """Kafka could not be reached, or refused."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """One topic: as declared, as it is, or both. ``records`` counts offsets still retained; a compacted topic has
    fewer."""

    topic: str
    event: str | None
    declared_partitions: int | None
    live_partitions: int | None
    records: int | None
    producers: tuple[str, ...]
    consumers: tuple[str, ...]


async def topic_states(bootstrap: str) -> list[TopicState]:
    """Every topic that is declared or there, by name; Kafka's own are left out. Raises ``KafkaAway``."""
    partitions = await live_partitions(bootstrap)
    live = partitions.keys()
    consumer = await _start(bootstrap)
    try:
        every = [TopicPartition(name, number) for name, numbers in partitions.items() for number in numbers]
        ends = await consumer.end_offsets(every)
        starts = await consumer.beginning_offsets(every)
    except KafkaError as error:
        raise KafkaAway(f"asking Kafka at {bootstrap}: {error}") from error
    finally:
        await consumer.stop()
    counts: dict[str, int] = dict.fromkeys(live, 0)
    for tp in every:
        counts[tp.topic] += ends[tp] - starts[tp]
    declared = topics()
    states = []
    for name in sorted(live | declared.keys()):
        topic = declared.get(name)
        states.append(
            TopicState(
                topic=name,
                event=topic.event if topic else None,
                declared_partitions=topic.partitions if topic else None,
                live_partitions=len(partitions[name]) if name in live else None,
                records=counts.get(name),
                producers=topic.producers if topic else (),
                consumers=topic.consumers if topic else (),
            )
        )
    return states


async def tail_topic(
    bootstrap: str, topic: str, *, from_beginning: bool, limit: int | None, follow: bool
) -> AsyncGenerator[dict[str, Any]]:
    """Decoded records of a topic, at most ``limit``; without ``follow`` it ends at the end that the topic had when it
    was asked.

    Without ``from_beginning``, ``limit`` records back from the end of each partition, or new ones only when following.
    Raises ``KafkaAway``, also when the topic does not exist.
    """
    codec = Codec(load_registry())
    partitions = await live_partitions(bootstrap)
    if topic not in partitions:
        raise KafkaAway(f"no topic {topic!r} on Kafka at {bootstrap}; flywheel topics lists them")
    consumer = await _start(bootstrap)
    try:
        assigned = [TopicPartition(topic, number) for number in partitions[topic]]
        consumer.assign(assigned)
        ends = await consumer.end_offsets(assigned)
        starts = await consumer.beginning_offsets(assigned)
        for tp in assigned:
            back = 0 if follow and limit is None else (limit or 10)
            consumer.seek(tp, starts[tp] if from_beginning else max(starts[tp], ends[tp] - back))
        sent = 0
        while follow or [tp for tp in assigned if await consumer.position(tp) < ends[tp]]:
            for records in (await consumer.getmany(timeout_ms=300, max_records=limit)).values():
                for record in records:
                    yield readable(codec, record)
                    sent += 1
                    if limit is not None and sent >= limit:
                        return
    except KafkaError as error:
        raise KafkaAway(f"reading {topic}: {error}") from error
    finally:
        await consumer.stop()


def readable(codec: Codec, record: ConsumerRecord) -> dict[str, Any]:
    """A record as JSON: where it is, its key, headers that are text, and the decoded value, or why it cannot be
    decoded."""
    shown: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "key": record.key.decode("utf-8", "replace") if record.key is not None else None,
        "headers": {name: value.decode("utf-8", "replace") for name, value in record.headers},
    }
    if record.value is None:
        return shown | {"event": None, "value": None}
    try:
        decoded = codec.decode(record.value)
    except (Undecodable, UnknownSchema) as error:
        return shown | {"event": None, "error": str(error), "value_hex": record.value.hex()}
    return shown | {"event": decoded.event, "version": decoded.version, "value": decoded.value}


async def live_partitions(bootstrap: str) -> dict[str, list[int]]:
    """The partition numbers of every topic on Kafka, but for Kafka's own topics. Raises ``KafkaAway``."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
    try:
        await admin.start()
        described = await admin.describe_topics()
    except (KafkaError, OSError) as error:
        raise KafkaAway(f"reaching Kafka at {bootstrap}: {error}; is the system up? (flywheel up)") from error
    finally:
        await admin.close()
    return {
        found["topic"]: sorted(number["partition"] for number in found["partitions"])
        for found in described
        if not found["topic"].startswith("__")
    }


async def _start(bootstrap: str) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest", request_timeout_ms=10_000
    )
    try:
        await consumer.start()
    except (KafkaError, OSError) as error:
        await consumer.stop()
        raise KafkaAway(f"reaching Kafka at {bootstrap}: {error}; is the system up? (flywheel up)") from error
    return consumer
