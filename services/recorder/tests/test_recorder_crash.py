"""The recorder as a process, on a real broker, killed with -9 while it writes: each event is in the views once."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from flywheel.events import Codec, topics
from flywheel.local.kafka import KafkaNode
from flywheel.local.topic_admin import create_topics_now
from flywheel.stream import KafkaBus, Outgoing

from .conftest import call_value

pytest_plugins = ["flywheel.local.fixtures"]

DAY_US = 86_400_000_000


@dataclass
class Recorder:
    """A recorder in a process of its own, over folders that outlive it."""

    bootstrap: str
    folder: Path

    def environment(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "FLYWHEEL_KAFKA_BOOTSTRAP": self.bootstrap,
            "FLYWHEEL_STATE_DIR": str(self.folder / "state"),
            "FLYWHEEL_CLICKHOUSE_PATH": str(self.folder / "clickhouse"),
            "FLYWHEEL_PORT": "0",
            "FLYWHEEL_OPS_PORT": "0",
            "FLYWHEEL_PORT_FILE": str(self.folder / "ports.json"),
        }

    def start(self) -> None:
        """Start it and wait until it answers SQL."""
        (self.folder / "ports.json").unlink(missing_ok=True)
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flywheel_recorder"], env=self.environment(), stderr=log
            )
        until(lambda: "http" in self.ports(), self.tail)
        self.url = f"http://127.0.0.1:{self.ports()['http']}/"

    def dies_at(self, place: str) -> int:
        """Start it with a fault that kills it the first time it passes a place; returns its exit status."""
        environment = {**self.environment(), "FLYWHEEL_TESTING": "1", "FLYWHEEL_FAULTS": f"{place}=crash"}
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "flywheel_recorder"], env=environment, stderr=log)
        return self.process.wait(90)

    def ports(self) -> dict[str, int]:
        """The ports it has announced."""
        try:
            return dict(json.loads((self.folder / "ports.json").read_text())["ports"])
        except (OSError, ValueError):
            return {}

    def ask(self, sql: str) -> Any:
        """The first value of the first row."""
        answer = httpx.post(self.url, content=(sql + " FORMAT JSONCompactEachRow").encode(), timeout=60)
        assert answer.status_code == 200, answer.text
        return json.loads(answer.text.splitlines()[0])[0]

    def kill(self) -> None:
        """SIGKILL: nothing of it gets to finish."""
        self.process.kill()
        self.process.wait(10)

    def tail(self) -> str:
        """The end of its log."""
        return (self.folder / "log").read_text()[-3000:]


def until(true: Callable[[], bool], why: Callable[[], str], seconds: float = 90) -> None:
    """Wait for something that comes in its own time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s: {why()}")
        time.sleep(0.1)


@contextmanager
def recorder(bootstrap: str, folder: Path) -> Iterator[Recorder]:
    running = Recorder(bootstrap, folder)
    running.start()
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.kill()


def now_us() -> int:
    return time.time_ns() // 1000


@dataclass
class Sent:
    """What a producer sent: ids of good events, bytes that are no events, records that repeat one."""

    good: set[str]
    bad: int = 0
    repeats: int = 0


async def produce(codec: Codec, bootstrap: str, sent: Sent, *, batches: int, size: int, seed: int) -> None:
    """Calls of three months, one in fifty unreadable or absurd, one in twenty sent twice."""
    rng = random.Random(seed)
    producer = KafkaBus(bootstrap).producer()
    await producer.start()
    for _ in range(batches):
        records: list[Outgoing] = []
        for _ in range(size):
            event_id, now = uuid.UUID(int=rng.getrandbits(128)).hex, now_us()
            value = call_value(event_id=event_id, occurred_at=now - rng.choice([0, 0, 0, 45, 90]) * DAY_US)
            key = event_id[:8].encode()
            kind = rng.random()
            if kind < 0.01:
                records.append(Outgoing("llm-calls", key, codec.encode("llm_call", value)[: rng.randrange(6, 60)]))
                sent.bad += 1
            elif kind < 0.02:
                records.append(Outgoing("llm-calls", key, codec.encode("llm_call", {**value, "latency_ms": -1.0})))
                sent.bad += 1
            else:
                record = Outgoing("llm-calls", key, codec.encode("llm_call", value))
                again = kind < 0.07
                records += [record, record] if again else [record]
                sent.good.add(event_id)
                sent.repeats += again
        await producer.send_many(records)
        await asyncio.sleep(0.05)
    await producer.stop()


def everything_once(running: Recorder, sent: Sent) -> None:
    """Wait until all that was sent is there, then count it."""
    until(lambda: running.ask("SELECT count() FROM v_calls") >= len(sent.good), running.tail)
    bad = "SELECT uniqExact(event_id) FROM v_dead_letters WHERE service = 'recorder'"
    until(lambda: running.ask(bad) >= sent.bad, running.tail)
    time.sleep(1.5)  # for anything that is still to be written twice
    assert running.ask("SELECT count() FROM v_calls") == len(sent.good)
    assert running.ask("SELECT uniqExact(event_id) FROM v_calls") == len(sent.good)
    assert running.ask("SELECT max(surplus_rows) FROM v_audit") == 0
    assert running.ask(bad) == sent.bad
    # dead letters may repeat: one that was sent before the kill and not yet behind a row is sent again
    noted = "SELECT uniqExact(k_partition, k_offset) FROM v_duplicates WHERE event = 'llm_call'"
    assert running.ask(noted) == sent.repeats
    assert running.ask("SELECT sum(calls) FROM v_cost_by_feature_hour") == len(sent.good)


@pytest.fixture
def broker(private_kafka: Callable[..., KafkaNode]) -> KafkaNode:
    """A broker with the declared topics."""
    node = private_kafka()
    create_topics_now(node.bootstrap, topics().values())
    return node


@pytest.mark.broker
@pytest.mark.timeout(400)
def test_killed_while_it_writes_each_event_is_there_once(broker: KafkaNode, tmp_path: Path, codec: Codec) -> None:
    sent = Sent(set())
    rng = random.Random(7)
    with recorder(broker.bootstrap, tmp_path) as running:
        for round_number in range(3):
            asyncio.run(produce(codec, broker.bootstrap, sent, batches=8, size=150, seed=round_number))
            if round_number:  # once with a backlog to catch up on, once in the middle of it
                until(lambda: running.ask("SELECT count() FROM v_calls") > 0, running.tail)
            time.sleep(rng.random())
            running.kill()
            running.start()
        everything_once(running, sent)


@pytest.mark.broker
@pytest.mark.timeout(400)
def test_killed_at_every_place_of_a_batch_each_event_is_there_once(
    broker: KafkaNode, tmp_path: Path, codec: Codec
) -> None:
    sent = Sent(set())
    doomed = Recorder(broker.bootstrap, tmp_path)
    places = ("after_fetch", "after_effect", "after_dead_letters", "before_offset_commit")
    for number, place in enumerate(places):
        asyncio.run(produce(codec, broker.bootstrap, sent, batches=4, size=150, seed=number))
        assert doomed.dies_at(place) == -signal.SIGKILL
    with recorder(broker.bootstrap, tmp_path) as running:
        everything_once(running, sent)


@pytest.mark.broker
@pytest.mark.timeout(200)
def test_it_waits_for_kafka_and_for_its_folder_and_stops_when_told(
    broker: KafkaNode, tmp_path: Path, codec: Codec
) -> None:
    with recorder(broker.bootstrap, tmp_path) as first:
        second = subprocess.Popen(
            [sys.executable, "-m", "flywheel_recorder"],
            env={**first.environment(), "FLYWHEEL_PORT_FILE": str(tmp_path / "second.json")},
            stderr=(tmp_path / "second.log").open("w"),
        )
        try:
            until(lambda: "open in another process" in (tmp_path / "second.log").read_text(), first.tail)
            assert second.poll() is None
            first.process.send_signal(signal.SIGTERM)
            assert first.process.wait(30) == 0
            until(lambda: "http" in json.loads((tmp_path / "second.json").read_text())["ports"], first.tail)
        finally:
            second.send_signal(signal.SIGTERM)
            assert second.wait(30) == 0
