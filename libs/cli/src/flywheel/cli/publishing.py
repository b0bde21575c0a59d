"""Puts a charter on its topic: the newest revision of each feature wins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypeVar

from flywheel.cli.live_topics import KafkaAway, live_partitions
from flywheel.events import Codec, event_id, load_registry
from flywheel.policy import Charter
from flywheel.stream import CompactedTable, KafkaBus, Output, Publisher, Unavailable

TOPIC: Final = "charters"
READ_S: Final = 20.0
T = TypeVar("T")


class ApplyFailed(RuntimeError):
    """The charter could not be published."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a charter: ``changed`` is false when the newest revision already has this text."""

    project: str
    feature: str
    revision: int
    digest: str
    changed: bool


async def apply_charter(
    bootstrap: str, charter: Charter, text: str, *, by: str = "", forced: str = "", after: int | None = None
) -> Applied:
    """Publish ``text`` as the next revision of its feature, unless the newest revision is this very text.

    ``forced``: why, though it was not proven to earn more. ``after``: the revision that it was judged against.
    Raises ``ApplyFailed``.
    """
    codec = Codec(load_registry())
    bus = KafkaBus(bootstrap, client_id="flywheel-cli")
    key, digest = f"{charter.project}/{charter.feature}", sha256(text.encode()).hexdigest()
    try:
        # Asked first, as it fails at once where nobody listens, and reading a topic would wait.
        await live_partitions(bootstrap)
        newest = (await newest_of(bus, codec, TOPIC)).get(key)
        if newest is not None and newest["digest"] == digest:
            return Applied(charter.project, charter.feature, int(newest["revision"]), digest, changed=False)
        revision = 1 if newest is None else int(newest["revision"]) + 1
        if after is not None and revision != after + 1:
            raise ApplyFailed(f"revision {revision - 1} was published meanwhile; it was judged against {after}")
        value = {
            "event_id": event_id("charter", charter.project, charter.feature, revision, digest),
            "project": charter.project,
            "feature": charter.feature,
            "occurred_at": time.time_ns() // 1000,
            "revision": revision,
            "charter_yaml": text,
            "digest": digest,
            "by": by,
            "forced": forced,
        }
        await publish(bus, codec, [Output(TOPIC, key, "charter", value)])
    except KafkaAway as error:
        raise ApplyFailed(f"publishing the charter: {error}") from error
    except (Unavailable, TimeoutError) as error:
        raise ApplyFailed(f"publishing the charter to Kafka at {bootstrap}: {error or 'no answer in time'}") from error
    return Applied(charter.project, charter.feature, revision, digest, changed=True)


async def newest_charter(bootstrap: str, charter: Charter) -> dict[str, Any] | None:
    """Return the newest charter event of a charter's feature, None before the first. Raises ``ApplyFailed``."""

    async def read(bus: KafkaBus, codec: Codec) -> dict[str, Any] | None:
        return (await newest_of(bus, codec, TOPIC)).get(f"{charter.project}/{charter.feature}")

    return await asked(bootstrap, "reading the charters", read)


async def asked(bootstrap: str, doing: str, work: Callable[[KafkaBus, Codec], Coroutine[Any, Any, T]]) -> T:
    """Return what ``work`` does with a broker. Raises ``ApplyFailed``, which says what was being done."""
    try:
        # Asked first, as it fails at once where nobody listens, and reading a topic would wait.
        await live_partitions(bootstrap)
        return await work(KafkaBus(bootstrap, client_id="flywheel-cli"), Codec(load_registry()))
    except KafkaAway as error:
        raise ApplyFailed(f"{doing}: {error}") from error
    except (Unavailable, TimeoutError) as error:
        raise ApplyFailed(f"{doing} at Kafka {bootstrap}: {error or 'no answer in time'}") from error


async def publish(bus: KafkaBus, codec: Codec, outputs: Sequence[Output]) -> None:
    """Return when the broker has these events. Raises ``Unavailable``."""
    publisher = Publisher(bus, codec, source="cli")
    await publisher.start()
    try:
        await publisher.publish(outputs)
    finally:
        await publisher.stop()


async def newest_of(bus: KafkaBus, codec: Codec, topic: str) -> dict[str, dict[str, Any]]:
    """The newest event of every key of a compacted topic. Raises TimeoutError."""
    found: dict[str, dict[str, Any]] = {}

    def update(key: str, value: dict[str, Any] | None) -> None:
        if value is None:
            found.pop(key, None)
        else:
            found[key] = value

    table = CompactedTable(bus, topic, codec, update)
    reading = asyncio.create_task(table.run())
    try:
        async with asyncio.timeout(READ_S):
            await table.ready.wait()
    finally:
        await table.stop()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return found
