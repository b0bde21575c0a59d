"""A provider over HTTP, for tests and benchmarks: OpenAI's chat completions and embeddings and Anthropic's messages,
plain and as server-sent events, with usage, errors, delays and connections that break.

A real server on a socket, so what is tested against it meets real bytes, real timing and real disconnects. Tokens are
words. ``python -m flywheel.testkit.provider_server --port 9000`` runs one that always answers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flywheel.testkit.provider_bodies import (
    chat_answer,
    chat_chunks,
    embeddings,
    failure,
    message_answer,
    message_events,
)

_MOST_BODY_BYTES: Final = 16 << 20
_REASONS: Final = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the provider does with one call.

    ``delay_s`` passes before the first byte and ``gap_s`` before each further event of a stream. ``cut_after``: so many
    events of a stream (0: before any byte, streamed or not), then the connection breaks. ``usage`` False: none is told.
    """

    text: str = "Paris is the capital of France ."
    status: int = 200
    delay_s: float = 0.0
    gap_s: float = 0.0
    cut_after: int | None = None
    usage: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    finish_reason: str = "stop"
    logprob: float | None = None
    """Of every token of a chat completion, where they are asked for; None: a provider that does not tell them."""
    body: bytes | None = None
    """The answer as it is, instead of one that is made up."""


@dataclass(slots=True)
class Seen:
    """One call as it arrived; ``finished`` once its answer was written whole, ``left`` once the caller hung up."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    finished: bool = False
    left: bool = False

    @property
    def model(self) -> str:
        """The model asked for."""
        return str(self.body.get("model"))


class ProviderServer:
    """The server; ``async with ProviderServer() as provider``, then ``provider.url`` is a base URL."""

    def __init__(self, *, port: int = 0, default: Behaviour | None = None, keep: bool = True) -> None:
        """``keep``: whether calls are remembered in ``seen``."""
        self._port = port
        self._default = default or Behaviour()
        self._planned: dict[str, deque[Behaviour]] = {}
        self._keep = keep
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.seen: list[Seen] = []

    def will(self, model: str, *behaviours: Behaviour) -> None:
        """Say what happens to the next calls of a model, in order; the last of them holds for all that follow."""
        self._planned[model] = deque(behaviours)

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """The base URL, as SDKs take it."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> ProviderServer:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self._port, backlog=1024)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self._server.wait_closed()

    async def serve_forever(self) -> None:
        """Serve until cancelled."""
        assert self._server is not None
        await self._server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                request = await _read_request(reader)
                if request is None:
                    return
                await self._answer(*request, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the caller hung up, or the loop ends
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        if method == "GET" and path.endswith("/models"):
            _write(writer, 200, json.dumps({"object": "list", "data": []}).encode())
            return
        asked = json.loads(body or b"{}")
        seen = Seen(path, headers, asked)
        if self._keep:
            self.seen.append(seen)
        planned = self._planned.get(seen.model)
        behaviour = self._default if not planned else planned.popleft() if len(planned) > 1 else planned[0]
        if behaviour.delay_s:
            await self._pause(behaviour.delay_s, writer, seen)
        if behaviour.cut_after == 0:
            writer.transport.abort()
            raise ConnectionResetError
        if behaviour.status != 200 or behaviour.body is not None:
            told = behaviour.body if behaviour.body is not None else failure(path, behaviour.status)
            _write(writer, behaviour.status, told, behaviour.headers)
        elif path.endswith("/embeddings"):
            _write(writer, 200, embeddings(asked), behaviour.headers)
        elif asked.get("stream"):
            await self._stream(path, asked, behaviour, writer, seen)
        else:
            told = _answer_of(path, asked, behaviour)
            _write(writer, 200, told, behaviour.headers)
        await writer.drain()
        seen.finished = True

    async def _stream(
        self, path: str, asked: dict[str, Any], behaviour: Behaviour, writer: asyncio.StreamWriter, seen: Seen
    ) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for number, event in enumerate(_events_of(path, asked, behaviour)):
            if behaviour.cut_after == number:
                await writer.drain()
                writer.transport.abort()
                raise ConnectionResetError
            if number and behaviour.gap_s:
                await self._pause(behaviour.gap_s, writer, seen)
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        writer.write(b"0\r\n\r\n")

    async def _pause(self, seconds: float, writer: asyncio.StreamWriter, seen: Seen) -> None:
        """Wait, and notice when the caller hangs up meanwhile."""
        until = asyncio.get_running_loop().time() + seconds
        while (left := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left, 0.02))
            if writer.transport.is_closing():
                seen.left = True
                raise ConnectionResetError


def _answer_of(path: str, asked: dict[str, Any], behaviour: Behaviour) -> bytes:
    terms: dict[str, Any] = {"usage": behaviour.usage, "finish_reason": behaviour.finish_reason}
    if path.endswith("/messages"):
        return message_answer(asked, behaviour.text, **terms)
    return chat_answer(asked, behaviour.text, logprob=behaviour.logprob, **terms)


def _events_of(path: str, asked: dict[str, Any], behaviour: Behaviour) -> Iterator[bytes]:
    terms: dict[str, Any] = {"usage": behaviour.usage, "finish_reason": behaviour.finish_reason}
    if path.endswith("/messages"):
        return message_events(asked, behaviour.text, **terms)
    return chat_chunks(asked, behaviour.text, logprob=behaviour.logprob, **terms)


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str], bytes] | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    length = int(headers.get("content-length", "0"))
    if length > _MOST_BODY_BYTES:
        return None
    return method, path, headers, await reader.readexactly(length)


def _write(writer: asyncio.StreamWriter, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\ncontent-type: application/json\r\n{extra}"
    writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)


@contextlib.asynccontextmanager
async def unused_port() -> AsyncIterator[int]:
    """A port on which nothing listens."""
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = int(server.sockets[0].getsockname()[1])
    server.close()
    await server.wait_closed()
    yield port


def events_of(body: bytes) -> Iterator[dict[str, Any]]:
    """The JSON of every event in a stream of server-sent events, OpenAI's closing mark left out."""
    for block in body.split(b"\n\n"):
        for line in block.split(b"\n"):
            if line.startswith(b"data: ") and line != b"data: [DONE]":
                yield json.loads(line[6:])


async def main() -> None:
    """Serve until interrupted; the port is printed as JSON."""
    parser = argparse.ArgumentParser(prog="python -m flywheel.testkit.provider_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on loopback; 0 takes a free one (default)")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="time before each answer (default 0)")
    arguments = parser.parse_args()
    behaviour = Behaviour(delay_s=arguments.delay_ms / 1000)
    async with ProviderServer(port=arguments.port, default=behaviour, keep=False) as provider:
        print(json.dumps({"port": provider.port}), flush=True)
        await provider.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
