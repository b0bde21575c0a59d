"""A compacted topic held in memory: read whole, then followed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from flywheel.events import Codec
from flywheel.observe import logger
from flywheel.stream.errors import Unavailable
from flywheel.stream.ports import Bus
from flywheel.stream.records import decode
from flywheel.stream.types import RawRecord, Reject, TopicPartition

log = logger("stream.table")
Update = Callable[[str, dict[str, Any] | None], None]


class CompactedTable:
    """Calls ``on_update(key, value)`` for every record, None for a removed key; ``ready`` once all are read."""

    def __init__(self, bus: Bus, topic: str, codec: Codec, on_update: Update, *, poll_ms: int = 50) -> None:
        self._bus, self._topic, self._codec, self._on_update, self._poll_ms = bus, topic, codec, on_update, poll_ms
        self._ends: Mapping[TopicPartition, int] = {}
        self._next: dict[TopicPartition, int] = {}
        self._stop = asyncio.Event()
        self.ready = asyncio.Event()

    @property
    def lag(self) -> int:
        """Records known to be there and not yet read."""
        return sum(max(0, end - self._next.get(p, 0)) for p, end in self._ends.items())

    async def run(self) -> None:
        """Follow the topic until `stop`; a broker that is away is waited for."""
        while not self._stop.is_set():
            consumer = self._bus.consumer(topics=[self._topic], group=None)
            try:
                await consumer.start()
                await self._follow(consumer)
            except Unavailable as error:
                log.warning("waiting", topic=self._topic, why=error.detail)
                await asyncio.sleep(error.retry_after_s)
            finally:
                await consumer.stop()

    async def stop(self) -> None:
        """Ask `run` to return."""
        self._stop.set()

    async def _follow(self, consumer: Any) -> None:
        partitions = sorted(consumer.assignment())
        if not partitions:
            raise Unavailable(f"topic {self._topic} does not exist yet")
        begin = await consumer.beginning_offsets(partitions)
        self._ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            at = self._next.setdefault(partition, begin[partition])
            consumer.seek(partition, max(at, begin[partition]))
            self._next[partition] = max(at, begin[partition])
        while not self._stop.is_set():
            if self.lag == 0:
                self.ready.set()
            polled = await consumer.poll(max_records=2000, timeout_ms=self._poll_ms)
            for partition, records in polled.items():
                for record in records:
                    self._apply(record)
                    self._next[partition] = record.offset + 1

    def _apply(self, record: RawRecord) -> None:
        key = (record.key or b"").decode(errors="replace")
        if record.value is None:
            self._on_update(key, None)
            return
        decoded = decode(self._codec, record)
        if decoded is None or isinstance(decoded, Reject):
            # A table has no dead letters: its writers are ours, and the recorder dead-letters the same record.
            log.error("unreadable", topic=self._topic, key=key, offset=record.offset)
            return
        self._on_update(key, decoded.value)
