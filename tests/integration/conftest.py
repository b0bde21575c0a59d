"""The recorder's SQL endpoint over rows that a test writes itself, and ``flywheel whatif`` asked there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flywheel.cli.main import cli
from flywheel.observe import serve
from flywheel.store import TABLES, StoreSettings, connect, migrate
from flywheel_recorder.http import Endpoint, sql_app
from flywheel_recorder.reader import Limits, Reader


def insert(client: Any, event: str, rows: list[dict[str, Any]], *, at: datetime) -> None:
    """Write rows of an event into its table, as records that the broker took ``at``."""
    place = {"k_topic": "t", "k_partition": 0, "k_timestamp": at, "k_batch_first": 0}
    full = [{**place, "k_offset": number, **row} for number, row in enumerate(rows)]
    columns = sorted(set().union(*full) - {"reservations"})
    client.insert(TABLES[event], [[row.get(name) for name in columns] for row in full], columns)


@contextmanager
def sql_endpoint(folder: Path, recorded: Callable[[Any], None]) -> Iterator[str]:
    """The address of a recorder's SQL endpoint over a new store, into which ``recorded`` has written with a client."""
    client = connect(StoreSettings(path=folder))
    migrate(client)
    recorded(client)
    limits = Limits(seconds=60.0, memory_bytes=2_000_000_000, result_bytes=100_000_000, threads=2)
    reader = Reader(folder, limits, connections=2)
    began, ports, loops, stop = threading.Event(), [], [], asyncio.Event()

    async def serving() -> None:
        loops.append(asyncio.get_running_loop())
        endpoint = Endpoint(
            reader=reader, pool=ThreadPoolExecutor(2), users={}, limits=limits,
            observe=lambda _status, _seconds: None, waiting=asyncio.Semaphore(4),
        )  # fmt: skip

        def started(port: int) -> None:
            ports.append(port)
            began.set()

        await serve(sql_app(endpoint), "127.0.0.1", 0, on_started=started, stop=stop, grace_s=1)

    thread = threading.Thread(target=lambda: asyncio.run(serving()))
    thread.start()
    assert began.wait(60)
    yield f"http://127.0.0.1:{ports[0]}"
    loops[0].call_soon_threadsafe(stop.set)
    thread.join()
    reader.close()
    client.close()


@pytest.fixture
def whatif(clickhouse: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``flywheel whatif answers`` with more arguments, over the store whose address the test's ``clickhouse`` is."""
    monkeypatch.setenv("FLYWHEEL_CLICKHOUSE_URL", clickhouse)

    def asked(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["whatif", "answers", *arguments], prog_name="flywheel")

    return asked
