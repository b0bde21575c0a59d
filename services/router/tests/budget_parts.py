"""Budgets, a guard that answers, and a router that asks it, for the tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from router_parts import Bench, KeptProducer, OneProducerBus, policy

from flywheel.budget import Budget, to_pico, to_usd
from flywheel.budget.bounds import Bounds
from flywheel.budget.leases import LeaseRequest
from flywheel.events import Codec, event_id, load_registry
from flywheel.observe import load_settings
from flywheel.pricing import bundled_prices
from flywheel.stream import Outgoing, Unavailable
from flywheel.testkit.guard_model import Guard
from flywheel_router.settings import RouterSettings
from flywheel_router.wiring import build

WINDOW_END_US = 1_800_000_000_000_000
CODEC = Codec(load_registry())
MODELS = {"strong": "openai/gpt-4o", "cheap": "openai/gpt-4o-mini", "large": "openai/gpt-4-turbo"}


def priced_policy(version: int = 1, **changes: Any) -> dict[str, Any]:
    """The usual three arms, with models that have prices."""
    arms = [{**arm, "model": MODELS[arm["name"]]} for arm in policy()["arms"]]
    return policy(version, **{"arms": arms, **changes})


def budget(name: str, usd: str, **terms: Any) -> dict[str, Any]:
    """A hard daily budget."""
    made = Budget(
        project="default", name=name, revision=terms.pop("revision", 1), effective_from_us=0,
        amount_pico=to_pico(Decimal(usd)), per="day", mode=terms.pop("mode", "hard"), **terms,
    )  # fmt: skip
    return made.event(1)


class GuardedProducer(KeptProducer):
    """A producer whose ledger is read by a guard (the model of it), which answers ``leases`` of a router."""

    def __init__(self, amounts_usd: dict[str, str]) -> None:
        super().__init__()
        self.guards = {instance: Guard(to_pico(Decimal(usd))) for instance, usd in amounts_usd.items()}
        self.requests: list[dict[str, Any]] = []
        self.silent = False
        self.answered = asyncio.Event()
        self.on_lease: Any = None

    async def send_many(self, records: Sequence[Outgoing]) -> None:
        if self.away:
            raise Unavailable("away", 0.01)
        for record in records:
            if record.topic == "budget-ledger":
                self.requests.append(CODEC.decode(record.value or b"").value)
                assert record.key == f"{self.requests[-1]['project']}/{self.requests[-1]['budget']}".encode()
                if not self.silent:
                    self.answer(self.requests[-1])
            else:
                self.sent.append(record)
        await asyncio.sleep(0)

    def answer(self, request: dict[str, Any]) -> None:
        """Fold a request and hand its answer to the router."""
        asked = LeaseRequest(
            request["account"], request["instance"], request["window"], request["seq"],
            to_pico(request["reserved_usd"]), to_pico(request["limit_wanted_usd"]), to_pico(request["need_usd"]),
            request["closing"],
        )  # fmt: skip
        lease = self.guards[request["instance"]].answer(asked)
        if lease is None:
            return
        event = {
            "event_id": event_id("lease", lease.account, lease.seq), "project": request["project"],
            "budget": request["budget"], "occurred_at": WINDOW_END_US - 3_600_000_000, "instance": request["instance"],
            "account": lease.account, "holder": request["holder"], "window": lease.window, "window_start": None,
            "window_end": WINDOW_END_US, "seq": lease.seq, "granted_usd": to_usd(lease.granted_pico),
            "available_usd": to_usd(0), "ttl_s": lease.ttl_s, "scarce": lease.scarce, "exhausted": lease.exhausted,
            "closed": lease.closed, "reason": "granted",
        }  # fmt: skip
        decoded = CODEC.decode(CODEC.encode("lease", event)).value
        asyncio.get_running_loop().call_soon(self.on_lease, lease.account, decoded)


@contextlib.asynccontextmanager
async def spending(
    folder: Path, amounts_usd: dict[str, str], *, read: bool = True, **settings: Any
) -> AsyncIterator[tuple[Bench, GuardedProducer]]:
    """A router over ASGI with a guard behind it; budgets are put on it by hand."""
    producer = GuardedProducer(amounts_usd)
    chosen = load_settings(RouterSettings, state_dir=folder, **{"lease_wait_ms": 5000, **settings})
    parts = build(chosen, OneProducerBus(producer))  # type: ignore[arg-type]
    producer.on_lease = parts.leases.on_lease
    parts.leases.spending.priced_by(Bounds(bundled_prices()))
    parts.leases._loading = asyncio.create_task(asyncio.sleep(0))  # the prices are there already
    if read:
        parts.leases.spending.opened()
    tasks = [
        asyncio.create_task(parts.log.send(producer, parts.health)),
        asyncio.create_task(parts.leases.run(producer)),
    ]
    transport = httpx.ASGITransport(parts.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        yield Bench(parts, producer, http), producer
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    parts.log.close()
    parts.leases.close()


def declare(router: Bench, *events: dict[str, Any]) -> None:
    """As if they had been read from ``budgets``."""
    for event in events:
        router.parts.leases.on_budget(f"{event['project']}/{event['budget']}", event)
