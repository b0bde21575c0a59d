"""The router as a process, with a real Kafka: what is answered is on the topic, once by id, whatever is killed."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from router_parts import KEY, policy, request
from router_process import Process, publish, running

from flywheel.events import Codec, load_registry, topics
from flywheel.local.topic_admin import create_topics
from flywheel.stream import KafkaBus

pytest_plugins = ["flywheel.local.fixtures"]
pytestmark = pytest.mark.broker


async def decisions(bootstrap: str, expected: int) -> list[dict[str, Any]]:
    """Read ``llm-decisions`` until ``expected`` ids are there and nothing more comes."""
    codec = Codec(load_registry())
    consumer = KafkaBus(bootstrap).consumer(topics=["llm-decisions"], group=None)
    await consumer.start()
    found: list[dict[str, Any]] = []
    quiet = 0
    async with asyncio.timeout(120):
        while quiet < 3 or len({event["event_id"] for event in found}) < expected:
            polled = await consumer.poll(max_records=5000, timeout_ms=200)
            quiet = 0 if polled else quiet + 1
            for records in polled.values():
                for record in records:
                    event = codec.decode(record.value or b"").value
                    assert (record.key or b"").decode() == event["request_id"]
                    found.append(event)
    await consumer.stop()
    return found


async def decide_many(url: str, first: int, count: int, answered: dict[str, dict[str, Any]]) -> None:
    """Ask until the router is gone; keep what was answered."""
    async with httpx.AsyncClient(timeout=60) as http:
        for number in range(first, first + count):
            try:
                reply = await http.post(f"{url}/v1/decide", json=request(number))
            except httpx.HTTPError:
                return
            assert reply.status_code == 200
            answered[f"r{number}"] = reply.json()


async def test_what_is_decided_is_on_the_topic_and_policies_are_followed(private_kafka: Any, tmp_path: Path) -> None:
    kafka = private_kafka()
    await create_topics(kafka.bootstrap, topics().values())
    await publish(kafka.bootstrap, policy(1))
    async with running(kafka.bootstrap, tmp_path / "state") as router:
        answered: dict[str, dict[str, Any]] = {}
        await decide_many(router.url, 0, 50, answered)
        await publish(kafka.bootstrap, policy(2))
        async with httpx.AsyncClient() as http, asyncio.timeout(120):
            number = 50
            while (await http.post(f"{router.url}/v1/decide", json=request(number))).json()["policy_version"] != 2:
                number += 1
                await asyncio.sleep(0.05)
        events = {event["event_id"]: event for event in await decisions(kafka.bootstrap, number + 1)}
        assert router.stop() == 0
    for each in answered.values():
        event = events[each["decision_id"]]
        assert (event["arm"], event["propensity"], event["policy_version"]) == (each["arm"], each["propensity"], 1)
        assert dict(zip(event["arms"], event["propensities"], strict=True)) == each["propensities"]


async def test_kill_9_under_load_loses_no_answered_decision(private_kafka: Any, tmp_path: Path) -> None:
    kafka = private_kafka()
    await create_topics(kafka.bootstrap, topics().values())
    await publish(kafka.bootstrap, policy(1))
    answered: dict[str, dict[str, Any]] = {}
    async with running(kafka.bootstrap, tmp_path / "state") as router:
        for round_number in range(3):
            callers = [
                asyncio.create_task(decide_many(router.url, 10_000 * round_number + 1000 * n, 1000, answered))
                for n in range(8)
            ]
            before = len(answered)
            async with asyncio.timeout(120):
                while len(answered) < before + 150:
                    await asyncio.sleep(0.01)
            router.kill()
            await asyncio.gather(*callers)
            await router.start()
        events = await decisions(kafka.bootstrap, len(answered))
    by_id = Counter(event["event_id"] for event in events)
    arms = {event["event_id"]: (event["arm"], event["propensity"]) for event in events}
    assert len(answered) >= 450
    assert all(arms[each["decision_id"]] == (each["arm"], each["propensity"]) for each in answered.values())
    # Once by id: a second copy after a crash is the same fact, byte for byte in what was decided.
    assert len({(event["event_id"], event["arm"], event["occurred_at"]) for event in events}) == len(by_id)


async def test_it_decides_while_kafka_is_away_until_its_journal_is_full(private_kafka: Any, tmp_path: Path) -> None:
    kafka = private_kafka()
    await create_topics(kafka.bootstrap, topics().values())
    await publish(kafka.bootstrap, policy(1))
    bounds = {"FLYWHEEL_JOURNAL_MAX_BYTES": "40000", "FLYWHEEL_JOURNAL_SEGMENT_BYTES": "4000"}
    async with running(kafka.bootstrap, tmp_path / "state", **bounds) as router, httpx.AsyncClient(timeout=60) as http:
        kafka.kill()
        answered = []
        for number in range(500):
            reply = await http.post(f"{router.url}/v1/decide", json=request(number))
            if reply.status_code == 503:
                break
            assert reply.json()["reason"] == "policy"
            answered.append(reply.json()["decision_id"])
        assert (reply.status_code, "retry-after" in reply.headers) == (503, True)
        assert len(answered) > 50
        kafka.restart()
        # With connections of its own: the old ones were idle for about as long as the router keeps such.
        async with httpx.AsyncClient(timeout=60) as later:
            async with asyncio.timeout(90):
                while (await later.post(f"{router.url}/v1/decide", json=request(501))).status_code != 200:
                    await asyncio.sleep(0.2)
            events = await decisions(kafka.bootstrap, len(answered) + 1)
            assert set(answered) <= {event["event_id"] for event in events}
            assert (await later.get(f"{router.url}/ready")).status_code == 200


async def test_without_kafka_it_is_not_ready_and_says_so(tmp_path: Path) -> None:
    process = Process("127.0.0.1:1", tmp_path / "state")
    await process.start(until_ready=False)
    try:
        async with httpx.AsyncClient() as http:
            ready = await http.get(f"{process.url}/ready")
            decided = await http.post(f"{process.url}/v1/decide", json=request(1, default_arm="mine"))
        assert (ready.status_code, ready.json()["parts"]["policies"]["ok"]) == (503, False)
        assert (decided.json()["arm"], decided.json()["reason"]) == ("mine", "no_policy")
    finally:
        process.kill()
    assert KEY not in process.log.read_text()
