"""Migrations: numbered, applied once, repeatable after a crash, never edited once released."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from flywheel.store import (
    TABLES,
    Migration,
    MigrationConflict,
    StoreSettings,
    connect,
    migrate,
    pending,
    read_migrations,
    released_migrations,
)

RELEASED = Path(__file__).parent / "released_migrations.txt"


def test_released_files_have_not_changed() -> None:
    """To change the schema add a migration and its line here; an edited file would leave databases behind."""
    lines = RELEASED.read_text().splitlines()
    listed = dict(reversed(line.split("  ")) for line in lines)
    assert listed == {m.name: m.checksum for m in released_migrations()}


def test_checksum_is_that_of_the_file() -> None:
    migration = released_migrations()[0]
    folder = Path(__file__).parents[1] / "src/flywheel/store/migrations"
    assert migration.checksum == hashlib.sha256((folder / migration.name).read_bytes()).hexdigest()


def test_every_statement_may_run_again() -> None:
    """A process that dies half-way through a migration runs it again from its first statement."""
    for migration in released_migrations():
        for statement in migration.statements():
            added = re.fullmatch(r"ALTER TABLE \w+(?:\s+ADD COLUMN IF NOT EXISTS [^\n]+)+", statement)
            made = statement.startswith(("CREATE TABLE IF NOT EXISTS", "CREATE OR REPLACE VIEW"))
            assert made or added, statement[:60]


def test_statements_leave_comments_out() -> None:
    migration = Migration(
        1, "0001_x.sql", "-- why; because\nCREATE TABLE a (x Int8);\n\n-- more\nCREATE TABLE b (x Int8);\n"
    )
    assert list(migration.statements()) == ["CREATE TABLE a (x Int8)", "CREATE TABLE b (x Int8)"]


def test_pending_are_those_not_applied() -> None:
    one, two = Migration(1, "0001_a.sql", "a"), Migration(2, "0002_b.sql", "b")
    assert pending((one, two), {}) == (one, two)
    assert pending((one, two), {1: one.checksum}) == (two,)
    assert pending((one, two), {1: one.checksum, 2: two.checksum}) == ()


def test_a_changed_file_is_a_conflict_that_names_it() -> None:
    one = Migration(1, "0001_a.sql", "a")
    with pytest.raises(MigrationConflict, match=r"0001_a\.sql"):
        pending((one,), {1: "0" * 64})


def test_a_newer_database_is_a_conflict() -> None:
    with pytest.raises(MigrationConflict, match="migration 7"):
        pending((Migration(1, "0001_a.sql", "a"),), {7: "0" * 64})


def test_numbers_have_no_holes(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text("SELECT 1;")
    (tmp_path / "0003_c.sql").write_text("SELECT 1;")
    with pytest.raises(ValueError, match=r"\[1, 3\]"):
        read_migrations(tmp_path)


def test_migrating_again_changes_nothing(database: Any) -> None:
    assert migrate(database) == ()
    applied = database.query("SELECT number, name FROM schema_migrations ORDER BY number").result_rows
    assert applied == [(m.number, m.name) for m in released_migrations()]


def test_a_migration_that_died_before_it_was_noted_runs_again(database: Any) -> None:
    migrations = released_migrations()
    database.command("CREATE TABLE keep_history AS schema_migrations")
    database.command("INSERT INTO keep_history SELECT * FROM schema_migrations")
    database.command("TRUNCATE TABLE schema_migrations")
    assert migrate(database) == tuple(m.name for m in migrations)
    database.command("DROP TABLE keep_history")


def test_every_recorded_event_has_its_table(database: Any) -> None:
    tables = {
        row[0] for row in database.query("SELECT name FROM system.tables WHERE database = 'flywheel'").result_rows
    }
    assert set(TABLES.values()) <= tables


def test_a_folder_or_an_address_is_needed() -> None:
    with pytest.raises(ValueError, match="path"):
        connect(StoreSettings())


def test_an_address_with_its_password_is_not_shown() -> None:
    assert "hunter2" not in repr(StoreSettings(url="http://me:hunter2@localhost:8123"))
