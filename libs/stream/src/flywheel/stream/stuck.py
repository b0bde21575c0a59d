"""Ends a process that is stuck, after saying where everything stands: only a restart helps it."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from time import monotonic

from flywheel.observe import logger

log = logger("stream.stuck")
EXIT_CODE = 1


def dump_and_exit(why: str) -> None:
    """Write the stacks of all threads and tasks to standard error and end the process with code 1, at once."""
    log.error("stuck", why=why)
    faulthandler.dump_traceback(file=sys.stderr)
    try:
        for task in asyncio.all_tasks():
            task.print_stack(file=sys.stderr)
    except RuntimeError:
        pass  # asked from a thread without a loop: the stacks of the threads have to do
    sys.stderr.flush()
    os._exit(EXIT_CODE)


class StuckDetector:
    """A thread that expects a beat from the event loop, which cannot report its own silence.

    Args:
        after_s: silence after which ``on_stuck`` is called, once.
        on_stuck: what to do; dumps all stacks and exits by default.
    """

    def __init__(self, after_s: float, *, on_stuck: Callable[[str], None] = dump_and_exit) -> None:
        self._after_s, self._on_stuck = after_s, on_stuck
        self._beat_at = monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stuck-detector", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._beat_at = monotonic()
        self._thread.start()

    def beat(self) -> None:
        """The event loop turns."""
        self._beat_at = monotonic()

    def stop(self) -> None:
        """Watch no longer."""
        self._done.set()

    def _watch(self) -> None:
        looked_at = monotonic()
        while not self._done.wait(self._after_s / 4):
            now = monotonic()
            if now - looked_at > self._after_s / 2:
                self._beat_at = now  # this thread did not run either: the whole process was frozen, not stuck
            looked_at = now
            if now - self._beat_at > self._after_s:
                self._on_stuck(f"the event loop has not turned for {now - self._beat_at:.0f} s")
                return
