"""Calling a provider over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

import httpx

from flywheel_router.gateway.connections import Connections
from flywheel_router.gateway.providers import Provider


class NotReached(Exception):
    """No connection was made, so nothing was asked."""


class Broken(Exception):
    """The connection was lost after the request was sent, or what came is no HTTP."""


class TimedOut(Exception):
    """The provider was silent for too long."""


class Reply(Protocol):
    """A provider's answer of which the head has come."""

    @property
    def status(self) -> int: ...

    def header(self, name: str) -> str | None:
        """A header's value."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises ``Broken`` and ``TimedOut``."""
        ...

    async def close(self) -> None:
        """Let go of it; a body that was not read to its end closes the connection."""
        ...


class Upstream(Protocol):
    """What the gateway needs of a client."""

    async def ask(self, provider: Provider, endpoint: str, body: bytes) -> Reply:
        """Send a call and wait for the head of its answer. Raises ``NotReached``, ``Broken`` and ``TimedOut``."""
        ...

    async def close(self) -> None: ...


class HttpxReply:
    """A reply of `HttpxUpstream`."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status_code

    def header(self, name: str) -> str | None:
        found: str | None = self._response.headers.get(name)
        return found

    async def chunks(self) -> AsyncIterator[bytes]:
        stream = self._response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        if self._response.headers.get("content-encoding", "identity") != "identity":
            raise Broken("encoded")  # nothing but identity was accepted
        try:
            async for chunk in stream:
                yield chunk
        except httpx.TimeoutException as error:
            raise TimedOut(type(error).__name__) from error
        except httpx.HTTPError as error:
            raise Broken(type(error).__name__) from error

    async def close(self) -> None:
        stream = self._response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        await stream.aclose()


class HttpxUpstream:
    """Calls providers through a transport of httpx, without httpx's client around it: nothing of what that does
    (redirects, cookies, proxies of the environment) is wanted here, and it costs as much as the call."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """``transport``: None for ``Connections``."""
        self._transport = transport or Connections()
        self._known: dict[tuple[str, str], tuple[httpx.URL, httpx.Headers, dict[str, Any]]] = {}

    async def ask(self, provider: Provider, endpoint: str, body: bytes) -> HttpxReply:
        """See ``Upstream``. Only connecting has a timeout of its own; the rest is bounded by whoever waits."""
        key = (provider.name, endpoint)
        known = self._known.get(key)
        if known is None:
            url = httpx.URL(provider.url(endpoint))
            headers = httpx.Headers([("host", url.netloc.decode("ascii")), *provider.headers(endpoint)])
            known = self._known[key] = (url, headers, {"timeout": {"connect": provider.connect_timeout_s}})
        url, headers, extensions = known
        request = httpx.Request("POST", url, headers=headers, content=body, extensions=extensions)
        try:
            return HttpxReply(await self._transport.handle_async_request(request))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
            raise NotReached(type(error).__name__) from error
        except httpx.TimeoutException as error:
            raise TimedOut(type(error).__name__) from error
        except httpx.HTTPError as error:
            raise Broken(type(error).__name__) from error

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.aclose()
