"""Finds free TCP ports on the loopback interface."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection
from typing import Final

LOOPBACK: Final = "127.0.0.1"

# Below the range from which Linux takes the source ports of outgoing connections (32768 and up): a port in that range
# can be taken by any client while its server restarts, even by one that connects to that very port.
_LOWEST, _HIGHEST = 20_000, 32_000


def is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` of the loopback interface now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port(preferred: int = 0, *, besides: Collection[int] = ()) -> int:
    """``preferred`` where it is free, else some free port; never 0, and none of ``besides``, which others were told to
    listen on and may not do yet.

    Raises:
        OSError: no free port was found.
    """
    if preferred and preferred not in besides and is_free(preferred):
        return preferred
    # The operating system's randomness, so that programs started together, or with one seed, ask for different ports.
    chooser = random.SystemRandom()
    for _ in range(200):
        port = chooser.randint(_LOWEST, _HIGHEST)
        if port not in besides and is_free(port):
            return port
    raise OSError(f"no free port between {_LOWEST} and {_HIGHEST}")
