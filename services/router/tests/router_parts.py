"""Policies, requests and a router on an in-memory bus, for the tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from flywheel.events import Codec, event_id, load_registry
from flywheel.observe import load_settings
from flywheel.policy.feature_spec import FeatureSpec, encoding_of
from flywheel.stream import Outgoing, Unavailable
from flywheel_router.decision_log import DecisionLog
from flywheel_router.settings import RouterSettings
from flywheel_router.wiring import Parts, build

KEY = "default/support"


def policy(version: int = 1, *, feature: str = "support", project: str = "default", **changes: Any) -> dict[str, Any]:
    """A policy of three arms, one of them only for the plan "pro"."""
    arms = [
        {
            "name": name, "model": f"openai/{name}", "prompt_name": "support", "prompt_version": "7",
            "params": {"temperature": "0.2", "stop": '["\\n"]'}, "eligible_when": rules, "enabled": True,
            "weight": 20.0, "mean": 0.6, "variance": 0.01, "alpha": alpha, "beta": 8.0, "score": 0.0, "propensity": 0.0,
        }
        for name, alpha, rules in (
            ("strong", 12.0, []),
            ("cheap", 11.0, []),
            ("large", 14.0, [{"field": "plan", "operator": "eq", "value": '"pro"'}]),
        )
    ]  # fmt: skip
    event = {
        "event_id": event_id("policy", project, feature, version), "project": project, "feature": feature,
        "occurred_at": 1_790_000_000_000_000, "policy_version": version, "kind": "thompson_beta", "charter_digest": "d",
        "charter_revision": 1, "default_arm": "strong", "explore_floor": 0.02, "epsilon": 0.0, "stale_after_s": 0.0,
        "outcomes": 60, "arms": arms, "context": ["plan", "n_chars"],
    }  # fmt: skip
    return event | changes


def by_context(version: int = 1, **changes: Any) -> dict[str, Any]:
    """The same arms with rewards linear in the number of characters: the cheap arm is for short requests."""
    records = [FeatureSpec(name="n_chars", kind="number", low=0.0, high=4000.0).record()]
    arms = [
        {"name": name, "coefficients": [0.5, slope, 0.0], "root": [0.05, 0.0, 0.05, 0.0, 0.0, 0.1]}
        for name, slope in (("strong", 0.3), ("cheap", -0.4), ("large", 0.2))
    ]
    more = {
        "kind": "linear_thompson", "features": records, "encoding": encoding_of(records), "on_missing": "encode",
        "scale": 1.0, "gamma": 0.0, "linear": arms,
    }  # fmt: skip
    return policy(version, **(more | changes))


def request(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A decide request as JSON would give it."""
    body = {"feature": "support", "request_id": f"r{number}", "context": {"plan": "pro", "n_chars": 120}}
    return body | changes


class KeptProducer:
    """A producer that keeps what it is sent; ``away`` makes it unavailable."""

    def __init__(self) -> None:
        self.away = False
        self.sent: list[Outgoing] = []

    async def start(self) -> None:
        if self.away:
            raise Unavailable("away", 0.01)

    async def stop(self) -> None: ...

    async def send_many(self, records: Sequence[Outgoing]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("away", 0.01)
        self.sent += records


class OneProducerBus:
    """A bus of which only the producer is used."""

    def __init__(self, producer: KeptProducer) -> None:
        self._producer = producer

    def producer(self) -> KeptProducer:
        return self._producer


@dataclass
class Bench:
    """A router without its consumer: policies are put on its board by hand, its log is sent to ``producer``."""

    parts: Parts
    producer: KeptProducer
    http: httpx.AsyncClient

    def publish(self, event: Mapping[str, Any]) -> None:
        """As if it had been read from the topic."""
        self.parts.on_policy(f"{event['project']}/{event['feature']}", dict(event))

    @property
    def log(self) -> DecisionLog:
        return self.parts.log

    async def sent(self) -> list[dict[str, Any]]:
        """Everything on ``llm-decisions`` once the log is empty."""
        async with asyncio.timeout(120):
            await self.log.emptied()
        codec = Codec(load_registry())
        return [codec.decode(record.value or b"").value for record in self.producer.sent]


@contextlib.asynccontextmanager
async def bench(folder: Path, **settings: Any) -> AsyncIterator[Bench]:
    """A router over ASGI whose log is being sent."""
    producer = KeptProducer()
    chosen = load_settings(RouterSettings, state_dir=folder, **settings)
    parts = build(chosen, OneProducerBus(producer))  # type: ignore[arg-type]
    for part in ("policies", "controls", "budgets"):
        parts.health.set_ready(part, True)
    parts.leases.spending.opened()
    sending = asyncio.create_task(parts.log.send(producer, parts.health))
    transport = httpx.ASGITransport(parts.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        yield Bench(parts, producer, http)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    parts.log.close()
    parts.leases.close()
