"""The shell around the core: prices, the time on the ledger, counting what comes out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from flywheel.events import Codec, event_id
from flywheel.observe import Metrics, logger
from flywheel.pricing import PriceBook, price_call
from flywheel.stream import Bus, Output, Publisher, Unavailable
from flywheel.stream.kafka import partition_of
from flywheel_controller.core import INPUTS, LEDGER

log = logger("controller")
TYPICAL: Final[Mapping[str, int]] = {"input_tokens": 1000, "output_tokens": 300}
"""What a call is assumed to use when arms are compared by price."""
_PER_TICK: Final = 1_000_000
_PAUSE_S: Final = 1.0


class Prices:
    """What a typical call of a model costs by a price book."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book

    def __call__(self, model: str, at_us: int) -> float | None:
        """Return US dollars at a time, None where no price is known."""
        provider, _, name = model.partition("/")
        if not name:
            return None
        priced = price_call(dict(TYPICAL), self._book, provider=provider, models=[name], at_us=at_us)
        cost: Decimal | None = priced.cost_usd
        return None if cost is None else float(cost)


class Ticker:
    """Writes the time into every partition of the ledger, while the intake of this process has read all there is.

    The controller judges only by these entries: what came before them is known when they are read. Several processes
    may tell the time; an entry more does no harm.
    """

    def __init__(self, bus: Bus, codec: Codec, metrics: Metrics, *, tick_s: float, source: str) -> None:
        self._bus, self._codec, self._metrics, self._tick_s, self._source = bus, codec, metrics, tick_s, source

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
        keys = partition_keys(await self._bus.partitions(LEDGER))
        known = await self._inputs()
        while not stop.is_set():
            if self.caught_up(known):
                now_us = time.time_ns() // 1000
                await publisher.publish([tick(number, key, now_us) for number, key in enumerate(keys)])
            await _sleep(stop, self._tick_s)

    async def _inputs(self) -> list[tuple[str, int]]:
        return [(topic, number) for topic in INPUTS for number in range(await self._bus.partitions(topic))]

    def caught_up(self, partitions: Sequence[tuple[str, int]]) -> bool:
        """Whether nothing this process holds waits to be passed on; False before it looked once."""
        lags = [self._metrics.value("lag_records", topic=t, partition=str(p)) for t, p in partitions]
        seen = [lag for lag in lags if lag is not None]
        return bool(seen) and not any(seen)


def tick(number: int, key: str, now_us: int) -> Output:
    """Return the time for the ``number``-th partition of the ledger, which ``key`` chooses."""
    value = {"event_id": event_id("tick", number, now_us), "project": "", "occurred_at": now_us, "kind": "tick"}
    return Output(LEDGER, key, "control_entry", value)


def partition_keys(partitions: int) -> list[str]:
    """Return a key for each partition of a topic, in order, by the partitioner all of Flywheel uses."""
    found: dict[int, str] = {}
    for number in range(_PER_TICK):
        key = f"time-{number}"
        found.setdefault(partition_of(key.encode(), partitions), key)
        if len(found) == partitions:
            break
    return [found[number] for number in range(partitions)]


def count_output(metrics: Metrics, output: Output) -> None:
    """Count what comes out."""
    if output.event == "action":
        value = output.value
        metrics.count("actions_total", 1, kind=value["kind"], state=value["state"])


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
