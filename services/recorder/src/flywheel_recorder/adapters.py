"""What the recorder calls: ClickHouse, through staged blocks of Avro."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from flywheel.events import Codec, Undecodable
from flywheel.store import DATABASE, StoreUnavailable, quoted
from flywheel_recorder.core import Refused, Row, deduplication_token, halves
from flywheel_recorder.rules import first_problem
from flywheel_recorder.shapes import Shape, position_columns, stage

_TRANSIENT: Final = frozenset(
    {
        74,  # CANNOT_READ_FROM_FILE_DESCRIPTOR
        75,  # CANNOT_WRITE_TO_FILE_DESCRIPTOR
        159,  # TIMEOUT_EXCEEDED
        160,  # TOO_SLOW
        164,  # READONLY
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        203,  # NO_FREE_CONNECTION
        209,  # SOCKET_TIMEOUT
        210,  # NETWORK_ERROR
        236,  # ABORTED
        241,  # MEMORY_LIMIT_EXCEEDED
        242,  # TABLE_IS_READ_ONLY
        243,  # NOT_ENOUGH_SPACE
        279,  # ALL_CONNECTION_TRIES_FAILED
        319,  # UNKNOWN_STATUS_OF_INSERT
        497,  # ACCESS_DENIED
        516,  # AUTHENTICATION_FAILED
        999,  # KEEPER_EXCEPTION
    }
)
"""Errors that say something about the store, not about the rows."""
_TOO_MANY_PARTS: Final = 252
_MEMORY_BYTES: Final = 2_000_000_000


class Staging(Protocol):
    """Puts Avro rows where SQL can read them."""

    def stage(self, shape: Shape, rows: Sequence[Row]) -> AbstractContextManager[str]:
        """Yield an SQL expression that reads the rows; it is gone afterwards."""
        ...


class FileStaging:
    """For the embedded engine: a file in a folder that only this process writes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._numbers = itertools.count()
        for left in self._folder.glob("*.avro"):  # of a process that was killed
            left.unlink()

    @contextmanager
    def stage(self, shape: Shape, rows: Sequence[Row]) -> Iterator[str]:
        """See `Staging.stage`. Raises StoreUnavailable: the disk does not take the file."""
        path = self._folder / f"{os.getpid()}-{next(self._numbers)}.avro"
        try:
            try:
                path.write_bytes(stage(shape.header, [row.staged() for row in rows]))
            except OSError as error:
                raise StoreUnavailable(f"staging rows in {self._folder}: {error}") from error
            yield f"file({quoted(str(path))}, 'Avro', {quoted(shape.structure)})"
        finally:
            path.unlink(missing_ok=True)


class TableStaging:
    """For a server, which can't see our files: a table in its memory."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._numbers = itertools.count()

    @contextmanager
    def stage(self, shape: Shape, rows: Sequence[Row]) -> Iterator[str]:
        """See `Staging.stage`."""
        name = f"{DATABASE}.staging_{os.getpid()}_{next(self._numbers)}_{os.urandom(4).hex()}"
        self._client.command(f"CREATE TABLE {name} ({shape.structure}) ENGINE = Memory")
        try:
            self._client.raw_insert(name, insert_block=stage(shape.header, [row.staged() for row in rows]), fmt="Avro")
            yield name
        finally:
            self._client.command(f"DROP TABLE IF EXISTS {name}")


@dataclass(frozen=True, slots=True)
class Target:
    """Where rows of one batch go: their topic, their shape, and the first offset of the batch by partition."""

    topic: str
    shape: Shape
    firsts: Mapping[int, int]

    def insert(self, source: str, where: str, rows: Sequence[Row], part: str) -> str:
        """The INSERT of these rows, which ``where`` picks from the staged ones."""
        token = deduplication_token(self.shape.table, self.topic, rows, part)
        return self.shape.insert(
            topic=self.topic,
            source=source,
            first_offsets=self.firsts,
            where=where,
            settings=_insert_settings(token, "max_partitions_per_insert_block = 1"),
        )


@dataclass(frozen=True, slots=True)
class Inserter:
    """Inserts the rows of one shape so that each ends as exactly one row or one verdict.

    A batch goes in as it is, in one statement that throws when any row is malformed or absurd, or when the rows belong
    to more than one month. Then, and only then, it is taken apart.
    """

    client: Any
    staging: Staging
    codec: Codec

    def insert(self, target: Target, rows: Sequence[Row]) -> dict[int, Refused]:
        """Insert the rows and return the verdicts on those that were refused, by their place in the batch.

        Raises:
            StoreUnavailable: the store can't take rows now; some may be in already, the same call may be repeated.
        """
        try:
            with self.staging.stage(target.shape, rows) as source:
                self._run(target.insert(source, f"NOT throwIf(NOT ({target.shape.valid}))", rows, "all"))
            return {}
        except DatabaseError as error:
            _raise_if_transient(error)
        return self._take_apart(target, rows)

    def confirm(self, shape: Shape, rows: Sequence[Row]) -> set[tuple[int, int]]:
        """Of rows that may be repeats, the ``(partition, offset)`` of those whose event the table has."""
        try:
            with self.staging.stage(shape, rows) as source:
                found = self._query(
                    f"SELECT toInt32(p_partition), toInt64(p_offset) FROM {source} WHERE event_id IN "
                    f"(SELECT event_id FROM {shape.table} WHERE event_id IN (SELECT event_id FROM {source}))"
                )
        except DatabaseError as error:
            _raise_if_transient(error)
            return set()  # not readable: let insert() give the verdicts
        return {(partition, offset) for partition, offset in found}

    def note_repeats(self, target: Target, rows: Sequence[Row]) -> None:
        """Record that these events came again, and whether they said the same as the first time."""
        shape = target.shape
        said = ", ".join(f"`{c}`" for c in shape.columns if c != "received_at")
        content = f"sipHash64(toString(tuple({said})))"
        token = deduplication_token("duplicate_events", target.topic, rows, "all")
        with self.staging.stage(shape, rows) as source:
            self._run(
                "INSERT INTO duplicate_events (event, event_id, same_content, first_partition, first_offset, k_topic, "
                f"k_partition, k_offset, k_timestamp, k_batch_first) SETTINGS {_insert_settings(token)} "
                f"SELECT {quoted(shape.event)}, event_id, if(rows = 0, NULL, known_content = content), "
                "if(rows = 0, NULL, known_partition), if(rows = 0, NULL, known_offset), "
                f"{position_columns(target.topic, target.firsts)} "
                "FROM (SELECT event_id, p_partition, p_offset, p_timestamp_ms, "
                f"{content} AS content FROM {source}) AS again LEFT JOIN (SELECT event_id, count() AS rows, "
                f"argMin({content}, k_offset) AS known_content, argMin(k_partition, k_offset) AS known_partition, "
                f"min(k_offset) AS known_offset FROM {shape.table} WHERE event_id IN (SELECT event_id FROM {source}) "
                "GROUP BY event_id) AS known USING (event_id)"
            )

    def _take_apart(self, target: Target, rows: Sequence[Row]) -> dict[int, Refused]:
        """Insert month by month what makes sense and say what is wrong with the rest."""
        shape = target.shape
        refused: dict[int, Refused] = {}
        with self.staging.stage(shape, rows) as source:
            try:
                judged = self._query(
                    "SELECT toInt32(p_partition), toInt64(p_offset), toYYYYMM(occurred_at), "
                    f"({shape.valid}) FROM {source}"
                )
            except DatabaseError as error:
                _raise_if_transient(error)
                return self._find_unreadable(target, rows, error)
            months: dict[int, list[Row]] = {}
            by_position = {(row.partition, row.offset): row for row in rows}
            for partition, offset, month, sensible in judged:
                row = by_position[partition, offset]
                if sensible:
                    months.setdefault(month, []).append(row)
                else:
                    refused[row.index] = self._explain(shape, row)
            for month, part in sorted(months.items()):
                where = f"({shape.valid}) AND toYYYYMM(occurred_at) = {month}"
                try:
                    self._run(target.insert(source, where, part, str(month)))
                except DatabaseError as error:
                    _raise_if_transient(error)
                    refused |= self._narrow_down(target, part, Refused("store_refused", None, _brief(error)))
        return refused

    def _find_unreadable(self, target: Target, rows: Sequence[Row], error: DatabaseError) -> dict[int, Refused]:
        """The engine can't parse the block: the codec says which rows are not what their schema says."""
        refused: dict[int, Refused] = {}
        readable: list[Row] = []
        for row in rows:
            try:
                self.codec.decode(row.framed)
                readable.append(row)
            except Undecodable as reason:
                refused[row.index] = Refused("undecodable", None, str(reason))
        if refused:
            return refused | (self._take_apart(target, readable) if readable else {})
        return self._narrow_down(target, rows, Refused("undecodable", None, _brief(error)))

    def _narrow_down(self, target: Target, rows: Sequence[Row], verdict: Refused) -> dict[int, Refused]:
        """Halve until the rows that spoil the insert stand alone."""
        if len(rows) == 1:
            return {rows[0].index: verdict}
        refused: dict[int, Refused] = {}
        for half in halves(rows):
            refused |= self._take_apart(target, half)
        return refused

    def _explain(self, shape: Shape, row: Row) -> Refused:
        """Name what the engine's check found wrong with a row."""
        try:
            value = self.codec.decode(row.framed).value
        except Undecodable as reason:
            return Refused("undecodable", None, str(reason))
        problem = first_problem(shape.rules, value, row.timestamp_ms * 1000)
        if problem is None:
            return Refused("invalid", None, "does not satisfy the store's rules")
        return Refused("invalid", problem[0], problem[1])

    def _run(self, statement: str) -> None:
        try:
            self.client.command(statement)
        except DatabaseError:
            raise
        except ClickHouseError as error:
            raise StoreUnavailable(f"writing to ClickHouse: {_brief(error)}") from error

    def _query(self, statement: str) -> Sequence[Sequence[Any]]:
        try:
            rows: Sequence[Sequence[Any]] = self.client.query(statement).result_rows
        except DatabaseError:
            raise
        except ClickHouseError as error:
            raise StoreUnavailable(f"reading from ClickHouse: {_brief(error)}") from error
        return rows


def _insert_settings(token: str, *more: str) -> str:
    """One block, one part, one commit: an insert must never be half there."""
    settings = (
        f"insert_deduplication_token = {quoted(token)}",
        "max_insert_threads = 1",
        "max_threads = 1",
        "max_block_size = 1000000",
        "min_insert_block_size_rows = 1000000",
        f"max_memory_usage = {_MEMORY_BYTES}",
        *more,
    )
    return ", ".join(settings)


def _raise_if_transient(error: DatabaseError) -> None:
    if error.code is None or error.code in _TRANSIENT:
        _unavailable(error)
    if error.code == _TOO_MANY_PARTS and "single INSERT block" not in str(error):
        _unavailable(error)


def _unavailable(error: DatabaseError) -> NoReturn:
    raise StoreUnavailable(f"writing to ClickHouse: {_brief(error)}") from error


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
