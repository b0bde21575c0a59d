"""Connections that break as aiokafka expects them to, on libuv's event loop too."""

from __future__ import annotations

from typing import Any


def mend(client: Any) -> None:
    """Have an ``AIOKafkaClient`` take a write to a closed transport for a broken connection.

    There libuv's transport raises RuntimeError where asyncio's own only logs; aiokafka 0.14 expects an OSError, and the
    routine that fetches would end for good, without a word to whoever polls.
    """
    get = client._get_conn

    async def get_mended(*args: Any, **more: Any) -> Any:
        connection = await get(*args, **more)
        writer = getattr(connection, "_writer", None)
        if writer is not None and not isinstance(writer.write, _Write):
            writer.write = _Write(writer.write)
        return connection

    client._get_conn = get_mended


class _Write:
    def __init__(self, write: Any) -> None:
        self._write = write

    def __call__(self, data: bytes) -> None:
        try:
            self._write(data)
        except RuntimeError as error:
            raise ConnectionResetError(str(error)) from error
