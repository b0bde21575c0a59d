"""Ingest over a broker in memory, as its HTTP tests use it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from flywheel.events import Codec, LocalRegistry
from flywheel.observe import Health, Metrics
from flywheel.pricing import bundled_prices
from flywheel.stream import MemoryBus, Publisher
from flywheel_ingest.adapters import KafkaFactLog
from flywheel_ingest.core import Fact
from flywheel_ingest.http import Ingest
from flywheel_ingest.items import Kind
from flywheel_ingest.ports import FactLog
from flywheel_ingest.settings import IngestSettings
from flywheel_ingest.wiring import build_core, build_ingest, build_redaction

NOW_US = 1_795_234_200_000_000
JSON = {"content-type": "application/json"}


@dataclass
class Broker:
    """The in-memory broker, with what it holds read back."""

    bus: MemoryBus = field(default_factory=MemoryBus)
    codec: Codec = field(default_factory=lambda: Codec(LocalRegistry.load()))

    def values(self, topic: str = "llm-calls") -> list[dict[str, Any]]:
        return [self.codec.decode(record.value or b"").value for record in self.bus.records(topic)]


class Gated:
    """A log that acknowledges nothing until it is let go."""

    def __init__(self, log: FactLog) -> None:
        self._log = log
        self.gate = asyncio.Event()

    async def write(self, kind: Kind, facts: Sequence[Fact], traceparent: str | None) -> None:
        await self.gate.wait()
        await self._log.write(kind, facts, traceparent)


async def ingest(broker: Broker, tmp_path: Path, **settings: Any) -> Ingest:
    made = IngestSettings(state_dir=tmp_path, **settings)
    health = Health()
    publisher = Publisher(broker.bus, broker.codec, source="ingest")
    log = KafkaFactLog(broker.bus, publisher, health, timeout_s=1)
    assert await log.ask()
    core = build_core(made, broker.codec, bundled_prices())
    redaction = build_redaction(made, broker.codec)
    return build_ingest(made, core, log, redaction, metrics=Metrics(), health=health, clock_us=lambda: NOW_US)


def client(of: Ingest) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(of.app(), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://ingest")
