"""A TCP proxy that spoils connections on purpose: put it in front of one port, and change its rules while it runs."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from flywheel.testkit.rules import PASS, Rules

T = TypeVar("T")
_CHUNK: Final = 64 * 1024
_POLL_S: Final = 0.02
_START_S: Final = 10.0
LOOPBACK: Final = "127.0.0.1"


@dataclass(eq=False, slots=True)
class _Pair:
    """One client's connection and ours to the target."""

    client: asyncio.StreamWriter
    target: asyncio.StreamWriter
    # Its last request was passed on to have its answer dropped.
    doomed: bool = False


@dataclass(slots=True)
class Seen:
    """What the proxy did since it was started."""

    connections: int = 0
    refused: int = 0
    cut: int = 0
    dropped_replies: int = 0
    blocked: int = 0


@dataclass(slots=True)
class _Drop:
    """How many more answers to drop, and to which requests."""

    left: int = 0
    matching: Callable[[bytes], bool] = field(default=lambda _: True)


class FaultProxy:
    """Forwards what connects to ``address`` to ``target_port``, under the rules in force.

    ``framed``: clients send requests that begin with their length in four bytes, as Kafka's do. Then ``block`` and
    ``drop_replies`` are asked about whole requests; else about bytes as they come, and of a request that comes in
    several pieces only the first looks like one.

    It runs in a thread and loop of its own, so that tests use it from anywhere; every method may be called from any
    thread. ``target_port`` may be set later, as long as nobody connects before. Use it as a context manager, or call
    ``start`` and ``stop``.

    Raises (from ``start``):
        OSError: the port to listen on is taken.
    """

    def __init__(self, target_port: int = 0, *, port: int = 0, framed: bool = False) -> None:
        self.target_port = target_port
        self._framed = framed
        self.port = port
        self.seen = Seen()
        self._rules = PASS
        self._drop = _Drop()
        self._blocked: Callable[[bytes], bool] | None = None
        self._pairs: set[_Pair] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """Where clients connect, host:port."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def rules(self) -> Rules:
        """The rules in force."""
        return self._rules

    @property
    def open_connections(self) -> int:
        """Connections that are forwarded now."""
        return len(self._pairs)

    def start(self) -> Self:
        """Listen; ``port`` and ``address`` are known afterwards."""
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._accepted, LOOPBACK, self.port))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        """Cut what is open, stop listening, end the thread."""
        if self._thread.is_alive():
            self._call(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def set(self, rules: Rules) -> None:
        """Put other rules in force, for connections that are open as for those to come."""
        self._rules = rules

    def clear(self) -> None:
        """Forward everything again at once; what was held goes on."""
        self._rules, self._drop, self._blocked = PASS, _Drop(), None

    def cut(self) -> int:
        """Reset every open connection, on both sides, as a firewall that restarts does. Returns how many."""
        return self._call(self._cut())

    def drop_replies(self, count: int, matching: Callable[[bytes], bool] = lambda _: True) -> None:
        """For the next ``count`` requests that ``matching`` says true of (it is given the bytes as they were read):
        pass the request on, swallow what the target answers, and reset the client's connection. The target has acted,
        and the client cannot know."""
        self._drop = _Drop(count, matching)

    def block(self, matching: Callable[[bytes], bool]) -> None:
        """Until ``clear``, pass no request on that ``matching`` says true of, and reset the connection it came on: the
        target never sees it. Other requests go through."""
        self._blocked = matching

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_S)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _cut(self) -> int:
        pairs = list(self._pairs)
        for pair in pairs:
            _reset(pair.client)
            _reset(pair.target)
        self._pairs.clear()
        self.seen.cut += len(pairs)
        return len(pairs)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._rules.refuse:
            self.seen.refused += 1
            _reset(writer)
            return
        try:
            target_reader, target_writer = await asyncio.open_connection(LOOPBACK, self.target_port)
        except OSError:  # the target is away: the client is told so, as the target's own machine would
            self.seen.refused += 1
            _reset(writer)
            return
        pair = _Pair(writer, target_writer)
        self._pairs.add(pair)
        self.seen.connections += 1
        try:
            await asyncio.gather(self._requests(pair, reader), self._replies(pair, target_reader))
        except OSError:
            _reset(writer)
        finally:
            self._pairs.discard(pair)
            for side in (writer, target_writer):
                side.close()

    async def _requests(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        while data := await (_frame(reader) if self._framed else reader.read(_CHUNK)):
            await self._wait(lambda rules: (rules.delay_requests_s, rules.hold_requests))
            if self._blocked is not None and self._blocked(data):
                self.seen.blocked += 1
                _reset(pair.client)
                pair.target.close()
                return
            if self._drop.left > 0 and not pair.doomed and self._drop.matching(data):
                self._drop.left -= 1
                pair.doomed = True
            pair.target.write(data)
            await pair.target.drain()
        if pair.target.can_write_eof() and not pair.target.is_closing():
            pair.target.write_eof()

    async def _replies(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_CHUNK):
            await self._wait(lambda rules: (rules.delay_replies_s, rules.hold_replies))
            if pair.doomed:
                self.seen.dropped_replies += 1
                _reset(pair.client)
                # Not a reset: the target shall read to the end what it was sent.
                pair.target.close()
                return
            pair.client.write(data)
            await pair.client.drain()
        pair.client.close()

    async def _wait(self, of: Callable[[Rules], tuple[float, bool]]) -> None:
        """Delay what was read, and keep it for as long as its direction is held."""
        delay_s, _ = of(self._rules)
        if delay_s:
            await asyncio.sleep(delay_s)
        while of(self._rules)[1]:  # noqa: ASYNC110  rules change in another thread
            await asyncio.sleep(_POLL_S)


async def _frame(reader: asyncio.StreamReader) -> bytes:
    """A whole request with its length; what there is of it where the client went away; nothing at the end."""
    try:
        length = await reader.readexactly(4)
    except asyncio.IncompleteReadError as error:
        return error.partial
    try:
        return length + await reader.readexactly(int.from_bytes(length, "big"))
    except asyncio.IncompleteReadError as error:
        return length + error.partial


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN: what is still unsent is thrown away, as the other side shall notice."""
    found = writer.get_extra_info("socket")
    if found is not None and found.fileno() >= 0:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
