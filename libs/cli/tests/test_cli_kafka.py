"""Charters go onto a real Kafka once; topics, tail and frontier show what is there."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner

from flywheel.cli.live_topics import KafkaAway, tail_topic
from flywheel.cli.main import cli
from flywheel.cli.publishing import publish
from flywheel.events import Codec, load_registry, topics
from flywheel.local.kafka import KafkaNode
from flywheel.local.topic_admin import create_topics_now
from flywheel.stream import KafkaBus, Output

pytest_plugins = ["flywheel.local.fixtures"]
pytestmark = pytest.mark.broker


def flywheel(*arguments: str) -> Any:
    return CliRunner().invoke(cli, arguments, prog_name="flywheel")


@pytest.fixture
def declared(kafka: KafkaNode) -> str:
    """The address of a broker that has the declared topics."""
    create_topics_now(kafka.bootstrap, topics().values())
    return kafka.bootstrap


def charter(tmp_path: Path, feature: str, model: str = "m") -> str:
    file = tmp_path / f"{feature}.yaml"
    file.write_text(f"feature: {feature}\nquality: {{user.thumb: 1.0}}\narms: [{{name: a, model: {model}}}]\n")
    return str(file)


def test_a_charter_is_published_once_per_text_and_counted_up(declared: str, tmp_path: Path) -> None:
    feature = f"f-{uuid4().hex}"
    applied = [
        json.loads(
            flywheel("charter", "apply", charter(tmp_path, feature, model), "--kafka", declared, "--json").stdout
        )
        for model in ("one", "one", "two", "one")
    ]
    assert [(a["revision"], a["changed"]) for a in applied] == [(1, True), (1, False), (2, True), (3, True)]
    assert (
        "revision 3 already is"
        in flywheel("charter", "apply", charter(tmp_path, feature, "one"), "--kafka", declared).output
    )
    lines = flywheel("tail", "charters", "--from-beginning", "--kafka", declared).stdout.splitlines()
    records = [record for line in lines if (record := json.loads(line))["key"] == f"default/{feature}"]
    assert [record["value"]["revision"] for record in records] == [1, 2, 3]
    assert len({record["value"]["event_id"] for record in records}) == 3
    assert {record["headers"]["ce_source"] for record in records} == {"flywheel/cli"}


def test_topics_shows_the_declared_and_the_undeclared_with_counts(
    declared: str, kafka_topic: Any, tmp_path: Path
) -> None:
    extra = kafka_topic(partitions=2)
    flywheel("charter", "apply", charter(tmp_path, f"f-{uuid4().hex}"), "--kafka", declared)
    states = {s["topic"]: s for s in json.loads(flywheel("topics", "--json", "--kafka", declared).stdout)}
    assert set(topics()) <= set(states)
    assert states["charters"]["records"] >= 1
    assert states["charters"]["live_partitions"] == states["charters"]["declared_partitions"] == 4
    assert states[extra]["declared_partitions"] is None
    table = flywheel("topics", "--kafka", declared).stdout
    assert "on Kafka, not declared" in table
    assert not any(name.startswith("__") for name in states)


def test_the_frontier_is_of_the_newest_policy_on_the_topic(declared: str) -> None:
    example = Path(__file__).parents[3] / "schemas/examples/policy/v4/within-bounds.json"
    policy, feature = json.loads(example.read_text(encoding="utf-8")), f"f-{uuid4().hex}"
    older = policy | {"feature": feature, "policy_version": 1, "standings": [], "prices": []}
    newer = policy | {"feature": feature}
    outputs = [Output("policies", f"acme/{feature}", "policy", each) for each in (older, newer)]
    asyncio.run(publish(KafkaBus(declared, client_id="test"), Codec(load_registry()), outputs))
    shown = json.loads(flywheel("frontier", feature, "--project", "acme", "--kafka", declared, "--json").stdout)
    assert [arm["charge"] for arm in shown["arms"]] == [each["charge"] for each in policy["standings"]]
    assert shown["policy_version"] == policy["policy_version"] and shown["prices"] == policy["prices"]
    table = flywheel("frontier", feature, "--project", "acme", "--kafka", declared).stdout
    assert "breaks quality" in table and "p95_latency_ms (latency_ms>3000)" in table
    absent = flywheel("frontier", "absent", "--kafka", declared)
    assert absent.exit_code == 1 and "no policy for default/absent" in absent.stderr


async def test_tail_shows_what_it_cannot_decode_and_stops_where_it_is_told(declared: str, kafka_topic: Any) -> None:
    topic = kafka_topic(partitions=1)
    producer = AIOKafkaProducer(bootstrap_servers=declared)
    await producer.start()
    try:
        for value in (b"\x00\x00\x00\xff\xff1", b"plain", None, b"\x00\x00\x00\x00\x01"):
            await producer.send_and_wait(topic, value, key=b"k")
    finally:
        await producer.stop()

    async def read(*, from_beginning: bool, limit: int | None, follow: bool = False) -> list[dict[str, Any]]:
        found = tail_topic(declared, topic, from_beginning=from_beginning, limit=limit, follow=follow)
        return [record async for record in found]

    every = await read(from_beginning=True, limit=None)
    assert [record["offset"] for record in every] == [0, 1, 2, 3]
    assert "is not known" in every[0]["error"]
    assert every[1]["value_hex"] == b"plain".hex()
    assert every[2]["value"] is None
    assert [record["offset"] for record in await read(from_beginning=False, limit=2)] == [2, 3]
    assert [record["offset"] for record in await read(from_beginning=True, limit=3, follow=True)] == [0, 1, 2]
    with pytest.raises(KafkaAway, match="no topic 'absent'"):
        [record async for record in tail_topic(declared, "absent", from_beginning=True, limit=1, follow=False)]
