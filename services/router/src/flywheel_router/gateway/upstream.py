"""Calling a provider over HTTP. The only module of the gateway that opens a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Protocol

import httpx

from flywheel_router.gateway.providers import Provider

_MOST_CONNECTIONS: Final = 1000
_KEEPALIVE_S: Final = 30.0


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
        try:
            async for chunk in self._response.aiter_bytes():
                yield chunk
        except httpx.TimeoutException as error:
            raise TimedOut(type(error).__name__) from error
        except httpx.HTTPError as error:
            raise Broken(type(error).__name__) from error

    async def close(self) -> None:
        await self._response.aclose()


class HttpxUpstream:
    """Keeps connections to every provider. The proxy variables of the environment are not looked at: where calls go is
    what the providers' file says."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        limits = httpx.Limits(
            max_connections=_MOST_CONNECTIONS,
            max_keepalive_connections=_MOST_CONNECTIONS,
            keepalive_expiry=_KEEPALIVE_S,
        )
        self._client = httpx.AsyncClient(transport=transport, limits=limits, trust_env=False, follow_redirects=False)
        self._timeouts: dict[str, httpx.Timeout] = {}

    async def ask(self, provider: Provider, endpoint: str, body: bytes) -> HttpxReply:
        """See ``Upstream``. Only connecting has a timeout of its own; the rest is bounded by whoever waits."""
        timeout = self._timeouts.get(provider.name)
        if timeout is None:
            timeout = self._timeouts[provider.name] = httpx.Timeout(None, connect=provider.connect_timeout_s)
        request = self._client.build_request(
            "POST", provider.url(endpoint), content=body, headers=provider.headers(endpoint), timeout=timeout
        )
        try:
            return HttpxReply(await self._client.send(request, stream=True))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
            raise NotReached(type(error).__name__) from error
        except httpx.TimeoutException as error:
            raise TimedOut(type(error).__name__) from error
        except httpx.HTTPError as error:
            raise Broken(type(error).__name__) from error

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()
