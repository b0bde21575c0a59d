"""A migrated database in the embedded engine. A process can have one engine folder at a time, so it is per module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flywheel.store import StoreSettings, connect, migrate


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client on an empty, migrated database."""
    folder: Path = tmp_path_factory.mktemp("store") / "clickhouse"
    client = connect(StoreSettings(path=folder))
    migrate(client)
    yield client
    client.close()
