"""Calls posted to ingest in batches until Kafka acknowledged them: calls a second, and CPU of ingest per call.

Baseline: a bare aiokafka producer that sends the same events, already encoded, one ``send`` each. Kafka, ingest and the
load generator share the machine.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiokafka
import orjson
import psutil
from baselines import free_port, until_open
from harness import Result, write
from load import closed_loop, http_request

from flywheel.events import Codec, headers, load_registry, topics
from flywheel.local.kafka import KafkaNode
from flywheel.local.topic_admin import create_topics

COMMAND = "python tests/bench/run.py ingest"
BATCH = 200
CALLS = 60_000
CONNECTIONS = 4
BARE_CALLS = 20_000
TOPICS = ("llm-calls", "llm-content", "llm-feedback", "llm-evaluations")


def call(number: int, at_us: int) -> dict[str, object]:
    """A call as a producer would post it: 30 fields, about 750 bytes."""
    return {
        "event_id": f"{number:032x}",
        "request_id": f"request-{number:09d}",
        "occurred_at": at_us,
        "environment": "production",
        "app": "shop",
        "feature": "support-answers",
        "team": "cx",
        "trace_id": f"{number + 1:032x}",
        "span_id": f"{number + 1:016x}",
        "operation": "chat",
        "provider": "openai",
        "request_model": "gpt-4o",
        "response_model": "gpt-4o-2024-08-06",
        "prompt_name": "support",
        "prompt_version": "7",
        "temperature": 0.2,
        "max_tokens": 600,
        "usage_convention": "inclusive",
        "usage_source": "provider",
        "input_tokens": 900 + number % 100,
        "cache_read_tokens": 300,
        "output_tokens": 200,
        "latency_ms": 812.5,
        "ttft_ms": 120.25,
        "status": "ok",
        "finish_reason": "stop",
        "decision_id": f"{number + 2:032x}",
        "policy": "support-answers",
        "policy_version": 12,
        "variant": "strong",
        "propensity": 0.93,
        "attributes": {"language": "en", "plan": "pro"},
    }


def requests() -> list[bytes]:
    """HTTP requests of ``BATCH`` calls each, every call with its own id; made before the clock starts."""
    at_us = time.time_ns() // 1_000
    calls = (call(number, at_us) for number in itertools.count())
    return [
        http_request("POST", "/v1/calls", orjson.dumps({"items": list(itertools.islice(calls, BATCH))}))
        for _ in range(CALLS // BATCH)
    ]


@asynccontextmanager
async def ingest(bootstrap: str, state_dir: Path) -> AsyncIterator[tuple[int, psutil.Process]]:
    """Ingest in a process of its own, connected to Kafka; yields its port and process."""
    port = free_port()
    env = {
        **os.environ,
        "FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap,
        "FLYWHEEL_PORT": str(port),
        "FLYWHEEL_STATE_DIR": str(state_dir),
    }
    command = (sys.executable, "-m", "flywheel_ingest")
    process = await asyncio.create_subprocess_exec(*command, env=env, stderr=subprocess.DEVNULL)
    try:
        await until_open(port)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        await process.wait()


async def bare_producer(bootstrap: str) -> float:
    """Events a second of a bare aiokafka producer, one ``send`` per event, acknowledged by all replicas."""
    codec = Codec(load_registry())
    value = codec.encode("llm_call", {**call(0, time.time_ns() // 1_000), "project": "default", **_UPPER})
    envelope = headers(event="llm_call", event_id="0" * 32, source="bench")
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, compression_type="lz4", linger_ms=5
    )
    await producer.start()
    try:
        started = time.perf_counter()
        sent = []
        for number in range(BARE_CALLS):
            key = f"request-{number:09d}".encode()
            sent.append(await producer.send("llm-calls", key=key, value=value, headers=envelope))
        await asyncio.gather(*sent)
        return BARE_CALLS / (time.perf_counter() - started)
    finally:
        await producer.stop()


_UPPER = {"operation": "CHAT", "status": "OK", "usage_convention": "INCLUSIVE", "usage_source": "PROVIDER"}


async def measure(bootstrap: str, state_dir: Path) -> None:
    """Run the load once to warm up and once measured; write both figures."""
    await create_topics(bootstrap, [topics()[name] for name in TOPICS])
    made = requests()
    async with ingest(bootstrap, state_dir) as (port, process):
        await asyncio.sleep(1)
        source = iter(made)
        await closed_loop(port, source, connections=CONNECTIONS, seconds=2)
        before = process.cpu_times()
        load = await closed_loop(port, source, connections=CONNECTIONS, seconds=5)
        after = process.cpu_times()
    assert load.failures == 0, f"{load.failures} of {len(load.latencies_ms)} batches failed"
    calls = len(load.latencies_ms) * BATCH
    cpu_us = (after.user + after.system - before.user - before.system) / calls * 1e6
    bare = await bare_producer(bootstrap)
    note = f"batches of {BATCH}, {CONNECTIONS} connections; {cpu_us:.0f} µs of one core of ingest per call"
    write(Result("ingest_to_kafka", load.per_second * BATCH, "calls/s", bare, "bare aiokafka producer", COMMAND, note))
    write(
        Result(
            "ingest_cpu", 1e6 / cpu_us, "calls/s", bare, "bare aiokafka producer", COMMAND, "per core, from CPU time"
        )
    )


def main() -> None:
    """Run against a Kafka of our own."""
    with tempfile.TemporaryDirectory() as folder, KafkaNode(Path(folder) / "kafka") as node:
        node.wait_ready()
        asyncio.run(measure(node.bootstrap, Path(folder)))


if __name__ == "__main__":
    main()
