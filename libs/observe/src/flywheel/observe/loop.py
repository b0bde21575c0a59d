"""The event loop of every service: libuv's, at half the cost of asyncio's own for small messages on many sockets."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

import uvloop


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a service to its end, as ``asyncio.run`` would."""
    spare_the_collector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def spare_the_collector() -> None:
    """Have the process look for cycles seldom, and never among what is loaded already.

    Events are many, short-lived, without cycles: at the default of 700 the collector takes a quarter of the CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
