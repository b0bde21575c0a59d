"""An engine for the tests of a module, and what makes records. A process can have one engine folder at a time."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flywheel.events import Codec, LocalRegistry
from flywheel.events.examples import examples
from flywheel.observe import Metrics
from flywheel.store import TABLES, StoreSettings
from flywheel.stream import RawRecord
from flywheel_recorder.tables import Tables
from flywheel_recorder.wiring import open_tables

NOW_US = 1_795_651_200_000_000
"""2026-11-26: the broker's clock in these tests."""


@dataclass(frozen=True)
class Engine:
    """A store in a folder of its own, as the recorder opens it."""

    folder: Path
    codec: Codec
    opened: Callable[[], Tables]
    tables: Tables

    @property
    def client(self) -> Any:
        """The clickhouse-connect client."""
        return self.tables.client

    def rows(self, query: str) -> Any:
        """The rows of a query."""
        return self.client.query(query).result_rows

    def empty(self) -> Tables:
        """Empty every table of facts and return a recorder that remembers nothing."""
        for table in (*TABLES.values(), "duplicate_events"):
            self.client.command(f"TRUNCATE TABLE {table}")
        return self.restarted()

    def restarted(self) -> Tables:
        """What a new process would have."""
        return self.opened()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A migrated store."""
    folder = tmp_path_factory.mktemp("recorder")
    codec = Codec(LocalRegistry.load())
    opened = open_tables(
        StoreSettings(path=folder / "clickhouse"), folder / "staging", codec, remembered=1000, metrics=Metrics()
    )
    every: list[Tables] = []

    def restarted() -> Tables:
        every.append(opened())
        return every[-1]

    yield Engine(folder, codec, restarted, restarted())
    for tables in every:  # one left open keeps the next module of this process from opening its own folder
        tables.close()


@pytest.fixture(scope="session")
def codec() -> Codec:
    """The codec over the pinned schemas."""
    return Codec(LocalRegistry.load())


class Records:
    """Makes records of one topic whose offsets count up per partition."""

    def __init__(self, codec: Codec, topic: str = "llm-calls") -> None:
        self._codec, self._topic = codec, topic
        self._offsets: dict[int, Iterator[int]] = {}

    def raw(self, value: bytes | None, partition: int = 0, offset: int | None = None) -> RawRecord:
        """A record of these bytes."""
        counter = self._offsets.setdefault(partition, itertools.count())
        at = next(counter) if offset is None else offset
        return RawRecord(self._topic, partition, at, NOW_US // 1000, b"key", value)

    def call(self, partition: int = 0, **fields: Any) -> RawRecord:
        """A call; ``fields`` replace those of the example."""
        return self.raw(self.bytes_of(**fields), partition)

    def bytes_of(self, **fields: Any) -> bytes:
        """The framed bytes of a call."""
        return self._codec.encode("llm_call", call_value(**fields))


def call_value(**fields: Any) -> dict[str, Any]:
    """A valid call with an id of its own."""
    example: Mapping[str, Any] = examples("llm_call")["priced-chat"]
    return {**example, "event_id": uuid.uuid4().hex, "occurred_at": NOW_US, **fields}


@pytest.fixture
def records(codec: Codec) -> Records:
    """Records of llm-calls."""
    return Records(codec)
