"""ClickHouse through clickhouse-connect, embedded or a server: connection, migrations, documented views."""

from flywheel.store.catalogue import TABLES, Column, View, render, table_columns, views
from flywheel.store.connection import DATABASE, StoreSettings, StoreUnavailable, connect, engine_options, engine_path
from flywheel.store.literals import quoted
from flywheel.store.migrations import (
    Migration,
    MigrationConflict,
    migrate,
    pending,
    read_migrations,
    released_migrations,
)

__all__ = [
    "DATABASE",
    "TABLES",
    "Column",
    "Migration",
    "MigrationConflict",
    "StoreSettings",
    "StoreUnavailable",
    "View",
    "connect",
    "engine_options",
    "engine_path",
    "migrate",
    "pending",
    "quoted",
    "read_migrations",
    "released_migrations",
    "render",
    "table_columns",
    "views",
]
