"""A person's own prices from a file, read again when it changes; a broken file leaves the prices as they were."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

from flywheel.observe import Metrics, logger
from flywheel.pricing import PriceBook
from flywheel.pricing.own import OwnPricesInvalid, read_own_price_file

_Seen = tuple[int, int, int, int]
_ABSENT: Final = (0, 0, 0, 0)


class PriceFileBroken(RuntimeError):
    """The file cannot be used; the message names it and the fields at fault."""


class PriceFile:
    """The file, and which state of it was looked at last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: _Seen | None = None

    def changed(self) -> bool:
        """Whether it is another file than the one last read, by its identity, size and time of change."""
        return self._state() != self._seen

    def read(self) -> PriceBook:
        """Own prices before the public table.

        Raises:
            PriceFileBroken: it is not there, no file, too large, not text, or not prices.
        """
        self._seen = self._state()
        try:
            return read_own_price_file(self._path)
        except OwnPricesInvalid as error:
            raise PriceFileBroken(str(error)) from None

    def _state(self) -> _Seen:
        try:
            found = self._path.stat()
        except OSError:
            return _ABSENT
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


async def follow_prices(
    file: PriceFile, use: Callable[[PriceBook], None], metrics: Metrics, asked: asyncio.Event, *, every_s: float
) -> None:
    """Hand each new state of the file to ``use``, when it changes or as soon as ``asked`` is set; runs until cancelled.

    A state that cannot be used is logged and counted once, and the prices stay.
    """
    log = logger("ingest.prices")
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), every_s)
        if not asked.is_set() and not file.changed():
            continue
        asked.clear()
        try:
            prices = await asyncio.to_thread(file.read)
        except PriceFileBroken as broken:
            metrics.count("ingest_price_file_reads_total", 1, result="broken")
            metrics.gauge("ingest_price_file_broken", 1)
            log.error("prices not changed", why=str(broken))
            continue
        use(prices)
        metrics.count("ingest_price_file_reads_total", 1, result="loaded")
        metrics.gauge("ingest_price_file_broken", 0)
        log.info("prices changed", version=prices.version)


def hung_up() -> asyncio.Event:
    """An event that SIGHUP sets."""
    asked = asyncio.Event()
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    return asked
