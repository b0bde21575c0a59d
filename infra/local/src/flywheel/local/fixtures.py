"""pytest fixtures with a real Kafka. Use: ``from flywheel.local.fixtures import *`` is not needed; name the plugin in
the root ``conftest.py`` (``pytest_plugins = ["flywheel.local.fixtures"]``) or with ``-p flywheel.local.fixtures``.

``kafka``            one broker for the whole run, shared by all xdist workers; give topics and groups names of your own
``kafka_topic``      makes such a topic: ``name = kafka_topic(partitions=4)``
``private_kafka``    starts brokers of your own, to kill and restart: ``node = private_kafka()``
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from flywheel.local.kafka import KafkaNode
from flywheel.local.processes import Guard, ProcessId, end

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SharedKafka:
    """The run's broker: ``bootstrap`` is its address, ``data_dir`` holds its log. Not yours to stop."""

    bootstrap: str
    pid: int
    data_dir: Path


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedKafka]:
    """One real broker for the whole run. Under xdist the first worker starts it and the last one stops it."""
    base = tmp_path_factory.getbasetemp()
    distributed = "PYTEST_XDIST_WORKER" in os.environ
    folder = (base.parent if distributed else base) / "kafka-shared"
    folder.mkdir(exist_ok=True)
    # xdist's workers are children of the process that runs the session: the broker lives as long as that does.
    owner = ProcessId.of(os.getppid() if distributed else os.getpid())
    state = folder / "node.json"
    guard = Guard(owner)
    with _locked(folder):
        found = json.loads(state.read_text()) if state.is_file() else _start(folder / "data", guard)
        found["users"] += 1
        state.write_text(json.dumps(found))
    yield SharedKafka(found["bootstrap"], found["pid"], folder / "data")
    with _locked(folder):
        now = json.loads(state.read_text())
        now["users"] -= 1
        if now["users"]:
            state.write_text(json.dumps(now))
        else:
            state.unlink()
            end(ProcessId(now["pid"], now["started"]), deadline_s=10)


@pytest.fixture
def kafka_topic(kafka: SharedKafka) -> Callable[..., str]:
    """Creates a topic with a name that no other test has; options: ``partitions=1, name="test", **topic settings``
    (``cleanup_policy="compact"``)."""

    def create(*, partitions: int = 1, name: str = "test", **settings: str) -> str:
        unique = f"{name}-{uuid.uuid4().hex[:12]}"
        configs = {key.replace("_", "."): value for key, value in settings.items()}
        run_apart(_create(kafka.bootstrap, NewTopic(unique, partitions, 1, topic_configs=configs)))
        return unique

    return create


@pytest.fixture
def private_kafka(tmp_path: Path) -> Iterator[Callable[..., KafkaNode]]:
    """Starts a broker that belongs to this test alone, ready; takes the keywords of ``KafkaNode``."""
    nodes: list[KafkaNode] = []

    def start(**options: Any) -> KafkaNode:
        node = KafkaNode(tmp_path / f"kafka-{len(nodes)}", **options)
        nodes.append(node)
        return node.start().wait_ready()

    yield start
    for node in nodes:
        node.stop(deadline_s=5)


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a loop of its own, also from inside a running loop (a fixture of an async test)."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as error:  # handed to the caller below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _start(data_dir: Path, guard: Guard) -> dict[str, Any]:
    node = KafkaNode(data_dir, guard=guard, heap_mb=384)
    node.start().wait_ready()
    process = node.process_id
    node.release()
    return {"bootstrap": node.bootstrap, "pid": process.pid, "started": process.started, "users": 0}


async def _create(bootstrap: str, topic: NewTopic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, client_id="tests")
    await admin.start()
    try:
        answer = await admin.create_topics([topic], timeout_ms=30_000)
        failed = [row for row in answer.topic_errors if row[1] != 0]
        assert not failed, f"creating a topic failed: {failed}"
    finally:
        await admin.close()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
