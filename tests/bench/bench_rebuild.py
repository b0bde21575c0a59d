"""Seconds a million facts of a bandit's rebuild: by reading Kafka's log again, and from ClickHouse.

60,000 facts (20,000 requests: decision, call, feedback) lie on Kafka and are recorded. From Kafka: the service in a
process of its own without a state, from the first outcome appended to the last (starting the interpreter is no part
of it, and its first batch is left out). From ClickHouse: reading back and folding, as the command reports it, after
all facts were deleted from Kafka. Baseline: a bare aiokafka loop over the same facts in the same run, same unit.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import bench_bandit
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from baselines import bare_consume
from bench_bandit import FACTS, appended, produce
from harness import Result, write

from flywheel.events import topics
from flywheel.local.kafka import KafkaNode
from flywheel.local.topic_admin import create_topics

COMMAND = "python tests/bench/run.py rebuild"
REQUESTS = 20_000
EVENTS = REQUESTS * len(FACTS)


@asynccontextmanager
async def service(name: str, folder: Path, bootstrap: str) -> AsyncIterator[None]:
    """A service as a process of its own."""
    environment = {
        "FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap, "FLYWHEEL_STATE_DIR": str(folder / "state"), "FLYWHEEL_OPS_PORT": "0",
        "FLYWHEEL_PORT": "0", "FLYWHEEL_PORT_FILE": str(folder / f"{name}.json"),
        "FLYWHEEL_CLICKHOUSE_PATH": str(folder / "clickhouse"),
    }  # fmt: skip
    with (folder / f"{name}.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"flywheel_{name}", env=os.environ | environment, stderr=log
        )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def from_kafka(bootstrap: str, folder: Path) -> float:
    """Seconds a million facts from the first outcome appended to the last; the first batch is left out."""
    async with asyncio.timeout(180), service("bandit", folder, bootstrap):
        while await appended(bootstrap, "llm-outcomes") < REQUESTS:
            await asyncio.sleep(0.3)
    consumer = AIOKafkaConsumer("llm-outcomes", bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    stamps: list[int] = []
    while len(stamps) < REQUESTS:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            stamps += [record.timestamp for record in records]
    await consumer.stop()
    stamps.sort()
    later = sum(stamp > stamps[0] for stamp in stamps)
    return (stamps[-1] - stamps[0]) / 1000 / (later * len(FACTS)) * 1e6


async def from_clickhouse(bootstrap: str, folder: Path) -> float:
    """Seconds a million facts of the command, the facts gone from Kafka."""
    async with service("recorder", folder, bootstrap):
        address = await recorded(folder)
        await forget(bootstrap)
        command = [sys.executable, "-m", "flywheel_bandit.rebuild", "--from-clickhouse", address]
        environment = {"FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap, "FLYWHEEL_STATE_DIR": str(folder / "rebuilt")}
        process = await asyncio.create_subprocess_exec(
            *command, env=os.environ | environment, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
    report = json.loads(output)
    assert report["folded"] == EVENTS, report
    return float(report["seconds"]) / EVENTS * 1e6


async def recorded(folder: Path) -> str:
    """Wait until every fact has a row; return the recorder's address."""
    sql = b"SELECT (SELECT count() FROM v_decisions) + (SELECT count() FROM v_calls) + (SELECT count() FROM v_feedback)"
    async with asyncio.timeout(180):
        while True:
            await asyncio.sleep(0.5)
            path = folder / "recorder.json"
            ports = json.loads(path.read_text())["ports"] if path.exists() else {}
            if "http" not in ports:
                continue
            address = f"http://127.0.0.1:{ports['http']}"
            answer = await asyncio.to_thread(urllib.request.urlopen, f"{address}/", sql)
            if int(answer.read()) >= EVENTS:
                return address


async def forget(bootstrap: str) -> None:
    """Delete every fact from Kafka."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await consumer.start()
    await admin.start()
    held = [TopicPartition(name, number) for name in FACTS for number in range(topics()[name].partitions)]
    ends = await consumer.end_offsets(held)
    await admin.delete_records({tp: RecordsToDelete(end) for tp, end in ends.items() if end})
    await admin.close()
    await consumer.stop()


async def main() -> None:
    """Measure both and write the results."""
    bench_bandit.REQUESTS = REQUESTS
    with tempfile.TemporaryDirectory(prefix="bench-rebuild-") as name, KafkaNode(Path(name) / "kafka") as node:
        node.wait_ready()
        await create_topics(node.bootstrap, topics().values())
        await produce(node.bootstrap)
        bare = await bare_consume(node.bootstrap, list(FACTS), EVENTS)
        kafka = await from_kafka(node.bootstrap, Path(name))
        clickhouse = await from_clickhouse(node.bootstrap, Path(name))
    about = {"unit": "s/million", "baseline": 1e6 / bare, "baseline_name": "bare aiokafka loop", "command": COMMAND}
    write(Result(name="rebuild_from_kafka", value=kafka, note=f"{EVENTS} facts, the service without a state", **about))
    write(Result(name="rebuild_from_clickhouse", value=clickhouse, note=f"{EVENTS} facts, offline", **about))


if __name__ == "__main__":
    asyncio.run(main())
