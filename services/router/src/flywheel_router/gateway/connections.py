"""What httpx does for a call and no more: HTTP/1.1 connections kept open, parsed by httptools in asyncio's protocols.

httpx's own transport costs more CPU for a call than deciding, charging and logging it together (``tests/bench`` has the
figures), and its requests, responses and headers as much again as a tenth of it. Here are its errors and its rules for
certificates. A request is bytes; redirects, cookies, proxies and compression are not its business.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Final, cast

import httptools
import httpx

_KEPT_S: Final = 4.0
"""An idle connection is not used again after this: servers commonly close theirs after five seconds."""
_MOST_CONNECTIONS: Final = 1000
_MOST_BUFFERED: Final = 1 << 20
_MOST_HEADER_BYTES: Final = 64 << 10
Origin = tuple[bool, str, int]


class _Connection(asyncio.Protocol):
    """One connection; it carries one request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._parts: list[bytes] = []
        self._buffered = 0
        self._paused = False
        self._header_bytes = 0
        self._framed = False
        self.error: httpx.TransportError | None = None
        self.closed = False
        self.idle_s = 0.0
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.headed = self.complete = self.reusable = self._framed = False
        self._header_bytes = 0

    # -- what asyncio tells -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(httpx.RemoteProtocolError(f"not HTTP: {type(error).__name__}"))
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.headed and not self._framed:
            self.complete = True  # an answer without a length ends with its connection
        elif not self.complete:
            self._fail(httpx.ReadError("the connection was lost"))
        self.reusable = False
        self._wake()

    # -- what the parser tells ----------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > _MOST_HEADER_BYTES:
            self._fail(httpx.RemoteProtocolError("the head of the answer is too long"))
        lower = name.lower()
        self._framed |= lower in (b"content-length", b"transfer-encoding")
        self.headers.append((lower, value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.headed = self.status >= 200
        self._framed |= self.status in (204, 304)

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)
        self._buffered += len(body)
        if self._buffered > _MOST_BUFFERED and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if not self.headed:  # 100 Continue and the like go before the answer
            self._reset()
            return
        self.complete = True
        self.reusable = bool(self._parser.should_keep_alive()) and not self.closed

    # -- what the transport asks --------------------------------------------------------------------------------------

    @property
    def spent(self) -> bool:
        """Whether another request may follow: the answer came whole, and nothing of it is left to be read."""
        return self.complete and self.reusable and not self.closed and not self._parts

    async def ask(self, request: bytes) -> None:
        """Send a request; return when the head of its answer is there."""
        assert self._transport is not None
        self._reset()
        self._transport.write(request)
        while not self.headed:
            await self._changed()
        if self.error is not None:
            raise self.error

    async def body(self) -> AsyncIterator[bytes]:
        """The body of the answer as it comes."""
        while True:
            if self._parts:
                data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
                self._parts.clear()
                self._buffered = 0
                if self._paused and self._transport is not None and not self.closed:
                    self._paused = False
                    self._transport.resume_reading()
                yield data
            elif self.complete:
                return
            else:
                await self._changed()

    def close(self) -> None:
        """Break the connection."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    async def _changed(self) -> None:
        if self.error is not None:
            raise self.error
        if self.closed:
            raise httpx.ReadError("the connection is closed")
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: httpx.TransportError) -> None:
        if self.error is None:
            self.error = error
        if self._transport is not None and not self.closed:
            self._transport.abort()


class Answer:
    """An answer of which the head has come; closing it gives the connection back, or breaks it where the body has not
    ended."""

    __slots__ = ("_closed", "_connection", "_origin", "_pool", "status")

    def __init__(self, connection: _Connection, origin: Origin, pool: Connections) -> None:
        self._connection, self._origin, self._pool = connection, origin, pool
        self.status = connection.status
        self._closed = False

    def header(self, name: bytes) -> bytes | None:
        """The first header of a lower-case name."""
        return next((value for found, value in self._connection.headers if found == name), None)

    def body(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises httpx's errors."""
        return self._connection.body()

    def close(self) -> None:
        """Let go of it; a second time does nothing, as the connection may carry another request by then."""
        if not self._closed:
            self._closed = True
            self._pool.give_back(self._origin, self._connection)


class Connections:
    """Connections to any number of servers."""

    def __init__(self, verify: ssl.SSLContext | None = None) -> None:
        """``verify``: how certificates are checked; None: as httpx does."""
        self._idle: dict[Origin, list[_Connection]] = {}
        self._used: set[_Connection] = set()
        self._verify = verify

    async def send(self, origin: Origin, request: bytes, *, connect_timeout_s: float | None = None) -> Answer:
        """Send a whole request and wait for the head of its answer. Raises httpx's errors; whoever waits sets the
        bound, but for connecting."""
        connection = self._reused(origin) or await self._connect(origin, connect_timeout_s)
        self._used.add(connection)
        try:
            await connection.ask(request)
        except BaseException:
            connection.close()
            self._used.discard(connection)
            raise
        return Answer(connection, origin, self)

    def give_back(self, origin: Origin, connection: _Connection) -> None:
        """Take a connection back."""
        self._used.discard(connection)
        if connection.spent:
            connection.idle_s = asyncio.get_running_loop().time()
            self._idle.setdefault(origin, []).append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Break every connection."""
        for connection in (*self._used, *(each for kept in self._idle.values() for each in kept)):
            connection.close()
        self._used.clear()
        self._idle.clear()

    def _reused(self, origin: Origin) -> _Connection | None:
        kept = self._idle.get(origin)
        fresh_s = asyncio.get_running_loop().time() - _KEPT_S
        while kept:
            connection = kept.pop()
            if not connection.closed and connection.idle_s >= fresh_s:
                return connection
            connection.close()
        return None

    async def _connect(self, origin: Origin, timeout_s: float | None) -> _Connection:
        secure, host, port = origin
        if len(self._used) >= _MOST_CONNECTIONS:
            raise httpx.PoolTimeout(f"{_MOST_CONNECTIONS} connections are in use")
        if secure and self._verify is None:
            self._verify = httpx.create_ssl_context(trust_env=False)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                made = await loop.create_connection(
                    _Connection,
                    host,
                    port,
                    ssl=self._verify if secure else None,
                    server_hostname=host if secure else None,
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout("connecting took too long") from error
        except OSError as error:  # ssl.SSLError is one
            raise httpx.ConnectError(type(error).__name__) from error
        return made[1]


def origin_of(url: httpx.URL) -> Origin:
    """Where a request to an address goes."""
    secure = url.scheme == "https"
    return secure, url.host, url.port or (443 if secure else 80)


def head_of(url: httpx.URL, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of a POST to an address, up to where the length of its body is said.

    Raises ``httpx.LocalProtocolError`` for a header that would end the head early.
    """
    lines = [b"POST %b HTTP/1.1" % url.raw_path, b"host: " + url.netloc]
    for name, value in headers:
        if "\n" in value or "\r" in value:
            raise httpx.LocalProtocolError("a header holds a line break")
        lines.append(f"{name}: {value}".encode("latin-1"))
    return b"\r\n".join([*lines, b"content-length: "])


def request_of(head: bytes, body: bytes) -> bytes:
    """A request whose head is known."""
    return b"%b%d\r\n\r\n%b" % (head, len(body), body)
