"""The two services a client talks to, as an httpx transport: they keep what they are sent and can be away."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import httpx
import orjson


class Peers(httpx.BaseTransport):
    """Ingest and router in memory. ``away`` makes both refuse connections; ``status`` makes them answer with it."""

    def __init__(self) -> None:
        self.away = False
        self.status: int | None = None
        self.reject_kinds: set[str] = set()
        self.largest_batch: int | None = None
        self.posts = 0
        self.items: dict[str, list[dict[str, Any]]] = {"calls": [], "feedback": [], "decisions": []}
        self.answer: dict[str, Any] | bytes = {
            "decision_id": "d1",
            "arm": "cheap",
            "model": "openai/gpt-4o-mini",
            "prompt_name": "support",
            "prompt_version": "7",
            "params": {"temperature": 0.2},
            "propensity": 0.75,
            "policy": "support",
            "policy_version": 3,
            "policy_kind": "thompson_beta",
            "fallback": False,
            "reason": "policy",
            "request_id": "r1",
            "propensities": {"cheap": 0.75, "strong": 0.25},
        }
        self.asked: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self.lock:
            return self._handle(request)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.posts += 1
        if self.away:
            raise httpx.ConnectError("refused")
        if self.status is not None:
            return httpx.Response(self.status, headers={"retry-after": "1"})
        body = orjson.loads(request.content)
        kind = request.url.path.removeprefix("/v1/")
        if kind == "decide":
            self.asked.append(body)
            return httpx.Response(
                200, content=self.answer if isinstance(self.answer, bytes) else orjson.dumps(self.answer)
            )
        items = body["items"]
        if self.largest_batch is not None and len(items) > self.largest_batch:
            return httpx.Response(413)
        rejected = kind in self.reject_kinds
        if not rejected:
            self.items[kind] += items
        status = "rejected" if rejected else "accepted"
        verdicts = [{"index": index, "status": status} for index, _ in enumerate(items)]
        return httpx.Response(422 if rejected else 200, json={"items": verdicts})

    def ids(self, kind: str) -> Counter[str]:
        """How often each id was taken."""
        return Counter(item["event_id"] for item in self.items[kind])


class AsyncPeers(httpx.AsyncBaseTransport):
    """The same for asyncio."""

    def __init__(self, peers: Peers) -> None:
        self.peers = peers

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.peers.handle_request(request)
