"""The recorder as a step of the runner: batches into tables, positions out of them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from flywheel.store import StoreUnavailable
from flywheel.stream import Event, Hold, RawRecord, Reject, Skip, TopicPartition, Unavailable, Verdict
from flywheel_recorder.core import Refused

if TYPE_CHECKING:  # loading the engine takes a second; only a recorder that runs pays
    from flywheel_recorder.tables import Tables

T = TypeVar("T")
UNKNOWN_SCHEMA_RETRY_S = 5.0


class RecorderSink:
    """Writes raw records; the tables hold the offsets.

    Args:
        open_tables: opens the store; called at first use, and again while it fails.
        every_s: shortest time from one write to the next, so that inserts are few and large.
    """

    raw = True

    def __init__(self, open_tables: Callable[[], Tables], *, every_s: float) -> None:
        self._open_tables = open_tables
        self._every_s = every_s
        self._tables: Tables | None = None
        self._lock = threading.Lock()

    async def positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The next offset to read of each partition, from its table. Raises Unavailable."""
        places = [(p.topic, p.partition) for p in partitions]
        try:
            found = await asyncio.to_thread(self._locked, lambda tables: tables.positions(places))
        except StoreUnavailable as error:
            raise Unavailable(str(error), 1.0) from error
        return {TopicPartition(topic, partition): offset for (topic, partition), offset in found.items()}

    async def write(self, records: Sequence[Event | RawRecord]) -> Mapping[int, Verdict | Hold]:
        """Make the records durable, each as one row or with a verdict.

        Rows may be in beside a `Reject`; when the runner has buried it and gives the rest again they are found there.
        Nothing is lost by a crash in between: rows say where their batch began, and positions never pass that.

        Raises:
            Unavailable: the store is away; all of it may be given again.
        """
        started = time.monotonic()
        raws = [record.raw if isinstance(record, Event) else record for record in records]
        try:
            refused = await asyncio.to_thread(self._locked, lambda tables: tables.write(raws))
        except StoreUnavailable as error:
            raise Unavailable(str(error), 1.0) from error
        verdicts = {index: _verdict(verdict) for index, verdict in refused.items()}
        if not any(isinstance(verdict, Reject) for verdict in verdicts.values()):  # else the rest comes at once
            await asyncio.sleep(max(0.0, self._every_s - (time.monotonic() - started)))
        return verdicts

    def close(self) -> None:
        """Let go of the store, if it was opened; the next use opens it again."""
        with self._lock:
            if self._tables is not None:
                self._tables.close()
                self._tables = None

    def _locked(self, act: Callable[[Tables], T]) -> T:
        with self._lock:
            if self._tables is None:
                self._tables = self._open_tables()
            return act(self._tables)


def _verdict(refused: Refused) -> Verdict | Hold:
    if refused.outcome == "skip":
        return Skip(refused.reason)
    if refused.outcome == "hold":
        return Hold(refused.detail, UNKNOWN_SCHEMA_RETRY_S)
    return Reject(refused.reason, refused.field, refused.detail)
