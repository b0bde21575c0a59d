"""What the recorder decides, without doing any of it: grouping, batch edges, resume arithmetic, verdicts.

Exactly once rests on one invariant. The runner hands over a partition's records in order and comes with the next
batch only when the last one is finished: its rows durable, its dead letters acknowledged. Every row carries
``k_batch_first``, the first offset of the batch it was written in, so every offset below any row's ``k_batch_first`` is
finished. After a crash the partition resumes at the largest one and leaves out the offsets above it that are in the
table already. The insert itself is the only commit; in which order a batch's parts went in does not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

FRAME_BYTES: Final = 5
_SHORT_ID: Final = 64
"""Zig-zag of 32: the length byte of an id as `flywheel.events.event_id` makes them, the common case."""
_CONTINUES: Final = 0x80


class Record(Protocol):
    """The parts of a Kafka record that the recorder reads."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp_ms(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that gets no row: why, which field is at fault where one is, and what becomes of it.

    ``reject``: it goes to the dead letters. ``skip``: it is rightly without a row. ``hold``: it can't be read yet, and
    its partition waits for it.
    """

    reason: str
    field: str | None
    detail: str
    outcome: Literal["reject", "skip", "hold"] = "reject"


@dataclass(frozen=True, slots=True)
class Row:
    """A record on its way into a table: its place in the batch, its position and its framed bytes."""

    index: int
    partition: int
    offset: int
    timestamp_ms: int
    framed: bytes

    def staged(self) -> tuple[int, int, int, bytes]:
        """The row as `shapes.stage` takes it."""
        return self.partition, self.offset, self.timestamp_ms, self.framed


@dataclass(slots=True)
class Group:
    """The rows of one batch with one topic and one writer schema."""

    topic: str
    schema_id: int
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch sorted out: what is to be inserted, what is refused, and where each partition's batch begins."""

    groups: tuple[Group, ...]
    refused: dict[int, Refused]
    first_offsets: Mapping[str, Mapping[int, int]]


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a partition goes on: the next offset to read, and the offsets from there on that need no row any more."""

    position: int
    present: frozenset[int]


def sort_out(records: Sequence[Record], present: Callable[[str, int, int], bool]) -> Batch:
    """Group a batch by topic and writer schema.

    Args:
        records: the batch; each partition's records in offset order.
        present: whether ``(topic, partition, offset)`` has its row already, after a crash.
    """
    groups: dict[tuple[str, bytes], Group] = {}
    refused: dict[int, Refused] = {}
    firsts: dict[str, dict[int, int]] = {}
    for index, record in enumerate(records):
        topic, partition, offset, framed = record.topic, record.partition, record.offset, record.value
        firsts.setdefault(topic, {}).setdefault(partition, offset)
        if present(topic, partition, offset):
            continue
        if framed is None:
            refused[index] = Refused("no_value", None, "a record without a value says nothing on this topic")
            continue
        if len(framed) <= FRAME_BYTES or framed[0] != 0:
            refused[index] = Refused("undecodable", None, "not in Confluent framing")
            continue
        key = (topic, framed[:FRAME_BYTES])
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(topic, int.from_bytes(framed[1:FRAME_BYTES], "big"))
        group.rows.append(Row(index, partition, offset, record.timestamp_ms, framed))
    return Batch(tuple(groups.values()), refused, firsts)


def hold_back(records: Sequence[Record], batch: Batch, unknown: Collection[tuple[str, int]]) -> Batch:
    """Leave out the records of unknown schemas and, in their partitions, everything after them.

    Args:
        records: the batch as it was given.
        batch: the same, sorted out.
        unknown: topics and schema ids that nobody here knows yet.
    """
    waiting: dict[tuple[str, int], Row] = {}
    for group in batch.groups:
        if (group.topic, group.schema_id) in unknown:
            for row in group.rows:
                place = (group.topic, row.partition)
                if place not in waiting or row.offset < waiting[place].offset:
                    waiting[place] = row

    def waits(topic: str, partition: int, offset: int) -> bool:
        first = waiting.get((topic, partition))
        return first is not None and offset >= first.offset

    groups = [
        Group(g.topic, g.schema_id, [r for r in g.rows if not waits(g.topic, r.partition, r.offset)])
        for g in batch.groups
    ]
    refused = {
        i: verdict
        for i, verdict in batch.refused.items()
        if not waits(records[i].topic, records[i].partition, records[i].offset)
    }
    held = {
        row.index: Refused("unknown_schema", None, "its schema is not known here yet", "hold")
        for row in waiting.values()
    }
    return Batch(tuple(g for g in groups if g.rows), refused | held, batch.first_offsets)


def event_id_of(framed: bytes) -> bytes | None:
    """The event's id, the first field of every schema, without decoding the rest; None when it is not there."""
    if len(framed) > FRAME_BYTES and framed[FRAME_BYTES] == _SHORT_ID:
        found = framed[6:38]
        return found if len(found) == _SHORT_ID // 2 else None
    length, shift, at = 0, 0, FRAME_BYTES
    while at < len(framed) and shift < 35:
        byte = framed[at]
        length |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < _CONTINUES:
            size = length >> 1
            found = framed[at : at + size]
            return None if length & 1 or len(found) != size else found
    return None


def deduplication_token(table: str, topic: str, rows: Sequence[Row], part: str) -> str:
    """A name for one insert that is the same when the same rows are sent again, and differs when any differ.

    It says topic, partitions and offset ranges in clear; the digest covers ranges with holes in them.
    """
    ranges: dict[int, tuple[int, int, int]] = {}
    digest = hashlib.blake2b(digest_size=8)
    for row in rows:
        first, _last, count = ranges.get(row.partition, (row.offset, row.offset, 0))
        ranges[row.partition] = (first, row.offset, count + 1)
        digest.update(b"%d:%d;" % (row.partition, row.offset))
    spans = ",".join(f"{p}:{first}-{last}" for p, (first, last, _count) in sorted(ranges.items()))
    return f"{table}/{topic}/{spans}/{part}/{digest.hexdigest()}"


def split_repeats(rows: Sequence[Row], ids: Sequence[bytes | None]) -> tuple[list[Row], list[Row]]:
    """Split rows into the first of each id in this batch and the repeats; rows without an id count as first."""
    seen: set[bytes] = set()
    first: list[Row] = []
    repeats: list[Row] = []
    for row, found in zip(rows, ids, strict=True):
        if found is not None and found in seen:
            repeats.append(row)
            continue
        if found is not None:
            seen.add(found)
        first.append(row)
    return first, repeats


def halves(rows: Sequence[Row]) -> tuple[Sequence[Row], Sequence[Row]]:
    """Split rows in two, to find the ones that spoil an insert."""
    middle = len(rows) // 2
    return rows[:middle], rows[middle:]


def wrong_event(expected: str, found: str) -> Refused:
    """The verdict on an event that is not the topic's."""
    return Refused("wrong_event", None, f"a {found} on a topic of {expected}s")


def settle(refused: Refused, *, compacted: bool, has_dead_letters: bool) -> Refused:
    """Turn a refusal into a skip where there is nothing to dead-letter or nowhere further to send it.

    On a compacted topic a record without a value takes its key back, which changes no fact; what can't be recorded from
    a dead-letter topic is in that topic, whole.
    """
    nowhere = not has_dead_letters or (compacted and refused.reason == "no_value")
    if nowhere and refused.outcome == "reject":
        return Refused(refused.reason, refused.field, refused.detail, "skip")
    return refused
