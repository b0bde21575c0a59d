"""Outcomes a second: in the bandit's core alone, and by the whole service from Kafka to `llm-outcomes`.

An outcome is three events (decision, call, feedback) joined. Core: decoded events in batches of 5,000, state in a
dictionary, the best of three passes. From Kafka: the service in a process of its own, all facts already on the log,
both stages at work; the rate is that at which outcomes were appended to the log. Baseline: a bare aiokafka loop
(``getmany``, decode, commit) over the same facts in the same run, in outcomes, that is events divided by three.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from baselines import bare_consume
from harness import Result, write

from flywheel.events import Codec, event_id, load_registry, topics
from flywheel.local.kafka import KafkaNode
from flywheel.local.topic_admin import create_topics
from flywheel.observe import spare_the_collector
from flywheel.stream import Event, KafkaBus, Output, Publisher, RawRecord
from flywheel.testkit.dict_state import DictState
from flywheel_bandit.core import CharterBook, OutcomeFold
from flywheel_bandit.wiring import NEEDED

COMMAND = "python tests/bench/run.py bandit"
REQUESTS = 30_000
BATCH = 5_000
ARMS = 8
FACTS = ("llm-decisions", "llm-calls", "llm-feedback")
TEXT = f"""
feature: answers
quality: {{user.thumb: 1.0}}
weights: {{cost: 0.2, latency: 0.1}}
arms: [{", ".join(f"{{name: arm-{n}, model: m}}" for n in range(ARMS))}]
policy: {{kind: thompson, half_life: 2000 outcomes, explore_floor: 0.01}}
"""


def charter(now_us: int) -> dict[str, Any]:
    """The charter of the feature measured."""
    return {
        "event_id": event_id("charter", TEXT), "project": "default", "feature": "answers", "occurred_at": now_us,
        "revision": 1, "charter_yaml": TEXT, "digest": event_id(TEXT),
    }  # fmt: skip


def facts(now_us: int) -> Iterator[Output]:
    """Three events for each request, one request every 100 µs of event time."""
    for number in range(REQUESTS):
        request, at = f"request-{number:08d}", now_us + number * 100
        base = {"project": "default", "request_id": request, "feature": "answers", "team": "cx", "app": "shop"}
        decision = event_id("decision", request)
        yield Output("llm-decisions", request, "decision", base | {
            "event_id": decision, "occurred_at": at, "policy": "answers", "policy_version": 1, "reason": "policy",
            "policy_kind": "thompson_beta", "arm": f"arm-{number % ARMS}", "propensity": 1 / ARMS, "decider": "router",
            "arms": [f"arm-{n}" for n in range(ARMS)], "propensities": [1 / ARMS] * ARMS, "model": "openai/gpt-4o",
        })  # fmt: skip
        yield Output("llm-calls", request, "llm_call", base | {
            "event_id": event_id("call", request), "occurred_at": at + 10, "provider": "openai", "status": "OK",
            "request_model": "gpt-4o", "response_model": "gpt-4o-2024-08-06", "input_tokens": 900, "output_tokens": 200,
            "cost_usd": Decimal("0.0042"), "latency_ms": 812.0, "decision_id": decision,
        })  # fmt: skip
        yield Output("llm-feedback", request, "feedback", base | {
            "event_id": event_id("thumb", request), "occurred_at": at + 20, "kind": "user.thumb",
            "value": float(number % 3 > 0),
        })  # fmt: skip


class Dictionary(DictState):
    """A state view that costs next to nothing: a scan that ends before a table's first key looks at none."""

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, str] = {}

    def put(self, table: str, key: str, value: bytes) -> None:
        super().put(table, key, value)
        if key < self.first.setdefault(table, key):
            self.first[table] = key

    def scan(
        self, table: str, start: str = "", stop: str | None = None, limit: int | None = None
    ) -> Iterator[tuple[str, bytes]]:
        if stop is not None and stop <= self.first.get(table, stop):
            return iter(())
        return super().scan(table, start, stop, limit)


def core(now_us: int) -> tuple[float, float]:
    """Return outcomes a second and CPU microseconds each, in the core alone."""
    codec, needed = Codec(load_registry()), Codec(load_registry(), only=NEEDED)
    events = []
    for offset, fact in enumerate(facts(now_us)):
        value = needed.decode(codec.encode(fact.event, fact.value)).value
        events.append(Event(RawRecord(fact.topic, 0, offset, 0, b"", b""), fact.event, 1, value))
    book = CharterBook.of([charter(now_us)])
    spare_the_collector()  # as every service does; the facts made above are the benchmark's
    return max(one_pass(book, events) for _ in range(3))


def one_pass(book: CharterBook, events: Sequence[Event]) -> tuple[float, float]:
    """Fold everything once."""
    fold, state = OutcomeFold(lambda: book), Dictionary()
    started, cpu = time.perf_counter(), time.process_time()
    told = 0
    for start in range(0, len(events), BATCH):
        outputs = fold.fold(0, events[start : start + BATCH], state).outputs
        told += sum(output.event == "outcome" for output in outputs)
    took = time.perf_counter() - started
    assert told == REQUESTS, told
    return told / took, (time.process_time() - cpu) * 1e6 / told


async def appended(bootstrap: str, topic: str) -> int:
    """Return how many records a topic holds."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        held = [TopicPartition(topic, number) for number in range(topics()[topic].partitions)]
        return sum((await consumer.end_offsets(held)).values())
    finally:
        await consumer.stop()


async def produce(bootstrap: str) -> int:
    """Put charter and facts on the log; return how many facts."""
    now_us = time.time_ns() // 1000 - REQUESTS * 100
    publisher = Publisher(KafkaBus(bootstrap, client_id="facts"), Codec(load_registry()), source="bench")
    await publisher.start()
    await publisher.publish([Output("charters", "default/answers", "charter", charter(now_us))])
    everything = list(facts(now_us))
    for start in range(0, len(everything), 2000):
        await publisher.publish(everything[start : start + 2000])
    await publisher.stop()
    return len(everything)


async def from_kafka(bootstrap: str, folder: Path) -> tuple[float, float, float]:
    """Return outcomes a second, CPU microseconds each, and the bare loop's events a second."""
    published = await produce(bootstrap)
    bare = await bare_consume(bootstrap, list(FACTS), published)
    environment = {"FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap, "FLYWHEEL_STATE_DIR": str(folder), "FLYWHEEL_OPS_PORT": "0"}
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "flywheel_bandit"]
        service = await asyncio.create_subprocess_exec(*command, env=os.environ | environment, stderr=log)
    try:
        async with asyncio.timeout(180):
            while await appended(bootstrap, "llm-outcomes") < REQUESTS:
                assert service.returncode is None, (folder / "log").read_text()[-2000:]
                await asyncio.sleep(0.3)
        cpu = sum(psutil.Process(service.pid).cpu_times()[:2])
    finally:
        service.terminate()
        await service.wait()
    consumer = AIOKafkaConsumer("llm-outcomes", bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    stamps: list[int] = []
    while len(stamps) < REQUESTS:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            stamps += [record.timestamp for record in records]
    await consumer.stop()
    # From the first append to the last: starting the interpreter is not the bandit's rate. The first batch is left out.
    stamps.sort()
    first = sum(stamp == stamps[0] for stamp in stamps)
    return (len(stamps) - first) / ((stamps[-1] - stamps[0]) / 1000), cpu * 1e6 / len(stamps), bare


async def main() -> None:
    """Measure both and write the results."""
    alone, alone_us = core(time.time_ns() // 1000)
    with tempfile.TemporaryDirectory(prefix="bench-bandit-") as name, KafkaNode(Path(name) / "kafka") as node:
        node.wait_ready()
        await create_topics(node.bootstrap, topics().values())
        rate, cpu_us, bare = await from_kafka(node.bootstrap, Path(name))
    about = {"unit": "outcomes/s", "baseline": bare / 3, "baseline_name": "bare aiokafka loop", "command": COMMAND}
    write(Result(name="bandit_core", value=alone, note=f"{alone_us:.0f} µs of CPU each, {ARMS} arms", **about))
    write(Result(name="bandit_from_kafka", value=rate, note=f"{cpu_us:.0f} µs of CPU each, start included", **about))


if __name__ == "__main__":
    asyncio.run(main())
