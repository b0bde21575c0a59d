"""The time told on a ledger, so that a fold of it has one clock, which is part of its input."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from flywheel.events import Codec
from flywheel.observe import Metrics, logger
from flywheel.stream.errors import Unavailable
from flywheel.stream.kafka_producer import partition_of
from flywheel.stream.ports import Bus
from flywheel.stream.publisher import Publisher
from flywheel.stream.types import Output

log = logger("stream")
_PAUSE_S: Final = 1.0
_MOST_TRIES: Final = 1_000_000
TickEntry = Callable[[int, Sequence[str], int], Output]
"""The time (microseconds since the epoch) for the ledger's partition of a number, of which the keys each choose one."""


class Ticker:
    """Writes the time into every partition of a ledger, while the intake of this process keeps up with its inputs.

    Who judges only by these entries judges when what came before them, but for the last one or two seconds, is known.
    Several processes may tell the time; an entry more does no harm. ``inputs``: the topics of which nothing may wait
    for longer.
    """

    def __init__(
        self,
        bus: Bus,
        codec: Codec,
        metrics: Metrics,
        *,
        ledger: str,
        inputs: Sequence[str],
        entry: TickEntry,
        tick_s: float,
        source: str,
    ) -> None:
        self._bus, self._codec, self._metrics, self._tick_s, self._source = bus, codec, metrics, tick_s, source
        self._ledger, self._inputs_read, self._entry = ledger, inputs, entry

    async def run(self, stop: asyncio.Event) -> None:
        """Tell the time until ``stop`` is set; a broker that is away is waited for."""
        while not stop.is_set():
            publisher = Publisher(self._bus, self._codec, source=self._source)
            try:
                await publisher.start()
                await self._tell(publisher, stop)
            except Unavailable as error:
                log.warning("waiting", why=error.detail)
                await _sleep(stop, max(_PAUSE_S, error.retry_after_s))
            finally:
                await publisher.stop()

    async def _tell(self, publisher: Publisher, stop: asyncio.Event) -> None:
        keys = partition_keys(await self._bus.partitions(self._ledger))
        known = await self._inputs()
        while not stop.is_set():
            if self.caught_up(known):
                now_us = time.time_ns() // 1000
                await publisher.publish([self._entry(number, keys, now_us) for number in range(len(keys))])
            await _sleep(stop, self._tick_s)

    async def _inputs(self) -> list[tuple[str, int]]:
        return [(topic, number) for topic in self._inputs_read for number in range(await self._bus.partitions(topic))]

    def caught_up(self, partitions: Sequence[tuple[str, int]]) -> bool:
        """Whether nothing this process holds waits longer than from one look to the next; False before the first."""
        return nothing_overdue(self._metrics, partitions)


def nothing_overdue(metrics: Metrics, partitions: Sequence[tuple[str, int]]) -> bool:
    """Whether of no partition (topic, number) that this process holds a record has waited since the look before; False
    before the first look."""
    found = [metrics.value_if_used("overdue_records", topic=t, partition=str(p)) for t, p in partitions]
    seen = [records for records in found if records is not None]
    return bool(seen) and not any(seen)


def partition_keys(partitions: int) -> list[str]:
    """Return a key for each partition of a topic, in order, by the partitioner all of Flywheel uses."""
    found: dict[int, str] = {}
    for number in range(_MOST_TRIES):
        key = f"time-{number}"
        found.setdefault(partition_of(key.encode(), partitions), key)
        if len(found) == partitions:
            break
    return [found[number] for number in range(partitions)]


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
