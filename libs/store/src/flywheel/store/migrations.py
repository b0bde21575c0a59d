"""Brings a database to the newest numbered migration. A released file is never edited: a change is a new file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from flywheel.store.connection import DATABASE

_HISTORY: Final = f"{DATABASE}.schema_migrations"
_CREATE_HISTORY: Final = f"""CREATE TABLE IF NOT EXISTS {_HISTORY} (
    number UInt32 COMMENT 'Number of the migration.',
    name String COMMENT 'Name of its file.',
    checksum String COMMENT 'SHA-256 of the file.',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When it was applied.'
) ENGINE = MergeTree ORDER BY number COMMENT 'Migrations applied to this database.'"""


class MigrationConflict(Exception):
    """The database and this installation disagree about a released migration; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Migration:
    """A numbered file of statements, each of which may safely run again."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    def statements(self) -> Iterator[str]:
        """The statements: each ends with a semicolon at the end of a line; lines starting with ``--`` are comments."""
        kept = "\n".join(line for line in self.sql.splitlines() if not line.startswith("--"))
        for statement in kept.split(";\n"):
            text = statement.strip().removesuffix(";")
            if text:
                yield text


def read_migrations(folder: Path) -> tuple[Migration, ...]:
    """Read ``NNNN_name.sql`` files in order. Raises ValueError when a number is missing or used twice."""
    found = tuple(
        Migration(int(path.name[:4]), path.name, path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.sql"))
    )
    numbers = [m.number for m in found]
    if numbers != list(range(1, len(numbers) + 1)):
        raise ValueError(f"migrations in {folder} are numbered {numbers}; expected 1, 2, 3 …")
    return found


@lru_cache(maxsize=1)
def released_migrations() -> tuple[Migration, ...]:
    """The migrations of this installation."""
    return read_migrations(Path(__file__).parent / "migrations")


def pending(migrations: Sequence[Migration], applied: Mapping[int, str]) -> tuple[Migration, ...]:
    """Return what is still to be applied, given the checksums already in the database.

    Raises:
        MigrationConflict: an applied file has changed, or the database is newer than this installation.
    """
    known = {m.number: m for m in migrations}
    for number, checksum in sorted(applied.items()):
        if number not in known:
            raise MigrationConflict(f"the database has migration {number}, unknown to this version")
        if known[number].checksum != checksum:
            raise MigrationConflict(f"{known[number].name} has changed since it was applied; add a new one instead")
    return tuple(m for m in migrations if m.number not in applied)


def migrate(client: Any, migrations: Sequence[Migration] | None = None) -> tuple[str, ...]:
    """Apply what is pending, in order, and return the names applied.

    A migration is noted after its last statement. When the process dies half-way it runs again from its first, which is
    why every statement must be repeatable (``IF NOT EXISTS``, ``OR REPLACE``).

    Raises:
        MigrationConflict: see `pending`.
    """
    client.command(f"CREATE DATABASE IF NOT EXISTS {DATABASE}", use_database=False)
    client.command(_CREATE_HISTORY)
    rows = client.query(f"SELECT number, checksum FROM {_HISTORY}").result_rows
    todo = pending(released_migrations() if migrations is None else migrations, dict(rows))
    for migration in todo:
        for statement in migration.statements():
            client.command(statement)
        row = [migration.number, migration.name, migration.checksum]
        client.insert(_HISTORY, [row], ["number", "name", "checksum"])
    return tuple(m.name for m in todo)
