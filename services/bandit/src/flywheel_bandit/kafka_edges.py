"""Where Kafka's log of the facts begins and ends, who reads it, and the charters on it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from flywheel.events import Codec, load_registry
from flywheel.stream import CompactedTable, KafkaBus, TopicPartition, Unavailable
from flywheel_bandit.core import INPUTS

_READ_S = 60.0


@dataclass(frozen=True, slots=True)
class Edges:
    """First offset retained of each input partition, offset after the last, and how many members the group has."""

    begins: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]
    members: int

    async def at(
        self, bootstrap: str, partitions: Sequence[TopicPartition], moment_ms: int
    ) -> dict[TopicPartition, int]:
        """The first offset of each partition that came at or after a moment; its end where none did. Raises
        Unavailable."""
        consumer = await _started(bootstrap)
        try:
            theirs = {aiokafka.TopicPartition(*tp): moment_ms for tp in partitions}
            found = await consumer.offsets_for_times(theirs)
        except KafkaError as error:
            raise Unavailable(f"asking Kafka at {bootstrap} for offsets: {error!r}") from error
        finally:
            await consumer.stop()
        offsets = {}
        for tp in partitions:
            first = found.get(aiokafka.TopicPartition(*tp))
            offsets[tp] = self.ends[tp] if first is None else max(first.offset, self.begins[tp])
        return offsets


async def read_edges(bootstrap: str, group: str) -> Edges:
    """Ask Kafka. Raises Unavailable."""
    bus = KafkaBus(bootstrap, client_id="bandit-rebuild")
    held = [TopicPartition(topic, number) for topic in INPUTS for number in range(await bus.partitions(topic))]
    consumer = await _started(bootstrap)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, client_id="bandit-rebuild")
    try:
        theirs = [aiokafka.TopicPartition(*tp) for tp in held]
        begins = await consumer.beginning_offsets(theirs)
        ends = await consumer.end_offsets(theirs)
        await admin.start()
        members = sum(
            len(described[5]) for answer in await admin.describe_consumer_groups([group]) for described in answer.groups
        )
    except KafkaError as error:
        raise Unavailable(f"asking Kafka at {bootstrap}: {error!r}") from error
    finally:
        await consumer.stop()
        await admin.close()
    mine = zip(held, theirs, strict=True)
    pairs = {tp: (begins[there], ends[there]) for tp, there in mine}
    return Edges({tp: pair[0] for tp, pair in pairs.items()}, {tp: pair[1] for tp, pair in pairs.items()}, members)


async def charters_on_the_log(bootstrap: str) -> list[dict[str, Any]]:
    """The charters that the compacted topic has now. Raises Unavailable."""
    found: list[dict[str, Any]] = []
    bus = KafkaBus(bootstrap, client_id="bandit-rebuild")
    table = CompactedTable(bus, "charters", Codec(load_registry()), lambda _key, value: _note(found, value))
    reading = asyncio.create_task(table.run())
    try:
        async with asyncio.timeout(_READ_S):
            await table.ready.wait()
    except TimeoutError:
        raise Unavailable(f"the charters on Kafka at {bootstrap} could not be read to their end") from None
    finally:
        await table.stop()
        await reading
    return found


def _note(found: list[dict[str, Any]], value: dict[str, Any] | None) -> None:
    if value is not None:
        found.append(value)


async def _started(bootstrap: str) -> Any:
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap, client_id="bandit-rebuild")
    try:
        await consumer.start()
    except (KafkaError, OSError) as error:
        await consumer.stop()
        raise Unavailable(f"reaching Kafka at {bootstrap}: {error!r}; is it up?") from error
    return consumer
