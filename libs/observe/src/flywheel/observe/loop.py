"""The event loop of every service: libuv's, at half the cost of asyncio's own for small messages on many sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import uvloop


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a service to its end, as ``asyncio.run`` would."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)
