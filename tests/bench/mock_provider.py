"""The lightest provider of chat completions that gateways accept: one answer a model, made once, connections kept open.

It stands behind every gateway of `bench_gateway.py` on the same cores, so what it takes is what they cannot have:
``mock_provider.py PORT``.
"""

from __future__ import annotations

import asyncio
import sys
from functools import lru_cache
from typing import cast

import orjson
import uvloop

from flywheel.testkit.provider_bodies import chat_answer

TEXT = "Paris is the capital of France ."


@lru_cache
def answer(model: str) -> bytes:
    """A whole response."""
    body = chat_answer(
        {"model": model, "messages": [{"role": "user", "content": "Where ?"}]}, TEXT, usage=True, finish_reason="stop"
    )
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Provider(asyncio.Protocol):
    """One connection; requests come one after another, with a Content-Length."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer = self._buffer + data
        head = buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        said = buffer[:head].lower()
        at = said.find(b"content-length:")
        end = head + 4 + (int(said[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0)
        if len(buffer) >= end:
            self._buffer = buffer[end:]
            asked = buffer[head + 4 : end]
            self._transport.write(answer(orjson.loads(asked)["model"] if asked else "none"))  # some ask what there is


async def main() -> None:
    """Serve until terminated."""
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
