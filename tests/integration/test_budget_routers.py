"""Routers that hold a hard budget, as processes, with a real guard and a real Kafka: killed with -9 while they decide,
they spend no more than there is, and what they held comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from flywheel.budget import Budget, to_pico
from flywheel.events import Codec, event_id, load_registry, topics
from flywheel.local.topic_admin import create_topics
from flywheel.stream import KafkaBus, Output, Publisher

pytest_plugins = ["flywheel.local.fixtures"]
pytestmark = pytest.mark.broker

AMOUNT = Decimal("0.20")
TEAM = "default/team"
MODELS = {"strong": "openai/gpt-4o", "cheap": "openai/gpt-4o-mini"}


def policy() -> dict[str, Any]:
    """Two arms that have prices."""
    arms = [
        {
            "name": name, "model": model, "prompt_name": None, "prompt_version": None, "params": {}, "enabled": True,
            "eligible_when": [], "weight": 20.0, "mean": 0.6, "variance": 0.01, "alpha": 12.0, "beta": 8.0,
            "score": 0.0, "propensity": 0.5,
        }
        for name, model in MODELS.items()
    ]  # fmt: skip
    return {
        "event_id": event_id("policy", "default", "support", 1), "project": "default", "feature": "support",
        "occurred_at": time.time_ns() // 1000, "policy_version": 1, "kind": "thompson_beta", "charter_digest": "d",
        "charter_revision": 1, "default_arm": "strong", "explore_floor": 0.02, "epsilon": 0.0, "stale_after_s": 0.0,
        "outcomes": 60, "arms": arms, "context": [],
    }  # fmt: skip


class Service:
    """``python -m flywheel_<name>`` on free ports, which can be killed and started again."""

    def __init__(self, name: str, bootstrap: str, folder: Path) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        self.environ = {
            **os.environ, "FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap, "FLYWHEEL_STATE_DIR": str(folder / "state"),
            "FLYWHEEL_PORT": "0", "FLYWHEEL_GRPC_PORT": "0", "FLYWHEEL_LEASE_WAIT_MS": "3000",
        }  # fmt: skip
        if name == "budget":
            self.environ["FLYWHEEL_OPS_PORT"] = "0"
        self.url = ""
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it; return when it is ready."""
        before = self.log.stat().st_size if self.log.exists() else 0
        self.process = self._spawn()
        wanted = "http" if self.name == "router" else "ops"
        async with asyncio.timeout(120), httpx.AsyncClient() as http:
            while not (port := self._port(before, wanted)):
                assert self.process.poll() is None, self.log.read_text()
                await asyncio.sleep(0.05)
            self.url = f"http://127.0.0.1:{port}"
            while (await http.get(f"{self.url}/ready")).status_code != 200:
                await asyncio.sleep(0.05)

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"flywheel_{self.name}"]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, env=self.environ, stdout=subprocess.DEVNULL, stderr=log)

    def _port(self, before: int, wanted: str) -> int | None:
        for line in self.log.read_bytes()[before:].splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("event") == "listening" and entry.get("name") == wanted:
                    return int(entry["port"])
        return None

    def kill(self) -> None:
        """End it with -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """End it as an operator would."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=120)


@contextlib.asynccontextmanager
async def running(*services: Service) -> AsyncIterator[None]:
    """These services, ended in any case."""
    try:
        for service in services:
            await service.start()
        yield
    finally:
        for service in services:
            if service.process is not None and service.process.poll() is None:
                service.kill()


async def newest(bootstrap: str, topic: str) -> dict[str, dict[str, Any]]:
    """The newest value of each key of a topic, as of now."""
    codec, found = Codec(load_registry()), {}
    consumer = KafkaBus(bootstrap).consumer(topics=[topic], group=None)
    await consumer.start()
    quiet = 0
    while quiet < 3:
        polled = await consumer.poll(max_records=5000, timeout_ms=200)
        quiet = 0 if polled else quiet + 1
        for records in polled.values():
            for record in records:
                key = (record.key or b"").decode()
                if record.value is None:
                    found.pop(key, None)
                else:
                    place = key if topic != "llm-decisions" else f"{record.partition}/{record.offset}"
                    found[place] = codec.decode(record.value).value
    await consumer.stop()
    return found


class Callers:
    """Callers that ask one of the routers, make the call they were allowed, and report what it really cost."""

    def __init__(self, publisher: Publisher, routers: Sequence[Service]) -> None:
        self._publisher, self._routers = publisher, routers
        self._chance = random.Random(7)
        self.statuses: dict[int, int] = {}
        self.spent = Decimal(0)
        self.exhausted = 0

    async def go(self, caller: int) -> None:
        """Call again and again until the budget is spent."""
        number = turn = 0
        async with httpx.AsyncClient(timeout=60) as http:
            while self.exhausted < 40:
                turn += 1  # a request that got no answer is asked again, of the other router
                router = self._routers[(caller + turn) % len(self._routers)]
                body = {"feature": "support", "request_id": f"c{caller}-{number}", "team": "cx", "input_tokens": 500}
                try:
                    reply = await http.post(f"{router.url}/v1/decide", json={**body, "max_tokens": 200})
                except httpx.HTTPError:
                    await asyncio.sleep(0.05)
                    continue
                number += 1
                self.statuses[reply.status_code] = self.statuses.get(reply.status_code, 0) + 1
                if reply.status_code == 200:
                    await self._call(body["request_id"], reply.json())
                elif reply.status_code == 402:
                    self.exhausted += 1
                    await asyncio.sleep(0.1)
                else:
                    assert reply.status_code in {429, 503}, reply.text
                    await asyncio.sleep(0.05)

    async def _call(self, request_id: str, decided: Mapping[str, Any]) -> None:
        tokens = self._chance.randint(0, decided["params"]["max_tokens"])
        rates = {"strong": (Decimal("2.5"), Decimal(10)), "cheap": (Decimal("0.15"), Decimal("0.6"))}[decided["arm"]]
        cost = (500 * rates[0] + tokens * rates[1]) / 10**6
        self.spent += cost
        provider, model = decided["model"].split("/")
        call = {
            "event_id": event_id("call", request_id), "project": "default", "request_id": request_id,
            "occurred_at": time.time_ns() // 1000, "feature": "support", "team": "cx", "provider": provider,
            "request_model": model, "input_tokens": 500, "output_tokens": tokens, "cost_usd": cost, "status": "OK",
            "operation": "CHAT", "latency_ms": 1.0, "decision_id": decided["decision_id"],
        }  # fmt: skip
        copies = 2 if self._chance.random() < 0.1 else 1
        await self._publisher.publish([Output("llm-calls", request_id, "llm_call", call)] * copies)


async def test_killed_routers_never_overspend_and_what_they_held_comes_back(private_kafka: Any, tmp_path: Path) -> None:
    kafka = private_kafka()
    await create_topics(kafka.bootstrap, topics().values())
    publisher = Publisher(KafkaBus(kafka.bootstrap), Codec(load_registry()), source="test")
    await publisher.start()
    now_us = time.time_ns() // 1000
    declared = Budget(
        project="default", name="team", revision=1, effective_from_us=now_us - 3_600_000_000, per="month",
        amount_pico=to_pico(AMOUNT), scope=(("team", "cx"),), mode="hard",
    )  # fmt: skip
    await publisher.publish(
        [
            Output("policies", "default/support", "policy", policy()),
            Output("budgets", TEAM, "budget", declared.event(now_us)),
        ]
    )
    guard, routers = Service("budget", kafka.bootstrap, tmp_path), []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        routers.append(Service("router", kafka.bootstrap, tmp_path / name))
    async with running(guard, *routers):
        callers = Callers(publisher, routers)
        tasks = [asyncio.create_task(callers.go(number)) for number in range(12)]
        for turn in range(4):
            await asyncio.sleep(1.0)
            routers[turn % 2].kill()
            await routers[turn % 2].start()
        async with asyncio.timeout(240):
            await asyncio.gather(*tasks)
        assert callers.statuses[200] > 100
        assert callers.spent <= AMOUNT
        assert [router.stop() for router in routers] == [0, 0]
        decided = await newest(kafka.bootstrap, "llm-decisions")
        made = [each for decision in decided.values() for each in decision["reservations"]]
        identities = {(each["account"], each["cumulative_usd"], each["bound_usd"]) for each in made}
        assert len({(account, cumulative) for account, cumulative, _ in identities}) == len(identities)
        async with asyncio.timeout(120):
            while True:
                state = (await newest(kafka.bootstrap, "budget-states"))[TEAM]
                if state["spent_usd"] == callers.spent and state["holders"] == 0:
                    break
        assert state["spent_usd"] + state["exposure_usd"] <= AMOUNT
        # What is neither spent nor free belongs to decisions whose caller never heard of them.
        assert callers.spent >= Decimal("0.9") * AMOUNT
    await publisher.stop()
