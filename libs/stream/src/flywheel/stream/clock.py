"""The runner's clock is the event loop's, so that a simulation's loop can bring its own time."""

from __future__ import annotations

import asyncio


def now() -> float:
    """Monotonic seconds, as of when the event loop last turned. Raises RuntimeError outside of one."""
    return asyncio.get_running_loop().time()
