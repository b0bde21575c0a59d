"""A gateway on an in-memory bus in front of a real provider over HTTP, for the tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from router_parts import Bench, KeptProducer, bench, policy

from flywheel.events import Codec, load_registry
from flywheel.observe import serve
from flywheel.testkit.provider_server import ProviderServer
from flywheel_router.protocol import DecideProtocol

CODEC = Codec(load_registry())
MODELS = {"strong": "openai/gpt-4o", "cheap": "openai/gpt-4o-mini", "large": "anthropic/claude-3-5-haiku-latest"}
ASKED = {"model": "flywheel/support", "messages": [{"role": "user", "content": "What is the capital of France ?"}]}


def priced(version: int = 1, **changes: Any) -> dict[str, Any]:
    """The usual policy with models that have prices; two arms speak OpenAI's format, one Anthropic's."""
    arms = [
        {**arm, "model": MODELS[arm["name"]], "eligible_when": [], "params": {"temperature": "0.2"}}
        for arm in policy()["arms"]
    ]
    return policy(version, **{"arms": arms, **changes})


def providers_file(folder: Path, url: str, **terms: Any) -> Path:
    """A file that declares two providers at one address."""
    path = folder / "providers.yaml"
    declared = {
        "openai": {"base_url": url, "key": {"env": "TEST_OPENAI_KEY"}, **terms},
        "anthropic": {"base_url": url, "formats": ["anthropic"], "key": {"env": "TEST_OPENAI_KEY"}, **terms},
    }
    path.write_text(json.dumps({"providers": declared}))
    return path


@dataclass
class GatewayBench:
    """A gateway, the provider behind it and what it logged."""

    router: Bench
    provider: ProviderServer
    http: httpx.AsyncClient
    """Over ASGI."""

    async def ask(self, path: str = "chat/completions", /, headers: Mapping[str, str] = {}, **changes: Any) -> Any:
        """Post a request; ``messages`` and ``model`` have defaults."""
        return await self.http.post(f"/v1/{path}", json={**ASKED, **changes}, headers=dict(headers))

    async def told(self, topic: str = "llm-calls") -> list[dict[str, Any]]:
        """The events on a topic once the log is empty."""
        await self.router.sent()
        records = [each for each in self.router.producer.sent if each.topic == topic]
        return [CODEC.decode(each.value or b"").value for each in records]

    @property
    def producer(self) -> KeptProducer:
        return self.router.producer


@contextlib.asynccontextmanager
async def gateway(folder: Path, monkeypatch: Any, *, terms: Any = None, **settings: Any) -> AsyncIterator[GatewayBench]:
    """A gateway over ASGI with the usual policy."""
    monkeypatch.setenv("TEST_OPENAI_KEY", "sk-secret-of-the-test")
    async with ProviderServer() as provider:
        declared = providers_file(folder, provider.url, **(terms or {}))
        async with bench(folder, providers_file=declared, **settings) as router:
            router.publish(priced())
            parts = router.parts.gateway
            assert parts is not None
            await parts.opened()
            try:
                yield GatewayBench(router, provider, router.http)
            finally:
                await parts.close()


@contextlib.asynccontextmanager
async def over_tcp(made: GatewayBench) -> AsyncIterator[str]:
    """Serve a gateway on a port, as it runs in production; yields its base URL."""
    stop, started = asyncio.Event(), asyncio.Queue[int]()
    serving = asyncio.create_task(
        serve(
            made.router.parts.app, "127.0.0.1", 0, http=DecideProtocol, stop=stop, grace_s=1,
            on_started=started.put_nowait,
        )
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{await started.get()}/v1"
    finally:
        stop.set()
        await serving
