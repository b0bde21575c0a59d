"""The gateway as a process, with a real Kafka: a call that was answered is on the topic, whatever is killed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_parts import ASKED, priced, providers_file
from router_process import publish, running

from flywheel.events import Codec, load_registry, topics
from flywheel.local.topic_admin import create_topics
from flywheel.stream import KafkaBus
from flywheel.testkit.provider_server import ProviderServer

pytest_plugins = ["flywheel.local.fixtures"]
pytestmark = pytest.mark.broker


async def ask_many(url: str, name: str, answered: dict[str, str]) -> None:
    """Ask until the router is gone; keep the decision of what was answered."""
    async with httpx.AsyncClient(timeout=60) as http:
        for number in range(1000):
            try:
                headers = {"x-request-id": f"{name}-{number}"}
                reply = await http.post(
                    f"{url}/v1/chat/completions", json={**ASKED, "stream": number % 2 == 1}, headers=headers
                )
            except httpx.HTTPError:
                return
            if reply.status_code == 200 and (number % 2 == 0 or b"[DONE]" in reply.content):
                answered[reply.headers["x-flywheel-request-id"]] = reply.headers["x-flywheel-decision-id"]


async def read(bootstrap: str, topic: str, wanted: set[str]) -> list[dict[str, Any]]:
    """Read a topic until every request that is wanted was seen."""
    codec, found = Codec(load_registry()), []
    consumer = KafkaBus(bootstrap).consumer(topics=[topic], group=None)
    await consumer.start()
    async with asyncio.timeout(120):
        while not wanted <= {event["request_id"] for event in found}:
            for records in (await consumer.poll(max_records=5000, timeout_ms=200)).values():
                found += [codec.decode(record.value or b"").value for record in records]
    await consumer.stop()
    return found


async def test_kill_9_under_load_loses_no_call_that_was_answered(
    private_kafka: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_OPENAI_KEY", "sk-secret-of-the-test")
    kafka = private_kafka()
    await create_topics(kafka.bootstrap, topics().values())
    await publish(kafka.bootstrap, priced())
    answered: dict[str, str] = {}
    async with ProviderServer(keep=False) as provider:
        declared = str(providers_file(tmp_path, provider.url))
        async with running(kafka.bootstrap, tmp_path / "state", FLYWHEEL_PROVIDERS_FILE=declared) as router:
            for life in range(2):
                callers = [asyncio.create_task(ask_many(router.url, f"{life}-{n}", answered)) for n in range(4)]
                before = len(answered)
                async with asyncio.timeout(120):
                    while len(answered) < before + 40:
                        await asyncio.sleep(0.01)
                router.kill()
                await asyncio.gather(*callers)
                await router.start()
            calls = await read(kafka.bootstrap, "llm-calls", set(answered))
            decisions = await read(kafka.bootstrap, "llm-decisions", set(answered))
        assert "sk-secret" not in router.log.read_text()
    told = {call["request_id"]: call for call in calls}
    assert len(answered) >= 80 and {event["event_id"] for event in decisions} >= set(answered.values())
    for request_id, decision_id in answered.items():
        call = told[request_id]
        assert (call["decision_id"], call["status"], call["output_tokens"]) == (decision_id, "OK", 7)
        assert call["cost_usd"] > 0
