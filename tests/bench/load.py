"""HTTP load over keep-alive connections, light enough to share two cores with what it measures.

Closed loop: each connection sends its next request when the last is answered; says how much the server can do.
Open loop: requests leave on a fixed schedule and latency counts from the schedule, so a stall is charged to every
request it delayed (no coordinated omission, after Tene 2015).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import cast

TICK_S = 0.001
"""Shortest wait: event loops round shorter ones to nothing, and spinning would take the core of what is measured. What
falls due meanwhile leaves together, its wait charged to its latency."""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a run: latencies in milliseconds, the span in seconds, and answers that were not 2xx."""

    latencies_ms: list[float]
    seconds: float
    failures: int

    @property
    def per_second(self) -> float:
        """Answered requests a second."""
        return len(self.latencies_ms) / self.seconds


def http_request(
    method: str, path: str, body: bytes = b"", content_type: str = "application/json", *, headers: Sequence[str] = ()
) -> bytes:
    """A whole HTTP/1.1 request as bytes, ready to be written to a connection. ``headers``: further lines."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "host: 127.0.0.1",
        f"content-type: {content_type}",
        f"content-length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection(asyncio.Protocol):
    """One keep-alive connection that carries one request at a time; answers must have Content-Length.

    No task, future or queue per request: with those the generator took more CPU than the server it measured.
    """

    def __init__(self, answered: Callable[[Connection, int], None], lost: Callable[[Exception], None]) -> None:
        self._answered = answered
        self._lost = lost
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.number = 0
        """Which request is under way; of no meaning between requests."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        head = buffer.find(b"\r\n\r\n")
        if head >= 0:
            headers = buffer[:head].lower()
            at = headers.find(b"content-length:")
            length = int(headers[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(buffer) >= head + 4 + length:
                self._buffer = buffer[head + 4 + length :]
                self._answered(self, int(buffer[9:12]))
                return
        self._buffer = buffer

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(exc or ConnectionResetError("closed by the server"))

    def send(self, number: int, request: bytes) -> None:
        """Write one request; ``answered`` is told of the answer."""
        assert self._transport is not None
        self.number = number
        self._transport.write(request)

    def close(self) -> None:
        """Close the connection; nothing more is told."""
        self._answered = lambda _connection, _status: None
        self._lost = lambda _error: None
        if self._transport is not None:
            self._transport.close()


class _Run:
    """What both loops share: connections, latencies by request, failures, and when it is over."""

    def __init__(self) -> None:
        self.links: list[Connection] = []
        self.latencies_ms: list[float] = []
        self.failures = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self, port: int, connections: int, answered: Callable[[Connection, int], None]) -> None:
        """Open connections to a server on loopback."""
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            made = await loop.create_connection(lambda: Connection(answered, self._lost), "127.0.0.1", port)
            self.links.append(made[1])

    def _lost(self, error: Exception) -> None:
        if not self.over.done():
            self.over.set_exception(error)

    def finish(self) -> None:
        """Nothing is under way any more."""
        if not self.over.done():
            self.over.set_result(None)

    def close(self) -> None:
        """Close every connection."""
        for link in self.links:
            link.close()


async def closed_loop(port: int, requests: Iterator[bytes], *, connections: int, seconds: float) -> Load:
    """Keep ``connections`` busy for ``seconds``, or until there are no more requests."""
    run = _Run()
    sent_at = [0.0] * connections
    busy = connections
    clock = time.perf_counter
    end = 0.0

    def answered(link: Connection, status: int) -> None:
        nonlocal busy
        now = clock()
        run.latencies_ms.append((now - sent_at[link.number]) * 1e3)
        run.failures += not 200 <= status < 300
        request = next(requests, None) if now < end else None
        if request is not None:
            sent_at[link.number] = now
            link.send(link.number, request)
            return
        busy -= 1
        if not busy:
            run.finish()

    await run.connect(port, connections, answered)
    started = clock()
    end = started + seconds
    for number, link in enumerate(run.links):
        sent_at[number] = clock()
        link.send(number, next(requests))
    try:
        await run.over
    finally:
        run.close()
    return Load(run.latencies_ms, clock() - started, run.failures)


async def open_loop(
    port: int, requests: Iterator[bytes], *, per_second: float, seconds: float, connections: int = 64
) -> Load:
    """Send on a fixed schedule; latency counts from the moment a request was due. The requests are made beforehand."""
    total = int(per_second * seconds)
    ready = list(islice(requests, total))
    run = _Run()
    clock = time.perf_counter
    idle: deque[Connection] = deque()  # first in, first out: a server may close a connection nobody uses
    late: deque[int] = deque()
    started = 0.0
    due_s = [number / per_second for number in range(total)]

    def answered(link: Connection, status: int) -> None:
        run.latencies_ms.append((clock() - started - due_s[link.number]) * 1e3)
        run.failures += not 200 <= status < 300
        if late:
            number = late.popleft()
            link.send(number, ready[number])
            return
        idle.append(link)
        if len(run.latencies_ms) == total:
            run.finish()

    await run.connect(port, connections, answered)
    idle.extend(run.links)
    started = clock()
    try:
        for number in range(total):
            while (ahead := started + due_s[number] - clock()) > 0:
                await asyncio.sleep(max(ahead, TICK_S))
            if idle:
                link = idle.popleft()
                link.send(number, ready[number])
            else:
                late.append(number)
                if run.over.done():
                    break
        await run.over
    finally:
        run.close()
    return Load(run.latencies_ms, clock() - started, run.failures)
