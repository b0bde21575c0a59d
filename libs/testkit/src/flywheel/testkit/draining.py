"""Reads what a run left behind, to hold it against what went in: whole topics, ids in views, states of shards."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from flywheel.events import Codec, Decoded, Undecodable, UnknownSchema
from flywheel.stream import KafkaBus, RawRecord, TopicPartition, state_digest
from flywheel.stream.records import lineage

_DRAIN_S: Final = 120.0
_QUERY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Drained:
    """A topic as a reader takes it: decoded records in order of partition and offset, with what he passes over.

    ``again_by_lineage`` are records that their service sent twice from its outbox; ``again_by_id`` say a fact that was
    said before: a client posted it again, or a state was rebuilt.
    """

    topic: str
    records: int
    taken: Sequence[Decoded]
    again_by_lineage: int
    again_by_id: int

    @property
    def ids(self) -> list[str]:
        """The ids of the facts taken, in order of arrival."""
        return [str(one.value["event_id"]) for one in self.taken]


async def end_offsets(bootstrap: str, topics: Sequence[str]) -> Mapping[TopicPartition, int]:
    """The offset after the last record of each partition. Raises ``flywheel.stream.Unavailable``."""
    consumer = KafkaBus(bootstrap, client_id="ledger").consumer(topics=topics, group=None)
    await consumer.start()
    try:
        return await consumer.end_offsets(sorted(consumer.assignment()))
    finally:
        await consumer.stop()


async def read_topic(bootstrap: str, topic: str) -> list[RawRecord]:
    """Every record a topic holds now, in order of partition and offset. Raises as ``read_partitions``."""
    found = await read_partitions(bootstrap, topic)
    return [record for partition in sorted(found) for record in found[partition]]


async def read_partitions(bootstrap: str, topic: str) -> dict[TopicPartition, list[RawRecord]]:
    """Every record each partition of a topic holds now, in order of offset, by a consumer without a group.

    Raises:
        TimeoutError: the topic could not be read to its end; for two minutes nothing came.
        Unavailable: the broker cannot be reached.
    """
    consumer = KafkaBus(bootstrap, client_id="ledger").consumer(topics=[topic], group=None)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(sorted(consumer.assignment()))
        begins = await consumer.beginning_offsets(sorted(consumer.assignment()))
        reached = dict(begins)
        found: dict[TopicPartition, list[RawRecord]] = {partition: [] for partition in ends}
        async with asyncio.timeout(_DRAIN_S) as silence:
            while any(reached[partition] < end for partition, end in ends.items()):
                for partition, records in (await consumer.poll(max_records=5_000, timeout_ms=200)).items():
                    found[partition] += records
                    reached[partition] = records[-1].offset + 1
                    silence.reschedule(asyncio.get_running_loop().time() + _DRAIN_S)
    finally:
        await consumer.stop()
    return found


async def drain(bootstrap: str, topic: str, codec: Codec) -> Drained:
    """Read a topic as a reader would who knows repeats: by lineage first, then by id. Records that cannot be decoded
    are left to the dead letters' account. Raises as ``read_topic``."""
    records = await read_topic(bootstrap, topic)
    marks: dict[tuple[int, str], int] = {}
    taken: dict[str, Decoded] = {}
    by_lineage = by_id = 0
    for record in records:
        emitted = lineage(record)
        if emitted is not None:
            source = (record.partition, emitted.source)
            if emitted.sequence <= marks.get(source, -1):
                by_lineage += 1
                continue
            marks[source] = emitted.sequence
        decoded = _decoded(codec, record)
        if decoded is None:
            continue
        known = taken.setdefault(str(decoded.value["event_id"]), decoded)
        by_id += known is not decoded
    return Drained(topic, len(records), list(taken.values()), by_lineage, by_id)


def _decoded(codec: Codec, record: RawRecord) -> Decoded | None:
    try:
        return None if record.value is None else codec.decode(record.value)
    except (Undecodable, UnknownSchema):
        return None


def ask_sql(url: str, sql: str) -> list[list[Any]]:
    """The rows of a query to the recorder's HTTP endpoint.

    Raises:
        httpx.HTTPError: it cannot be reached, or refused the query.
    """
    answer = httpx.post(url, content=f"{sql} FORMAT JSONCompact".encode(), timeout=_QUERY_S, trust_env=False)
    answer.raise_for_status()
    rows: list[list[Any]] = answer.json()["data"]
    return rows


def view_ids(url: str, view: str, column: str = "event_id", where: str = "1") -> list[str]:
    """The ids that a view holds, once for each row, in the order in which they came from Kafka. Raises as
    ``ask_sql``."""
    rows = ask_sql(url, f"SELECT {column} FROM {view} WHERE {where} ORDER BY k_partition, k_offset")
    return [str(row[0]) for row in rows]


def state_digests(folder: Path) -> dict[str, str]:
    """The digest of every shard's state below a folder, by the file's name relative to it; equal digests are states
    equal byte for byte. Raises ``flywheel.stream.Fatal``."""
    return {str(path.relative_to(folder)): state_digest(path) for path in sorted(folder.rglob("*.sqlite"))}


def states_behind(folder: Path, ends: Mapping[TopicPartition, int]) -> int:
    """How many records the states of one step (``<folder>/<shard>.sqlite``) have not folded or not sent on yet, of what
    the log holds; a batch that waits in an outbox counts as one. States that do not exist yet have folded nothing."""
    done: dict[TopicPartition, int] = {}
    waiting = 0
    for path in folder.glob("*.sqlite"):
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            done.update(
                {TopicPartition(t, p): n for t, p, n in db.execute("SELECT topic, part, next FROM offsets")},
            )
            waiting += int(db.execute("SELECT count(*) FROM outbox").fetchone()[0])
        except sqlite3.OperationalError:  # somebody is making the tables
            waiting += 1
        finally:
            db.close()
    return waiting + sum(max(0, end - done.get(partition, 0)) for partition, end in ends.items())
