"""Opens ClickHouse: the embedded engine on a folder, or a server by its address."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

DATABASE: Final = "flywheel"
_ALLOCATOR: Final = "dirty_decay_ms:1000"
"""How the engine's allocator (jemalloc) starts: freed pages go back after a second instead of five. With small inserts
several times a second pages kept for longer are never quite free, and resident memory went up and down by 100 MB and
rose, while what was allocated stayed level."""


class StoreUnavailable(Exception):
    """ClickHouse can't be opened or does not answer; trying again later may help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Where the facts are.

    Attributes:
        path: folder of the embedded engine; one process at a time may open it.
        url: ``http(s)://user:password@host:port`` of a server; wins over ``path``.
    """

    path: Path | None = None
    url: str | None = field(default=None, repr=False)

    @property
    def embedded(self) -> bool:
        """Whether the engine runs inside this process."""
        return self.url is None


def engine_options() -> dict[str, str]:
    """What the embedded engine starts with: the file of its bounds, its roles and what they may read."""
    config = str(Path(__file__).parent / "engine.xml")
    return {"config-file": config, "users_config": config}  # without a config file it ignores users_config


def _start_allocator() -> None:
    """Tell the allocator of an engine that this process has yet to load how to start, unless an operator has."""
    os.environ.setdefault("JE_MALLOC_CONF", _ALLOCATOR)


def engine_path(path: Path) -> str:
    """The spelling of ``path`` that every connection of a process must share; creates the folder."""
    resolved = path.resolve()
    resolved.mkdir(parents=True, exist_ok=True)
    return str(resolved)


def connect(settings: StoreSettings) -> Any:
    """Return a clickhouse-connect client on the database ``flywheel``, which is created where it may be.

    Raises:
        StoreUnavailable: the folder is open in another process, or the server does not answer.
        ValueError: neither ``path`` nor ``url`` is set.
    """
    _start_allocator()
    import clickhouse_connect  # the engine weighs 300 MB once loaded: only who connects pays
    from clickhouse_connect.driver.exceptions import ClickHouseError

    try:
        if settings.url is not None:
            client = clickhouse_connect.get_client(dsn=settings.url)
            if client.database in (None, "", "default", "__default__"):
                client.database = DATABASE
            return client
        if settings.path is None:
            raise ValueError("store: set a path for the embedded engine or the url of a server")
        client = clickhouse_connect.get_client(
            interface="chdb",
            path=engine_path(settings.path),
            chdb_options=engine_options(),
        )
        client.command(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
        client.command(f"USE {DATABASE}")
        client.database = DATABASE
        return client
    except ClickHouseError as error:
        hint = "" if settings.url else f"; is {settings.path} open in another process, such as the recorder?"
        raise StoreUnavailable(f"opening ClickHouse: {str(error)[-300:]}{hint}") from error
