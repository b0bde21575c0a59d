"""Ingest as a process against a real broker: what is answered is in the topic, and a stopped broker loses nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from flywheel.events import Codec, LocalRegistry, header, topics
from flywheel.local.kafka import KafkaNode
from flywheel.local.topic_admin import create_topics
from flywheel.stream import KafkaBus, RawRecord, TopicPartition

pytest_plugins = ["flywheel.local.fixtures"]
pytestmark = [pytest.mark.broker]

TOPICS = ("llm-calls", "llm-content", "llm-feedback", "llm-evaluations")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []

    def start(bootstrap: str, **environ: str) -> subprocess.Popen[bytes]:
        env = {
            **os.environ,
            "FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap,
            "FLYWHEEL_STATE_DIR": str(tmp_path),
            "FLYWHEEL_PORT": "0",
            **environ,
        }
        command = [sys.executable, "-m", "flywheel_ingest"]
        with (tmp_path / "ingest.log").open("ab") as log:
            running.append(subprocess.Popen(command, env=env, stderr=log, stdout=log))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


async def base_url(log: Path, ready: bool = True) -> str:
    """Where the process listens, once it does (and, by default, once it reached Kafka)."""
    async with asyncio.timeout(120), httpx.AsyncClient() as http:
        while True:
            await asyncio.sleep(0.1)
            said = [orjson.loads(line) for line in log.read_bytes().splitlines() if line.startswith(b"{")]
            ports = [line["port"] for line in said if line["event"] == "listening"]
            if ports:
                url = f"http://127.0.0.1:{ports[-1]}"
                if not ready or (await http.get(f"{url}/ready")).status_code == 200:
                    return url


async def read_all(bootstrap: str, topic: str, *, at_least: int) -> list[RawRecord]:
    """Every record of a topic, in partition order."""
    bus = KafkaBus(bootstrap, client_id="test")
    consumer = bus.consumer(topics=[topic], group=None)
    await consumer.start()
    found: list[RawRecord] = []
    try:
        async with asyncio.timeout(120):
            while not consumer.assignment():
                await consumer.poll(max_records=1, timeout_ms=10)
            partitions = sorted(consumer.assignment())
            for partition in partitions:
                consumer.seek(partition, 0)
            ends = await consumer.end_offsets(partitions)
            reached: dict[TopicPartition, int] = dict.fromkeys(partitions, 0)
            while any(reached[partition] < ends[partition] for partition in partitions):
                for partition, records in (await consumer.poll(max_records=5_000, timeout_ms=200)).items():
                    found += records
                    reached[partition] = records[-1].offset + 1
    finally:
        await consumer.stop()
    assert len(found) >= at_least
    return found


def call(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"call-{number}",
        "request_id": f"request-{number}",
        "occurred_at": time.time_ns() // 1_000,
        "provider": "openai",
        "request_model": "gpt-4o",
        "usage_convention": "inclusive",
        "input_tokens": number,
        "output_tokens": 1,
        **fields,
    }


async def test_what_is_answered_is_in_the_topic(
    private_kafka: Callable[..., KafkaNode], started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    kafka = private_kafka()
    await create_topics(kafka.bootstrap, [topics()[name] for name in TOPICS])
    process = started(kafka.bootstrap)
    url = await base_url(tmp_path / "ingest.log")
    batches = [[call(1_000 * batch + n, input_text="s3cret-canary") for n in range(250)] for batch in range(8)]
    async with httpx.AsyncClient(timeout=30) as http:
        answers = await asyncio.gather(*(http.post(f"{url}/v1/calls", json=batch) for batch in batches))
        again = await http.post(f"{url}/v1/calls", json=batches[0])
    assert [answer.status_code for answer in answers] == [200] * 8
    assert again.json()["duplicate"] == 250
    codec = Codec(LocalRegistry.load())
    posted = {item["event_id"] for batch in batches for item in batch}
    records = await read_all(kafka.bootstrap, "llm-calls", at_least=2_000)
    values = [codec.decode(record.value or b"").value for record in records]
    assert {value["event_id"] for value in values} == posted
    assert len(values) == len(posted)
    assert all(value["cost_source"] == "LOCAL" for value in values)
    assert {header(record.headers, "ce_id") for record in records} == posted
    contents = await read_all(kafka.bootstrap, "llm-content", at_least=2_000)
    assert {record.key: record.partition for record in contents} == {record.key: record.partition for record in records}
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 0
    assert b"s3cret-canary" not in (tmp_path / "ingest.log").read_bytes()


async def test_a_stopped_broker_is_503_and_no_accepted_item_is_lost(
    private_kafka: Callable[..., KafkaNode], started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    kafka = private_kafka()
    await create_topics(kafka.bootstrap, [topics()[name] for name in TOPICS])
    started(kafka.bootstrap, FLYWHEEL_PUBLISH_TIMEOUT_S="3")
    url = await base_url(tmp_path / "ingest.log")
    accepted: set[str] = set()
    refused: list[dict[str, Any]] = []
    async with httpx.AsyncClient(timeout=30) as http:

        async def post(items: list[dict[str, Any]]) -> int:
            answer = await http.post(f"{url}/v1/calls", json=items)
            if answer.status_code == 200:
                accepted.update(item["event_id"] for item in answer.json()["items"])
            else:
                refused.extend(items)
            return answer.status_code

        assert await post([call(n) for n in range(100)]) == 200
        kafka.kill()
        assert await post([call(n) for n in range(100, 200)]) == 503
        assert (await http.get(f"{url}/ready")).status_code == 503
        assert (await http.get(f"{url}/live")).status_code == 200
        kafka.restart()
        async with asyncio.timeout(120):
            while refused:
                again = [*refused]
                refused.clear()
                await post(again)
        assert await post([call(n) for n in range(200, 300)]) == 200
        await base_url(tmp_path / "ingest.log")  # ready again without a restart
    assert accepted == {f"call-{n}" for n in range(300)}
    codec = Codec(LocalRegistry.load())
    records = await read_all(kafka.bootstrap, "llm-calls", at_least=300)
    assert {codec.decode(record.value or b"").value["event_id"] for record in records} == accepted


async def test_without_a_broker_it_starts_says_so_and_takes_nothing(
    started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    started("127.0.0.1:1")
    url = await base_url(tmp_path / "ingest.log", ready=False)
    async with httpx.AsyncClient(timeout=30) as http:
        answer = await http.post(f"{url}/v1/calls", json=[call(1)])
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert (await http.get(f"{url}/ready")).status_code == 503
        assert (await http.get(f"{url}/docs")).status_code == 200


async def test_killed_under_load_it_loses_nothing_it_accepted(
    private_kafka: Callable[..., KafkaNode], started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    kafka = private_kafka()
    await create_topics(kafka.bootstrap, [topics()[name] for name in TOPICS])
    process = started(kafka.bootstrap)
    url = await base_url(tmp_path / "ingest.log")
    port = url.rpartition(":")[2]
    accepted: set[str] = set()

    async def post_all(http: httpx.AsyncClient, batches: Iterator[list[dict[str, Any]]]) -> None:
        for batch in batches:
            while True:  # a producer posts the same batch until it is answered
                try:
                    answer = await http.post(f"{url}/v1/calls", json=batch)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                    continue
                if answer.status_code == 200:
                    accepted.update(item["event_id"] for item in answer.json()["items"])
                    break
                await asyncio.sleep(0.05)

    batches = iter([[call(50 * batch + n) for n in range(50)] for batch in range(80)])
    async with httpx.AsyncClient(timeout=30) as http:
        posting = [asyncio.create_task(post_all(http, batches)) for _ in range(4)]
        for goal in (800, 2_000):
            while len(accepted) < goal:
                await asyncio.sleep(0.01)
            process.kill()
            process.wait()
            process = started(kafka.bootstrap, FLYWHEEL_PORT=port)
        await asyncio.gather(*posting)
    assert accepted == {f"call-{n}" for n in range(4_000)}
    codec = Codec(LocalRegistry.load())
    records = await read_all(kafka.bootstrap, "llm-calls", at_least=4_000)
    assert {codec.decode(record.value or b"").value["event_id"] for record in records} == accepted
