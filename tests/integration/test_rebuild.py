"""A bandit that lost its disk, on a real broker with a real recorder: from Kafka, and from ClickHouse where Kafka has
deleted, it comes back to the same states byte for byte, and nothing is told twice."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError

from flywheel.events import Codec, load_registry, topics
from flywheel.local.ports import free_port
from flywheel.local.topic_admin import create_topics
from flywheel.stream import KafkaBus, Outgoing, Output, Publisher, ShardState
from flywheel.testkit.draining import ask_sql, state_digests
from flywheel_bandit.core import INPUTS

from .test_bandit_replay import FEATURES, charters, facts, newest_policies, run_once

pytest_plugins = ["flywheel.local.fixtures"]

WAIT_S = 90


@contextmanager
def recorder(bootstrap: str, folder: Path) -> Iterator[str]:
    """A recorder process; yields its address."""
    environment = {
        "FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap,
        "FLYWHEEL_STATE_DIR": str(folder / "state"),
        "FLYWHEEL_CLICKHOUSE_PATH": str(folder / "clickhouse"),
        "FLYWHEEL_PORT": "0",
        "FLYWHEEL_OPS_PORT": "0",
        "FLYWHEEL_PORT_FILE": str(folder / "ports.json"),
    }
    folder.mkdir(exist_ok=True)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flywheel_recorder"], env=os.environ | environment, stderr=log
        )
    try:
        deadline = time.monotonic() + WAIT_S
        while not (folder / "ports.json").exists() or "http" not in (folder / "ports.json").read_text():
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
            time.sleep(0.1)
        yield f"http://127.0.0.1:{json.loads((folder / 'ports.json').read_text())['ports']['http']}"
    finally:
        process.terminate()
        process.wait(30)


async def publish(bootstrap: str, outputs: Sequence[Output]) -> None:
    publisher = Publisher(KafkaBus(bootstrap, client_id="facts"), Codec(load_registry()), source="test")
    await publisher.start()
    for start in range(0, len(outputs), 100):
        await publisher.publish(outputs[start : start + 100])
    await publisher.stop()


async def publish_unreadable(bootstrap: str) -> None:
    """A record for the dead letters on every partition: it moves offsets and leaves no row."""
    producer = KafkaBus(bootstrap).producer()
    await producer.start()
    await producer.send_many([Outgoing("llm-calls", f"bad-{n}".encode(), b"no event") for n in range(20)])
    await producer.stop()


async def edges(bootstrap: str, names: Sequence[str]) -> dict[TopicPartition, int]:
    """The end of each partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        held = [TopicPartition(name, number) for name in names for number in range(topics()[name].partitions)]
        return dict(await consumer.end_offsets(held))
    finally:
        await consumer.stop()


async def delete_before(bootstrap: str, offsets: dict[TopicPartition, int]) -> None:
    """What retention does, at once."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_records({tp: RecordsToDelete(offset) for tp, offset in offsets.items() if offset})
    finally:
        await admin.close()


async def recorded(bootstrap: str) -> None:
    """Wait until the recorder's group has committed every record of the facts and every outcome."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await admin.start()
    await consumer.start()
    names = (*INPUTS, "llm-outcomes")
    held = [TopicPartition(name, number) for name in names for number in range(topics()[name].partitions)]
    try:
        ends, begins = await consumer.end_offsets(held), await consumer.beginning_offsets(held)
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    done = await admin.list_consumer_group_offsets("flywheel-recorder")
                except KafkaError as error:  # a broker just started has no coordinator for a while
                    if not error.retriable:
                        raise
                    done = {}
                if all(ends[tp] == begins[tp] or (tp in done and done[tp].offset >= ends[tp]) for tp in held):
                    return
                await asyncio.sleep(0.2)
    finally:
        await consumer.stop()
        await admin.close()


def command(bootstrap: str, state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``flywheel rebuild bandit`` as an operator would."""
    environment = {
        "FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap,
        "FLYWHEEL_STATE_DIR": str(state),
        "FLYWHEEL_GROUP": state.name,
        "FLYWHEEL_HOME": str(state.parent / "home"),
    }
    return subprocess.run(
        [sys.executable, "-m", "flywheel.cli", "rebuild", "bandit", "--json", *arguments],
        env=os.environ | environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def joined(digests: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in digests.items() if "bandit-join/" in name}


def told_once(url: str) -> int:
    """Assert that each outcome is in ClickHouse once; return how many there are."""
    ((rows, ids),) = ask_sql(url, "SELECT count(), uniqExact(event_id) FROM v_outcomes")
    assert rows == ids
    return int(ids)


@pytest.mark.broker
@pytest.mark.timeout(500)
async def test_a_bandit_that_lost_its_disk_comes_back_to_the_same_states(private_kafka: Any, tmp_path: Path) -> None:
    bootstrap = private_kafka().bootstrap
    await create_topics(bootstrap, topics().values())
    everything = facts(11)
    cut = len(everything) * 4 // 5
    await publish(bootstrap, charters())
    await publish(bootstrap, everything[:cut])
    await publish_unreadable(bootstrap)
    state = tmp_path / "bandit-state"

    with recorder(bootstrap, tmp_path / "recorder") as url:
        await run_once(bootstrap, state, batch_records=700)
        lost = state_digests(state)
        policies = await newest_policies(bootstrap)
        await recorded(bootstrap)
        outcomes = told_once(url)
        assert len(joined(lost)) == 4 and outcomes > 300
        assert len(policies) == len(FEATURES), "one of them by context: its vectors are in ClickHouse too"

        # The disk is gone, Kafka has everything: the service comes back by itself.
        shutil.copytree(state, tmp_path / "kept")
        shutil.rmtree(state)
        looked = command(bootstrap, state)
        assert looked.returncode == 0, looked.stderr
        assert not json.loads(looked.stdout)["needs_clickhouse"]
        await run_once(bootstrap, state, batch_records=300)
        assert state_digests(state) == lost
        assert await newest_policies(bootstrap) == policies

        # The disk is gone, and so is a part of the log, of each topic another.
        ends = await edges(bootstrap, INPUTS)
        share = {"llm-decisions": 0.5, "llm-calls": 1.0, "llm-feedback": 0.3, "llm-evaluations": 0}
        await delete_before(bootstrap, {tp: int(end * share[tp.topic]) for tp, end in ends.items()})
        refused = command(bootstrap, state, "--from-clickhouse", url)
        assert refused.returncode == 1 and "is not empty" in refused.stderr
        held = ShardState(next((state / "bandit" / "bandit-join").glob("*.sqlite")))
        refused = command(bootstrap, state, "--from-clickhouse", url, "--force")
        held.close()
        assert refused.returncode == 1 and "open in a process" in refused.stderr
        shutil.rmtree(state)
        looked = command(bootstrap, state)
        assert looked.returncode == 1 and json.loads(looked.stdout)["needs_clickhouse"]

        made = command(bootstrap, state, "--from-clickhouse", url)
        assert made.returncode == 0, made.stderr
        report = json.loads(made.stdout)
        assert report["inexact"] == [] and report["unaccounted"] == 0
        assert report["repeats"] > 0 and report["refused"] == 20
        assert "facts folded" in made.stderr
        for tp, end in ends.items():  # calls are gone to their end, so every topic is taken to that moment
            assert report["reads_on_at"][f"{tp.topic}/{tp.partition}"] <= end
        rebuilt = {f"bandit/bandit-join/{name}": digest for name, digest in report["digests"].items()}
        assert rebuilt == joined(state_digests(state))

        # It reads on, and after a few facts more it is where one is that never lost anything.
        await run_once(bootstrap, state, batch_records=300)
        assert state_digests(state) == lost
        assert await newest_policies(bootstrap) == policies
        await publish(bootstrap, everything[cut:])
        await run_once(bootstrap, state, batch_records=300)
        after = state_digests(state)
        ahead = await newest_policies(bootstrap)
        assert after != lost and ahead != policies
        await run_once(bootstrap, tmp_path / "kept", batch_records=500)
        assert state_digests(tmp_path / "kept") == after
        assert await newest_policies(bootstrap) == ahead
        await recorded(bootstrap)
        assert told_once(url) > outcomes


@pytest.mark.broker
@pytest.mark.timeout(500)
async def test_what_stands_in_the_way_of_a_rebuild_is_said_and_can_be_overruled(
    private_kafka: Any, tmp_path: Path
) -> None:
    """The recorder was away while Kafka's retention went on: some calls are in neither, others only in Kafka."""
    bootstrap = private_kafka().bootstrap
    await create_topics(bootstrap, topics().values())
    everything, state = facts(12), tmp_path / "bandit-state"
    half = len(everything) // 2
    await publish(bootstrap, charters())
    await publish(bootstrap, everything[:half])
    with recorder(bootstrap, tmp_path / "recorder") as url:
        await recorded(bootstrap)
    seen = await edges(bootstrap, INPUTS)
    await publish(bootstrap, everything[half:])
    ends = await edges(bootstrap, INPUTS)
    await run_once(bootstrap, state, batch_records=700)
    calls = [tp for tp in ends if tp.topic == "llm-calls"]
    await delete_before(bootstrap, {tp: (seen[tp] + ends[tp]) // 2 for tp in calls})
    (tmp_path / "recorder" / "ports.json").unlink()

    with recorder(f"127.0.0.1:{free_port()}", tmp_path / "recorder") as url:  # it answers, and cannot catch up
        refused = command(bootstrap, state, "--from-clickhouse", url, "--force")
        assert refused.returncode == 1 and "are in neither. --accept-loss goes on" in refused.stderr
        assert next((state / "bandit" / "bandit-join").glob("*.sqlite")), "what was refused touches nothing"
        made = command(bootstrap, state, "--from-clickhouse", url, "--force", "--accept-loss")
        assert made.returncode == 0, made.stderr
        report = json.loads(made.stdout)
        gone = sum((seen[tp] + ends[tp]) // 2 - seen[tp] for tp in calls)
        assert report["inexact"] == [f"{gone} records are in neither: past ClickHouse's retention, or lost"]
        assert report["unaccounted"] == gone > 0
        assert list(Path(report["moved_aside"]).glob("*.sqlite")), "the states that were there are kept"
    (tmp_path / "recorder" / "ports.json").unlink()

    await run_once(bootstrap, state, batch_records=300)
    known = joined(state_digests(state))
    with recorder(bootstrap, tmp_path / "recorder") as url:
        await recorded(bootstrap)
        made = command(bootstrap, state, "--from-clickhouse", url, "--force")
        assert made.returncode == 0, made.stderr
        assert json.loads(made.stdout)["unaccounted"] == gone
    await run_once(bootstrap, state, batch_records=300)
    assert joined(state_digests(state)) == known, "the same facts, whoever brought them"
