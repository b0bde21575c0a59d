"""The client's side of the HTTP interfaces of ingest and router."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import httpx
import orjson

from flywheel.client.outbox import Away

_log = logging.getLogger("flywheel.client")
_AWAY = frozenset({401, 403, 404, 408, 425, 429})
"""Statuses below 500 that say something about the service or the way to it, not about the events."""


class BatchPost:
    """Posts events to ``{base_url}/v1/{kind}`` as ``{"items": […]}``."""

    def __init__(self, base_url: str, timeout_s: float, transport: httpx.BaseTransport | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._transport = transport
        self._client: httpx.Client | None = None

    def __call__(self, kind: str, bodies: Sequence[bytes]) -> int:
        """Post them; return how many were refused for what they are.

        Raises:
            Away: the service did not take them and may later.
        """
        content = b'{"items":[' + b",".join(bodies) + b"]}"
        try:
            reply = self._open().post(
                f"{self._base_url}/v1/{kind}", content=content, headers={"content-type": "application/json"}
            )
        except httpx.HTTPError as error:
            raise Away(f"{type(error).__name__}: {error}") from error
        if reply.status_code == 413 and len(bodies) > 1:
            middle = len(bodies) // 2
            return self(kind, bodies[:middle]) + self(kind, bodies[middle:])
        if reply.status_code >= 500 or reply.status_code in _AWAY:
            raise Away(f"{self._base_url} answered {reply.status_code}", _retry_after_s(reply))
        rejected = _rejected(reply, len(bodies))
        if rejected:
            _log.warning("%d of %d %s were rejected: %.300s", rejected, len(bodies), kind, _first_rejection(reply))
        return rejected

    def _open(self) -> httpx.Client:
        if self._client is None:
            self._client = httpx.Client(timeout=self._timeout_s, transport=self._transport, trust_env=False)
        return self._client

    def forget(self) -> None:
        """Drop the connections without closing them: they are a parent process's."""
        self._client = None

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None


def _retry_after_s(reply: httpx.Response) -> float:
    try:
        return max(0.0, float(reply.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0


def _rejected(reply: httpx.Response, posted: int) -> int:
    if reply.status_code >= 400:
        items = _items(reply)
        return sum(item.get("status") == "rejected" for item in items) if items else posted
    return sum(item.get("status") == "rejected" for item in _items(reply)) if reply.status_code == 207 else 0


def _items(reply: httpx.Response) -> list[dict[str, Any]]:
    try:
        body = orjson.loads(reply.content)
    except orjson.JSONDecodeError:
        return []
    items = body.get("items") if isinstance(body, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _first_rejection(reply: httpx.Response) -> str:
    for item in _items(reply):
        if item.get("status") == "rejected":
            return str(item.get("errors"))
    return reply.text
