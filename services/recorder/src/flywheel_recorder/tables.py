"""Records batches into tables, exactly once: the recorder's work, in one thread, without Kafka."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import numpy as np
from clickhouse_connect.driver.exceptions import ClickHouseError

from flywheel.events import Codec, UnknownSchema
from flywheel.store import TABLES, StoreUnavailable, quoted, table_columns
from flywheel_recorder.adapters import Inserter, Staging, Target
from flywheel_recorder.core import (
    Group,
    Record,
    Refused,
    Resume,
    Row,
    event_id_of,
    hold_back,
    settle,
    sort_out,
    split_repeats,
    wrong_event,
)
from flywheel_recorder.shapes import Shape, shape_of
from flywheel_recorder.window import Fingerprints, Window

_FINGERPRINT: Final = "reinterpretAsInt64(substring(MD5(event_id), 1, 8))"
Place = tuple[str, int]
"""A topic and a partition."""


@dataclass(frozen=True, slots=True)
class Source:
    """A topic the recorder reads: the event it carries and what becomes of records that get no row."""

    topic: str
    event: str
    compacted: bool
    has_dead_letters: bool


Observer = Callable[[str, int, int, float], None]
"""Told after each insert: table, rows, repeats, seconds."""


class Tables:
    """Owns the writing connection. Not for more than one thread at a time.

    Args:
        client: clickhouse-connect client on a migrated database.
        staging: how blocks get to where SQL can read them.
        codec: knows the writer schemas.
        sources: the topics that are recorded.
        remembered: how many recent ids of each table are remembered, to notice events that come twice.
        observe: told after each insert.
    """

    def __init__(
        self,
        client: Any,
        staging: Staging,
        codec: Codec,
        sources: Collection[Source],
        *,
        remembered: int = 2_000_000,
        observe: Observer = lambda _table, _rows, _repeats, _seconds: None,
    ) -> None:
        self.client = client
        self._inserter = Inserter(client, staging, codec)
        self._codec = codec
        self._sources = {s.topic: s for s in sources}
        self._columns = table_columns(client)
        self._shapes: dict[tuple[str, int], Shape | Refused] = {}
        self._remembered = remembered
        self._windows = {table: Window(remembered) for table in {TABLES[s.event] for s in sources}}
        self._present: dict[Place, frozenset[int]] = {}
        self._observe = observe
        self._interrupted = False
        self._through: dict[Place, int] = {}

    def close(self) -> None:
        """Let go of the store."""
        self.client.close()

    def positions(self, places: Collection[Place]) -> dict[Place, int]:
        """The next offset to read of each place that has rows; where there is none, the log's beginning is next.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        found: dict[Place, int] = {}
        for place in places:
            self._through.pop(place, None)
        try:
            for topic in sorted({topic for topic, _partition in places}):
                partitions = sorted(p for t, p in places if t == topic)
                for partition, resumed in self._resume(topic, partitions).items():
                    found[topic, partition] = resumed.position
                    self._present[topic, partition] = resumed.present
                self._remember(topic, partitions)
        except ClickHouseError as error:
            raise StoreUnavailable(f"looking up positions: {str(error)[:300]}") from error
        for place in places:
            if place not in found:
                self._present.pop(place, None)
        return found

    def write(self, records: Sequence[Record]) -> dict[int, Refused]:
        """Make each record durable as one row, or return why it gets none, by its index.

        Raises:
            StoreUnavailable: ClickHouse can't take rows now. Repeat the call with the same records.
        """
        if self._interrupted or self._given_again(records):
            self._look_up_present(records)
        self._interrupted = True
        batch = sort_out(records, self._is_present)
        unknown = {(g.topic, g.schema_id) for g in batch.groups if self._shape(g.topic, g.schema_id) is None}
        if unknown:
            batch = hold_back(records, batch, unknown)
        refused = dict(batch.refused)
        for group in batch.groups:
            refused |= self._write_group(group, batch.first_offsets[group.topic])
        self._interrupted = False
        held = {(records[i].topic, records[i].partition): i for i, r in refused.items() if r.outcome == "hold"}
        self._move_on(records, held)
        return {index: self._settle(records[index].topic, verdict) for index, verdict in refused.items()}

    def _write_group(self, group: Group, firsts: Mapping[int, int]) -> dict[int, Refused]:
        shape = self._shape(group.topic, group.schema_id)
        if shape is None or isinstance(shape, Refused):
            assert shape is not None, "held back before"
            return {row.index: shape for row in group.rows}
        target = Target(group.topic, shape, firsts)
        refused: dict[int, Refused] = {}
        rows: Sequence[Row] = group.rows
        while rows:
            once, rows = split_repeats(rows, [event_id_of(row.framed) for row in rows])
            refused |= self._write_once(target, once)
        return refused

    def _write_once(self, target: Target, rows: Sequence[Row]) -> dict[int, Refused]:
        """Insert rows whose ids differ from each other, except those whose event the table has already."""
        started, shape = perf_counter(), target.shape
        window = self._windows[shape.table]
        fingerprints = _fingerprints(event_id_of(row.framed) for row in rows)
        seen = window.seen(fingerprints)
        repeats: list[Row] = []
        if seen.any():
            suspects = [row for row, suspect in zip(rows, seen, strict=True) if suspect]
            known = self._inserter.confirm(shape, suspects)
            repeats = [row for row in suspects if (row.partition, row.offset) in known]
            again = {row.index for row in repeats}
            rows = [row for row in rows if row.index not in again]
        refused = self._inserter.insert(target, rows) if rows else {}
        if repeats:
            self._inserter.note_repeats(target, repeats)
        window.add(fingerprints[~seen])
        self._observe(shape.table, len(rows) - len(refused), len(repeats), perf_counter() - started)
        return refused

    def _shape(self, topic: str, schema_id: int) -> Shape | Refused | None:
        """The shape of a topic's events with this schema; a verdict on all of them; None while it is unknown."""
        known = self._shapes.get((topic, schema_id))
        if known is not None:
            return known
        source = self._sources[topic]
        try:
            version = self._codec.writer_schema(schema_id)
        except UnknownSchema:
            return None
        shape: Shape | Refused
        if version.event != source.event:
            shape = wrong_event(source.event, version.event)
        else:
            table = TABLES[version.event]
            shape = shape_of(version.event, version.avsc, schema_id, table, self._columns[table])
        self._shapes[topic, schema_id] = shape
        return shape

    def _is_present(self, topic: str, partition: int, offset: int) -> bool:
        present = self._present.get((topic, partition))
        return present is not None and offset in present

    def _given_again(self, records: Sequence[Record]) -> bool:
        """Whether any of these was written before: the runner repeats a batch whose dead letters were not taken."""
        return any(r.offset <= self._through.get((r.topic, r.partition), -1) for r in records)

    def _move_on(self, records: Sequence[Record], held: Mapping[Place, int]) -> None:
        """Note how far each partition is written, and drop the memory of a crash once it is past it."""
        for index, record in enumerate(records):
            place = (record.topic, record.partition)
            if place not in held or index < held[place]:
                self._through[place] = record.offset
        for place in {(r.topic, r.partition) for r in records}:
            present = self._present.get(place)
            if present is not None and self._through.get(place, -1) >= max(present, default=-1):
                del self._present[place]

    def _settle(self, topic: str, refused: Refused) -> Refused:
        source = self._sources[topic]
        return settle(refused, compacted=source.compacted, has_dead_letters=source.has_dead_letters)

    def _look_up_present(self, records: Sequence[Record]) -> None:
        """After a write that failed half-way: see which of these records it left in the table."""
        lowest: dict[Place, int] = {}
        for record in records:
            lowest.setdefault((record.topic, record.partition), record.offset)
        try:
            for topic in {topic for topic, _partition in lowest}:
                firsts = [(p, first) for (t, p), first in lowest.items() if t == topic]
                for partition, offsets in self._offsets_from(topic, firsts).items():
                    self._present[topic, partition] = offsets
        except ClickHouseError as error:
            raise StoreUnavailable(f"looking up positions: {str(error)[:300]}") from error

    def _resume(self, topic: str, partitions: Sequence[int]) -> dict[int, Resume]:
        numbers = ", ".join(str(p) for p in partitions)
        rows = self._positioned(topic, "k_partition, k_batch_first", f"k_partition IN ({numbers})")
        firsts = self.client.query(
            f"SELECT k_partition, max(k_batch_first) FROM ({rows}) GROUP BY k_partition"
        ).result_rows
        present = self._offsets_from(topic, firsts)
        return {p: Resume(position=first, present=present[p]) for p, first in firsts}

    def _offsets_from(self, topic: str, firsts: Sequence[tuple[int, int]]) -> dict[int, frozenset[int]]:
        """The offsets at or above each partition's first that are in the store."""
        if not firsts:
            return {}
        where = "(" + " OR ".join(f"(k_partition = {p} AND k_offset >= {first})" for p, first in firsts) + ")"
        rows = self.client.query(self._positioned(topic, "k_partition, k_offset", where)).result_rows
        return {p: frozenset(offset for q, offset in rows if q == p) for p, _first in firsts}

    def _positioned(self, topic: str, columns: str, where: str) -> str:
        """A query over every row that stands for a record of the topic."""
        return " UNION ALL ".join(
            f"SELECT {columns} FROM {table} WHERE k_topic = {quoted(topic)} AND {where}"
            for table in (self._table(topic), "duplicate_events")
        )

    def _remember(self, topic: str, partitions: Sequence[int]) -> None:
        """Load the newest ids of these partitions into the window of the topic's table."""
        table = self._table(topic)
        numbers = ", ".join(str(p) for p in partitions)
        here = f"k_topic = {quoted(topic)} AND k_partition IN ({numbers})"
        share = max(1, self._remembered // len(partitions))
        raw = self.client.raw_query(
            f"SELECT {_FINGERPRINT} FROM {table} WHERE {here} AND k_offset > "
            f"(SELECT max(k_offset) FROM {table} WHERE {here}) - {share} FORMAT RowBinary"
        )
        self._windows[table].add(np.frombuffer(raw, dtype=np.int64))

    def _table(self, topic: str) -> str:
        return TABLES[self._sources[topic].event]


def _fingerprints(ids: Iterable[bytes | None]) -> Fingerprints:
    """Eight bytes for each id; the engine computes the same ones when a window is loaded."""
    md5 = hashlib.md5
    digests = b"".join([md5(i or b"", usedforsecurity=False).digest()[:8] for i in ids])
    return np.frombuffer(digests, dtype=np.int64)
