"""Creates the declared topics on a broker and brings their settings to what is declared."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from flywheel.events import Topic
from flywheel.local.errors import LocalError

_DAY_MS: Final = 86_400_000
_MAX_MESSAGE_BYTES: Final = 2 << 20


def topic_settings(topic: Topic) -> dict[str, str]:
    """The broker's settings of a topic, from its declaration."""
    settings = {
        "cleanup.policy": topic.cleanup,
        "retention.ms": str(topic.retention_ms),
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(_MAX_MESSAGE_BYTES),
    }
    if topic.compacted:
        # Compaction never touches the newest segment, so a busy key needs small ones to be compacted at all.
        return settings | {
            "segment.bytes": str(16 << 20),
            "segment.ms": str(_DAY_MS),
            "min.cleanable.dirty.ratio": "0.3",
            # How long a reader that was away still learns that a key was deleted.
            "delete.retention.ms": str(_DAY_MS),
        }
    # Retention removes whole segments: a day's worth each, so that nothing outlives its retention by more than a day.
    return settings | {"segment.bytes": str(128 << 20), "segment.ms": str(min(_DAY_MS, topic.retention_ms))}


async def create_topics(bootstrap: str, topics: Iterable[Topic], *, replication: int = 1) -> tuple[str, ...]:
    """Create what is missing and set the settings of all; returns the names that were created.

    Raises:
        LocalError: the broker refused one, or a topic exists with another number of partitions (keys would move, so
            that is a migration and never done here).
    """
    declared = {topic.name: topic for topic in topics}
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, client_id="flywheel-local")
    await admin.start()
    try:
        existing = await _partitions(admin, declared)
        wrong = [
            f"{name} has {count} partitions, declared are {declared[name].partitions}"
            for name, count in existing.items()
            if count != declared[name].partitions
        ]
        if wrong:
            raise LocalError(f"topics at {bootstrap}: " + "; ".join(wrong))
        created = tuple(name for name in declared if name not in existing)
        await _create(admin, [declared[name] for name in created], replication)
        await _configure(admin, [declared[name] for name in existing])
        return created
    finally:
        await admin.close()


def create_topics_now(bootstrap: str, topics: Iterable[Topic], *, replication: int = 1) -> tuple[str, ...]:
    """``create_topics`` for callers without an event loop."""
    return asyncio.run(create_topics(bootstrap, topics, replication=replication))


async def _partitions(admin: AIOKafkaAdminClient, declared: Mapping[str, Topic]) -> dict[str, int]:
    # All names first: to describe a missing topic is an error, or creates it on brokers that allow that.
    present = set(await admin.list_topics()) & set(declared)
    if not present:
        return {}
    described = await admin.describe_topics(sorted(present))
    return {str(row["topic"]): len(row["partitions"]) for row in described}


async def _create(admin: AIOKafkaAdminClient, topics: list[Topic], replication: int) -> None:
    if not topics:
        return
    wanted = [NewTopic(t.name, t.partitions, replication, topic_configs=topic_settings(t)) for t in topics]
    answer = await admin.create_topics(wanted, timeout_ms=30_000)
    for name, code, *detail in answer.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise LocalError(f"creating topic {name}: {for_code(code).__name__} {detail[0] if detail else ''}".rstrip())


async def _configure(admin: AIOKafkaAdminClient, topics: list[Topic]) -> None:
    if not topics:
        return
    resources = [ConfigResource(ConfigResourceType.TOPIC, t.name, configs=topic_settings(t)) for t in topics]
    for response in await admin.alter_configs(resources):
        for code, detail, _, name in response.resources:
            if code != 0:
                raise LocalError(f"setting topic {name}: {for_code(code).__name__} {detail or ''}".rstrip())
