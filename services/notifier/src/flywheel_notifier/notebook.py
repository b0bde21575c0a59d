"""What the notifier knows and has told, in one SQLite file: read once, written through.

Positions in the log, how alerts stand, what each destination was told and what still waits for it are kept together, so
that a death at any point neither forgets an alert nor makes a message with another key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import orjson

from flywheel.control import Silence
from flywheel.stream import Fatal, TopicPartition
from flywheel_notifier.core.standing import Ack, Standing
from flywheel_notifier.core.telling import Message, Note, Told

FORM: Final = 1
"""Of the file; another one when what the tables hold changes."""
PATIENCE_S: Final = 20.0
"""How long the file may be another process's, which is stopping."""
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (topic TEXT, part INTEGER, next INTEGER, PRIMARY KEY (topic, part)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alerts (key TEXT PRIMARY KEY, body BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS acks (key TEXT PRIMARY KEY, body BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS silences (key TEXT PRIMARY KEY, body BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS told (destination TEXT, key TEXT, body BLOB, PRIMARY KEY (destination, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages (id TEXT PRIMARY KEY, destination TEXT, made INTEGER, body BLOB) WITHOUT ROWID;
"""


class Notebook:
    """Owns the file. For one thread; one process at a time, the next waits until it is free.

    Args:
        path: the file, made with its folders where there is none.
        now_us: when it is made, if it is: what was over before is old news.

    Raises:
        Fatal: the file cannot be opened or is of another form.
    """

    def __init__(self, path: Path, now_us: int) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE_S, check_same_thread=False)
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
            facts = (("form", FORM), ("since", now_us))
            self._db.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", facts)
            found = dict(self._db.execute("SELECT name, value FROM facts"))
            if found["form"] != FORM:
                raise Fatal(f"{path} is of form {found['form']}, not {FORM}: take another STATE_DIR")
            self.since_us: int = found["since"]
            self._read()
        except (OSError, sqlite3.Error) as error:
            raise Fatal(f"{path} cannot be opened, or another notifier has it: {error}") from error

    def _read(self) -> None:
        rows = self._db.execute
        self.positions = {TopicPartition(t, p): n for t, p, n in rows("SELECT topic, part, next FROM positions")}
        self.alerts = {key: Standing(**orjson.loads(body)) for key, body in rows("SELECT key, body FROM alerts")}
        self.acks = {key: Ack(**orjson.loads(body)) for key, body in rows("SELECT key, body FROM acks")}
        silences = rows("SELECT key, body FROM silences")
        self.silences = {key: Silence.from_event(orjson.loads(body)) for key, body in silences}
        self._told: dict[str, dict[str, Told]] = {}
        for destination, key, body in rows("SELECT destination, key, body FROM told"):
            self._told.setdefault(destination, {})[key] = Told(**orjson.loads(body))
        self._waiting: dict[str, dict[str, Message]] = {}
        for identity, destination, body in rows("SELECT id, destination, body FROM messages ORDER BY made, id"):
            self._waiting.setdefault(destination, {})[identity] = _message(orjson.loads(body))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def told(self, destination: str) -> Mapping[str, Told]:
        """What a destination was last told, by ``project/alert_id``."""
        return self._told.get(destination, {})

    def waiting(self, destination: str) -> Sequence[Message]:
        """What was made for a destination and not taken yet, the oldest first."""
        return tuple(self._waiting.get(destination, {}).values())

    def take(
        self,
        *,
        alerts: Mapping[str, Standing],
        acks: Mapping[str, Ack],
        silences: Mapping[str, Silence],
        positions: Mapping[TopicPartition, int],
    ) -> None:
        """Keep what a batch changed, and where it ended. Raises Fatal."""
        places = [(p.topic, p.partition, n) for p, n in positions.items()]
        with self._writing():
            self._put("alerts", {key: alert.plain for key, alert in alerts.items()})
            self._put("acks", {key: asdict(ack) for key, ack in acks.items()})
            self._put("silences", {key: said.event() for key, said in silences.items()})
            self._db.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", places)
        self.alerts.update(alerts)
        self.acks.update(acks)
        self.silences.update(silences)
        self.positions.update(positions)

    def made(self, messages: Sequence[Message], told: Mapping[str, Told]) -> None:
        """Keep messages of one destination until they are taken, and that it was told. Raises Fatal."""
        if not messages:
            return
        name = messages[0].destination
        with self._writing():
            for each in messages:
                row = (each.message_id, name, each.made_us, orjson.dumps(asdict(each)))
                self._db.execute("INSERT OR REPLACE INTO messages VALUES (?, ?, ?, ?)", row)
            rows = [(name, key, orjson.dumps(asdict(each))) for key, each in told.items()]
            self._db.executemany("INSERT OR REPLACE INTO told VALUES (?, ?, ?)", rows)
        self._waiting.setdefault(name, {}).update({each.message_id: each for each in messages})
        self._told.setdefault(name, {}).update(told)

    def taken(self, message: Message) -> None:
        """Forget a message that its destination has. Raises Fatal."""
        with self._writing():
            self._db.execute("DELETE FROM messages WHERE id = ?", (message.message_id,))
        self._waiting.get(message.destination, {}).pop(message.message_id, None)

    def given_up(self, message: Message) -> None:
        """Forget a message, and that its destination was told: it is made anew if it is still worth telling.

        Raises Fatal.
        """
        keys = [note.alert.key for note in message.notes]
        with self._writing():
            self._db.execute("DELETE FROM messages WHERE id = ?", (message.message_id,))
            rows = [(message.destination, key) for key in keys]
            self._db.executemany("DELETE FROM told WHERE destination = ? AND key = ?", rows)
        self._waiting.get(message.destination, {}).pop(message.message_id, None)
        for key in keys:
            self._told.get(message.destination, {}).pop(key, None)

    def forget(self, *, alerts: Iterable[str], silences: Iterable[str]) -> None:
        """Forget alerts, by ``project/alert_id``, with all that was said and told of them; silences. Raises Fatal."""
        gone, over = list(alerts), list(silences)
        if not gone and not over:
            return
        with self._writing():
            for table in ("alerts", "acks", "told"):
                self._db.executemany(f"DELETE FROM {table} WHERE key = ?", [(key,) for key in gone])
            self._db.executemany("DELETE FROM silences WHERE key = ?", [(key,) for key in over])
        for key in gone:
            self.alerts.pop(key, None)
            self.acks.pop(key, None)
            for told in self._told.values():
                told.pop(key, None)
        for key in over:
            self.silences.pop(key, None)

    def keep_destinations(self, names: Iterable[str]) -> None:
        """Forget what was told to and waits for destinations that are not declared any more. Raises Fatal."""
        for name in (self._told.keys() | self._waiting.keys()) - set(names):
            with self._writing():
                self._db.execute("DELETE FROM told WHERE destination = ?", (name,))
                self._db.execute("DELETE FROM messages WHERE destination = ?", (name,))
            self._told.pop(name, None)
            self._waiting.pop(name, None)

    def _put(self, table: str, bodies: Mapping[str, Any]) -> None:
        rows = [(key, orjson.dumps(body)) for key, body in bodies.items()]
        self._db.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", rows)

    def _writing(self) -> _Writing:
        return _Writing(self._db)


class _Writing:
    """One transaction: all of it or nothing."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._act("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self._act("COMMIT")
            return
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise Fatal(f"the notebook cannot be written: {error}") from error

    def _act(self, statement: str) -> None:
        try:
            self._db.execute(statement)
        except sqlite3.Error as error:
            raise Fatal(f"the notebook cannot be written: {error}") from error


def _message(value: dict[str, Any]) -> Message:
    notes = tuple(
        Note(
            each["note_id"],
            each["reason"],
            Standing(**each["alert"]),
            None if each["ack"] is None else Ack(**each["ack"]),
        )
        for each in value["notes"]
    )
    return Message(value["message_id"], value["destination"], value["group"], value["made_us"], notes)
