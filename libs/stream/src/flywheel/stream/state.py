"""A shard's state in SQLite: tables, input offsets, outbox and high-water marks, committed in one transaction."""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from flywheel.stream.errors import Fatal, Revoked, Unavailable
from flywheel.stream.types import TopicPartition

_SCHEMA = """
CREATE TABLE IF NOT EXISTS state (
    tbl TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (tbl, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS offsets (
    topic TEXT NOT NULL, part INTEGER NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (topic, part)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS marks (
    topic TEXT NOT NULL, source TEXT NOT NULL, mark INTEGER NOT NULL, PRIMARY KEY (topic, source)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (seq INTEGER PRIMARY KEY, records BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS counter (
    one INTEGER PRIMARY KEY CHECK (one = 1), emitted INTEGER NOT NULL, incarnation TEXT NOT NULL
);
INSERT OR IGNORE INTO counter VALUES (1, 0, '');
UPDATE counter SET incarnation = lower(hex(randomblob(8)));
"""
_CHUNK = 900
_SOURCES_KEPT = 8
_LOCK_S = 1.0
"""How long to wait for another process's write: one that is alive needs milliseconds."""
_TOMBSTONE = None
_NOTHING: Mapping[str, bytes | None] = MappingProxyType({})


class ShardState:
    """The durable state of one shard; it belongs to whoever opened it last.

    Each opening takes a new ``incarnation``. Every write names it, so an owner that was frozen while another took over
    finds out at its next write and writes nothing. It also names the source in the lineage of what is emitted: what an
    earlier opening emitted is sent again only from the outbox, with the lineage it was framed with, so readers' marks
    hold across crashes, lost disks, restored backups and two owners at once.

    Raises:
        Unavailable: another process stands still in the middle of a write; its lock ends when it goes on or dies.
        Fatal: the disk is full or broken.
    """

    def __init__(self, path: Path | None, *, synchronous: str = "NORMAL") -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False, timeout=_LOCK_S)
        try:
            with _settled(f"opened: {path}"):
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute(f"PRAGMA synchronous={synchronous}")
                self._db.executescript(_SCHEMA)
        except (Unavailable, Fatal):
            self._db.close()
            raise
        self.offsets = {
            TopicPartition(t, p): n for t, p, n in self._db.execute("SELECT topic, part, next FROM offsets")
        }
        self.marks = {(t, s): m for t, s, m in self._db.execute("SELECT topic, source, mark FROM marks")}
        self.emitted: int
        self.incarnation: str
        self.emitted, self.incarnation = self._db.execute("SELECT emitted, incarnation FROM counter").fetchone()

    def view(self, *, catching_up: bool = False) -> BatchView:
        """A fresh view for one batch."""
        return BatchView(self._db, catching_up=catching_up)

    def commit(
        self,
        view: BatchView,
        *,
        offsets: Mapping[TopicPartition, int],
        marks: Mapping[tuple[str, str], int],
        emitted: int,
        outbox: bytes | None,
    ) -> int | None:
        """Make a batch durable: its writes, next offsets, marks and what is still to be sent; or nothing of it.

        Returns the number under which ``outbox`` waits to be sent.

        Raises:
            Revoked: another owner has opened this state since, or is writing to it; nothing was written.
            Fatal: the disk is full or broken; nothing was written.
        """
        db = self._db
        try:
            with _settled("written"):
                db.execute("BEGIN IMMEDIATE")
        except Unavailable as error:
            raise Revoked(error.detail) from error
        try:
            owned = "UPDATE counter SET emitted=? WHERE incarnation=?"
            if db.execute(owned, (emitted, self.incarnation)).rowcount != 1:
                raise Revoked("this state was opened by another owner")
            puts, deletes = view.changes()
            if puts:
                db.executemany("INSERT INTO state VALUES (?,?,?) ON CONFLICT DO UPDATE SET value=excluded.value", puts)
            if deletes:
                db.executemany("DELETE FROM state WHERE tbl=? AND key=?", deletes)
            db.executemany(
                "INSERT INTO offsets VALUES (?,?,?) ON CONFLICT DO UPDATE SET next=excluded.next",
                [(tp.topic, tp.partition, n) for tp, n in offsets.items()],
            )
            if marks:
                db.executemany(
                    "INSERT INTO marks VALUES (?,?,?) ON CONFLICT DO UPDATE SET mark=excluded.mark",
                    [(topic, source, mark) for (topic, source), mark in marks.items()],
                )
            stale = self._stale(marks)
            if stale:
                db.executemany("DELETE FROM marks WHERE topic=? AND source=?", stale)
            sequence = None
            if outbox is not None:
                sequence = db.execute("INSERT INTO outbox(records) VALUES (?)", (outbox,)).lastrowid
            db.execute("COMMIT")
        except BaseException as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise Fatal(f"state cannot be written: {error}") from error
            raise
        self.offsets.update(offsets)
        self.marks.update(marks)
        for gone in stale:
            del self.marks[gone]
        self.emitted = emitted
        return sequence

    def _stale(self, marks: Mapping[tuple[str, str], int]) -> list[tuple[str, str]]:
        """Marks of long gone openings: of each source only the newest few can still be sent again."""
        if marks.keys() <= self.marks.keys():
            return []
        families = {(topic, source.rpartition("/")[0]) for topic, source in marks}
        stale: list[tuple[str, str]] = []
        for topic, family in families:
            kept = [k for k in self.marks.keys() | marks.keys() if (k[0], k[1].rpartition("/")[0]) == (topic, family)]
            kept.sort(key=lambda k: (k in marks, self.marks.get(k, -1)))
            stale += [k for k in kept[: max(0, len(kept) - _SOURCES_KEPT)] if k in self.marks and k not in marks]
        return stale

    def outbox(self) -> list[tuple[int, bytes]]:
        """What was committed and not yet acknowledged, oldest first."""
        return list(self._db.execute("SELECT seq, records FROM outbox ORDER BY seq"))

    def sent(self, seq: int) -> None:
        """Forget the outbox up to and including ``seq``: the broker has acknowledged it.

        Without effect when another owner has opened this state since: the numbers may mean its records by now.

        Raises:
            Unavailable: another owner is writing to this state; it is sent again, or left to that one.
            Fatal: the disk is full or broken.
        """
        owned = "DELETE FROM outbox WHERE seq<=? AND (SELECT incarnation FROM counter)=?"
        with _settled("written"):
            self._db.execute(owned, (seq, self.incarnation))

    def digest(self) -> str:
        """Hash of all state tables in key order: equal exactly when the state is byte for byte the same."""
        return _digest(self._db)

    def close(self) -> None:
        """Close the file."""
        self._db.close()


@contextmanager
def _settled(act: str) -> Iterator[None]:
    """Turn what SQLite says into what it means for us: another owner is at it, or the disk is full or broken."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise Unavailable("another process is writing to this state and does not come to an end") from error
        raise Fatal(f"state cannot be {act}: {error}") from error


def state_digest(path: Path) -> str:
    """`ShardState.digest` of a file that somebody else may have open, and goes on having. Raises Fatal."""
    try:
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            return _digest(db)
        finally:
            db.close()
    except sqlite3.Error as error:
        raise Fatal(f"{path} cannot be read as a shard's state: {error}") from error


def _digest(db: sqlite3.Connection) -> str:
    digest = blake2b(digest_size=16)
    for row in db.execute("SELECT tbl, key, value FROM state ORDER BY tbl, key"):
        for part in row:
            data = part.encode() if isinstance(part, str) else bytes(part)
            digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


class BatchView:
    """Reads through to the database, keeps a batch's writes in memory, by table, until the runner commits them."""

    def __init__(self, db: sqlite3.Connection, *, catching_up: bool = False) -> None:
        self._db = db
        self.catching_up = catching_up
        self._written: dict[str, dict[str, bytes | None]] = {}

    def fork(self) -> BatchView:
        """A view that sees this one's writes and keeps its own apart, until `adopt`."""
        forked = BatchView(self._db, catching_up=self.catching_up)
        forked._written = {table: dict(written) for table, written in self._written.items()}
        return forked

    def adopt(self, forked: BatchView) -> None:
        """Take over what a fork of this view wrote."""
        self._written = forked._written

    def get(self, table: str, key: str) -> bytes | None:
        """The value of a key, or None."""
        written = self._written.get(table, _NOTHING)
        if key in written:
            return written[key]
        row = self._db.execute("SELECT value FROM state WHERE tbl=? AND key=?", (table, key)).fetchone()
        return None if row is None else row[0]

    def get_many(self, table: str, keys: Iterable[str]) -> dict[str, bytes]:
        """The values of those keys that there are."""
        written = self._written.get(table, _NOTHING)
        found: dict[str, bytes] = {}
        unseen: list[str] = []
        for key in dict.fromkeys(keys):
            if key in written:
                value = written[key]
                if value is not None:
                    found[key] = value
            else:
                unseen.append(key)
        for at in range(0, len(unseen), _CHUNK):
            chunk = unseen[at : at + _CHUNK]
            marks = ",".join("?" * len(chunk))
            found.update(
                self._db.execute(f"SELECT key, value FROM state WHERE tbl=? AND key IN ({marks})", (table, *chunk))
            )
        return found

    def put(self, table: str, key: str, value: bytes) -> None:
        """Set a key."""
        written = self._written.get(table)
        if written is None:
            written = self._written[table] = {}
        written[key] = value

    def delete(self, table: str, key: str) -> None:
        """Remove a key, there or not."""
        self._written.setdefault(table, {})[key] = _TOMBSTONE

    def scan(
        self, table: str, start: str = "", stop: str | None = None, limit: int | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """Pairs with ``start <= key < stop`` in key order, the batch's own writes included."""
        written = sorted(k for k in self._written.get(table, _NOTHING) if k >= start and (stop is None or k < stop))
        where, bounds = ("", ()) if stop is None else (" AND key<?", (stop,))
        stored = self._db.execute(
            f"SELECT key, value FROM state WHERE tbl=? AND key>=?{where} ORDER BY key", (table, start, *bounds)
        )
        return islice(self._merge(table, written, stored), limit)

    def _merge(
        self, table: str, written: list[str], stored: Iterable[tuple[str, bytes]]
    ) -> Iterator[tuple[str, bytes]]:
        at = 0
        for key, value in stored:
            upto = bisect_left(written, key, at)
            yield from self._live(table, written[at:upto])
            at = upto
            if at < len(written) and written[at] == key:
                yield from self._live(table, [key])
                at += 1
            else:
                yield key, value
        yield from self._live(table, written[at:])

    def _live(self, table: str, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        for key in keys:
            value = self._written[table][key]
            if value is not None:
                yield key, value

    def changes(self) -> tuple[list[tuple[str, str, bytes]], list[tuple[str, str]]]:
        """What to write and what to remove."""
        every = self._written.items()
        puts = [(t, k, v) for t, written in every for k, v in written.items() if v is not None]
        return puts, [(t, k) for t, written in every for k, v in written.items() if v is None]
