"""Calling a provider over HTTP."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Protocol

import httpx

from flywheel_router.gateway.connections import Answer, Connections, Origin, head_of, origin_of, request_of
from flywheel_router.gateway.providers import Provider


class NotReached(Exception):
    """No connection was made, so nothing was asked."""


class Broken(Exception):
    """The connection was lost after the request was sent, or what came is no HTTP."""


class Reply(Protocol):
    """A provider's answer of which the head has come."""

    @property
    def status(self) -> int: ...

    def header(self, name: str) -> str | None:
        """A header's value."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises ``Broken``."""
        ...

    async def close(self) -> None:
        """Let go of it; a body that was not read to its end closes the connection."""
        ...


class Upstream(Protocol):
    """What the gateway needs of a client."""

    async def ask(self, provider: Provider, endpoint: str, body: bytes) -> Reply:
        """Send a call and wait for the head of its answer. Raises ``NotReached`` and ``Broken``."""
        ...

    async def close(self) -> None: ...


class PooledReply:
    """A reply of `PooledUpstream`."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    @property
    def status(self) -> int:
        return self._answer.status

    def header(self, name: str) -> str | None:
        found = self._answer.header(name.encode("ascii"))
        return None if found is None else found.decode("latin-1")

    async def chunks(self) -> AsyncIterator[bytes]:
        if (self._answer.header(b"content-encoding") or b"identity") != b"identity":
            raise Broken("encoded")  # nothing but identity was accepted
        try:
            async for chunk in self._answer.body():
                yield chunk
        except httpx.HTTPError as error:
            raise Broken(type(error).__name__) from error

    async def close(self) -> None:
        self._answer.close()


class PooledUpstream:
    """Calls providers over connections that are kept."""

    def __init__(self) -> None:
        self._connections = Connections()
        self._known: dict[tuple[str, str], tuple[Origin, bytes]] = {}

    async def ask(self, provider: Provider, endpoint: str, body: bytes) -> PooledReply:
        """See ``Upstream``. Only connecting has a timeout of its own; the rest is bounded by whoever waits."""
        key = (provider.name, endpoint)
        known = self._known.get(key)
        if known is None:
            url = httpx.URL(provider.url(endpoint))
            known = self._known[key] = (origin_of(url), head_of(url, provider.headers(endpoint)))
        origin, head = known
        try:
            return PooledReply(
                await self._connections.send(
                    origin, request_of(head, body), connect_timeout_s=provider.connect_timeout_s
                )
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NotReached(type(error).__name__) from error
        except httpx.HTTPError as error:
            raise Broken(type(error).__name__) from error

    async def close(self) -> None:
        """Close every connection."""
        self._connections.close()


async def whole(chunks: AsyncIterator[bytes], most_bytes: int) -> bytes:
    """A body to its end. Raises ``Broken`` where it is longer than that."""
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > most_bytes:
            raise Broken("answer_too_long")
        parts.append(chunk)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def retry_after_s(reply: Reply) -> float:
    """Seconds that the provider asks to be left alone; what is no number says nothing."""
    try:
        milliseconds = reply.header("retry-after-ms")
        found = float(milliseconds) / 1000 if milliseconds else float(reply.header("retry-after") or 0)
    except ValueError:
        return 0.0
    return 0.0 if math.isnan(found) else min(max(found, 0.0), 3600.0)
