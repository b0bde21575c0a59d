"""HTTP load over keep-alive connections, light enough to share two cores with what it measures.

Closed loop: each connection sends its next request when the last is answered; says how much the server can do.
Open loop: requests leave on a fixed schedule and latency counts from the schedule, so a stall is charged to every
request it delayed (no coordinated omission, after Tene 2015).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast


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


def http_request(method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
    """A whole HTTP/1.1 request as bytes, ready to be written to a connection."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "host: 127.0.0.1",
        f"content-type: {content_type}",
        f"content-length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection(asyncio.Protocol):
    """One keep-alive connection; answers must carry Content-Length."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiting: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        headers = self._buffer[:head].lower()
        at = headers.find(b"content-length:")
        length = int(headers[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) >= head + 4 + length:
            status = int(self._buffer[9:12])
            self._buffer = self._buffer[head + 4 + length :]
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionResetError("closed by the server"))

    async def send(self, request: bytes) -> int:
        """Write one request, wait for its answer, return the status."""
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


async def connect(port: int, connections: int) -> list[Connection]:
    """Open connections to a server on loopback."""
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(connections)]


async def closed_loop(port: int, requests: Iterator[bytes], *, connections: int, seconds: float) -> Load:
    """Keep ``connections`` busy for ``seconds``."""
    links = await connect(port, connections)
    latencies: list[float] = []
    failures = 0
    started = time.perf_counter()
    end = started + seconds

    async def drive(link: Connection) -> None:
        nonlocal failures
        while (sent := time.perf_counter()) < end:
            status = await link.send(next(requests))
            latencies.append((time.perf_counter() - sent) * 1e3)
            failures += not 200 <= status < 300

    await asyncio.gather(*(drive(link) for link in links))
    took = time.perf_counter() - started
    for link in links:
        link.close()
    return Load(latencies, took, failures)


async def open_loop(
    port: int,
    requests: Iterator[bytes],
    *,
    per_second: float,
    seconds: float,
    connections: int = 64,
    now: Callable[[], float] = time.perf_counter,
) -> Load:
    """Send on a fixed schedule; latency counts from the moment a request was due."""
    links = await connect(port, connections)
    due: asyncio.Queue[float | None] = asyncio.Queue()
    latencies: list[float] = []
    failures = 0

    async def drive(link: Connection) -> None:
        nonlocal failures
        while (at := await due.get()) is not None:
            status = await link.send(next(requests))
            latencies.append((now() - at) * 1e3)
            failures += not 200 <= status < 300

    drivers = [asyncio.create_task(drive(link)) for link in links]
    started = now()
    total, sent = int(per_second * seconds), 0
    while sent < total:
        ahead = started + sent / per_second - now()
        if ahead > 0:
            await asyncio.sleep(ahead)
        while sent < total and started + sent / per_second <= now():
            due.put_nowait(started + sent / per_second)
            sent += 1
    for _ in drivers:
        due.put_nowait(None)
    await asyncio.gather(*drivers)
    took = now() - started
    for link in links:
        link.close()
    return Load(latencies, took, failures)
