"""One behaviour suite over both brokers: what holds in memory holds on Apache Kafka, so the fake stays honest."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiokafka
import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from flywheel.events import Codec, LocalRegistry
from flywheel.events import topics as declared_topics
from flywheel.events.examples import examples
from flywheel.local.fixtures import run_apart
from flywheel.local.kafka import KafkaNode
from flywheel.local.topic_admin import create_topics
from flywheel.observe import Health, Metrics
from flywheel.stream import (
    Bus,
    CompactedTable,
    Event,
    FoldResult,
    Hold,
    KafkaBus,
    MemoryBus,
    Outgoing,
    Output,
    Publisher,
    RawRecord,
    Reject,
    Runner,
    RunnerSettings,
    StateView,
    TopicPartition,
    Unavailable,
)
from flywheel.stream.kafka import partition_of

codec = Codec(LocalRegistry.load())
THUMB = examples("feedback")["thumb-up"]
SETTINGS = RunnerSettings(poll_ms=20, backoff_s=0.05, backoff_max_s=0.2, commit_every_s=0.1)


class CountPerRequest:
    """Counts feedback per request in its state and emits each request's newest count."""

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
        outputs = []
        for event in events:
            request = event.value["request_id"]
            count = int(state.get("counts", request) or b"0") + 1
            state.put("counts", request, str(count).encode())
            value = {"event_id": f"{request}-{count}", "project": "p", "request_id": request, "occurred_at": count}
            outputs.append(Output("llm-evaluations", request, "evaluation", value | {"evaluator": "count"}))
        return FoldResult(outputs)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker with the declared topics for this module; `emptied` makes it look new to each test."""
    node = KafkaNode(tmp_path_factory.mktemp("kafka")).start().wait_ready()
    run_apart(create_topics(node.bootstrap, declared_topics().values()))
    yield node.bootstrap
    node.stop(deadline_s=5)


async def emptied(bootstrap: str) -> str:
    """Delete all records: the next test begins where this one ended, which is not at offset 0."""
    topics = [name for name, topic in declared_topics().items() if not topic.compacted]
    reader = KafkaBus(bootstrap).consumer(topics=topics, group=None)
    await reader.start()
    ends = await reader.end_offsets(sorted(reader.assignment()))
    await reader.stop()
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.delete_records(
        {aiokafka.TopicPartition(p.topic, p.partition): RecordsToDelete(n) for p, n in ends.items() if n}
    )
    await admin.close()
    return bootstrap


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.broker)])
async def bus(request: pytest.FixtureRequest) -> Bus:
    if request.param == "memory":
        return MemoryBus(lambda: 1_700_000_000_000)
    return KafkaBus(await emptied(request.getfixturevalue("broker")))


@asynccontextmanager
async def running(bus: Bus, state_dir: Path | None, step: Any = None, **more: Any) -> AsyncIterator[Runner]:
    runner = Runner(
        service="counter",
        service_version="1",
        bus=bus,
        codec=codec,
        step=step or CountPerRequest(),
        topics=["llm-feedback"],
        group="counter",
        state_dir=state_dir,
        metrics=Metrics(),
        health=Health(),
        settings=SETTINGS,
        **more,
    )
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        await runner.stop()
        await task


async def publish(bus: Bus, requests: Sequence[str], offset: int = 0) -> None:
    publisher = Publisher(bus, codec, source="test")
    await publisher.start()
    values = [THUMB | {"request_id": r, "event_id": f"e{offset + i}"} for i, r in enumerate(requests)]
    await publisher.publish([Output("llm-feedback", v["request_id"], "feedback", v) for v in values])
    await publisher.stop()


async def read(
    bus: Bus, topic: str, until: Callable[[list[RawRecord]], bool], seconds: float = 60.0
) -> list[RawRecord]:
    """Everything on a topic from its beginning, once ``until`` holds."""
    consumer = bus.consumer(topics=[topic], group=None)
    await consumer.start()
    found: list[RawRecord] = []
    try:
        async with asyncio.timeout(seconds):
            while not until(found):
                for records in (await consumer.poll(max_records=1000, timeout_ms=50)).values():
                    found += records
    finally:
        await consumer.stop()
    return found


def ids(records: Sequence[RawRecord]) -> Counter[str]:
    return Counter(codec.decode(r.value or b"").value["event_id"] for r in records)


async def test_every_record_has_its_effect_once(bus: Bus, tmp_path: Path) -> None:
    await publish(bus, ["a", "b", "a", "c", "a"])
    async with running(bus, tmp_path):
        found = await read(bus, "llm-evaluations", lambda r: len(r) >= 5)
    assert ids(found) == Counter(["a-1", "a-2", "a-3", "b-1", "c-1"])


async def test_a_restart_goes_on_where_the_state_ends(bus: Bus, tmp_path: Path) -> None:
    await publish(bus, ["a", "b"])
    async with running(bus, tmp_path):
        await read(bus, "llm-evaluations", lambda r: len(r) >= 2)
    await publish(bus, ["a"], offset=2)
    async with running(bus, tmp_path):
        found = await read(bus, "llm-evaluations", lambda r: len(r) >= 3)
    assert ids(found) == Counter(["a-1", "a-2", "b-1"])


async def test_without_its_state_a_shard_is_rebuilt_whatever_the_group_was_told(bus: Bus, tmp_path: Path) -> None:
    await publish(bus, ["a", "a"])
    async with running(bus, tmp_path / "one"):
        await read(bus, "llm-evaluations", lambda r: len(r) >= 2)
        await asyncio.sleep(0.3)  # the group is told
    async with running(bus, tmp_path / "two"):
        found = await read(bus, "llm-evaluations", lambda r: len(r) >= 4)
    assert ids(found) == Counter({"a-1": 2, "a-2": 2}), "the same ids again: readers know them"


async def test_poison_is_dead_lettered_and_its_neighbours_go_through(bus: Bus, tmp_path: Path) -> None:
    await publish(bus, ["a"])
    producer = bus.producer()
    await producer.start()
    await producer.send_many([Outgoing("llm-feedback", b"a", b"junk"), Outgoing("llm-feedback", b"a", None)])
    await producer.stop()
    await publish(bus, ["a"], offset=1)
    async with running(bus, tmp_path):
        found = await read(bus, "llm-evaluations", lambda r: len(r) >= 2)
        letters = await read(bus, "llm-feedback.dlq", lambda r: len(r) >= 2)
    assert ids(found) == Counter(["a-1", "a-2"])
    assert [codec.decode(r.value or b"").value["reason"] for r in letters] == ["undecodable", "no_value"]


async def test_an_unknown_schema_waits_and_other_partitions_go_on(bus: Bus, tmp_path: Path) -> None:
    producer = bus.producer()
    await producer.start()
    await producer.send_many([Outgoing("llm-feedback", b"a", b"\x00\x00\x00\x99\x99later")])
    await producer.stop()
    count = await bus.partitions("llm-feedback")
    other = next(k for k in "bcdefgh" if partition_of(k.encode(), count) != partition_of(b"a", count))
    await publish(bus, ["a", other])
    async with running(bus, tmp_path) as runner:
        found = await read(bus, "llm-evaluations", lambda r: len(r) >= 1)
        await asyncio.sleep(0.3)
        held = {p.partition for s in runner._shards.values() for p in s.state.offsets}
    assert ids(found) == Counter([f"{other}-1"])
    assert held == {partition_of(other.encode(), count)}, "nothing was taken past the record that waits"


async def test_what_a_crash_left_in_the_outbox_is_sent_without_new_input(bus: Bus, tmp_path: Path) -> None:
    from flywheel.stream import ShardState
    from flywheel.stream.shard import Identity, Shard

    await publish(bus, ["a"])
    count = await bus.partitions("llm-feedback")
    number = partition_of(b"a", count)
    partition = TopicPartition("llm-feedback", number)
    [record] = await read(bus, "llm-feedback", lambda r: len(r) >= 1)
    state = ShardState(tmp_path / "counter" / f"{number}.sqlite")
    dead = Shard(number=number, state=state, codec=codec, identity=Identity("counter", "1"))
    assert await dead.process(dead.sort({partition: [record]}), CountPerRequest())  # and here it is killed
    state.close()
    async with running(bus, tmp_path):
        found = await read(bus, "llm-evaluations", lambda r: len(r) >= 1)
    assert ids(found) == Counter(["a-1"])


async def test_members_that_come_and_go_lose_and_double_nothing(bus: Bus, tmp_path: Path) -> None:
    requests = [f"r{i}" for i in range(200)]
    async with running(bus, tmp_path):
        await publish(bus, requests)
        async with running(bus, tmp_path):
            await publish(bus, requests, offset=200)
            await asyncio.sleep(0.2)
        await publish(bus, requests, offset=400)
        found = await read(bus, "llm-evaluations", lambda r: len(ids(r)) >= 600)
    assert set(ids(found)) == {f"{r}-{n}" for r in requests for n in (1, 2, 3)}


async def test_a_table_is_read_whole_then_followed(bus: Bus) -> None:
    policy = next(iter(examples("policy").values()))
    newest = policy["policy_version"] + 1
    publisher = Publisher(bus, codec, source="test")
    await publisher.start()
    await publisher.publish([Output("policies", "acme/support-answers", "policy", policy)])
    held: dict[str, Any] = {}
    table = CompactedTable(bus, "policies", codec, held.__setitem__)
    task = asyncio.create_task(table.run())
    await asyncio.wait_for(table.ready.wait(), 120)
    assert held["acme/support-answers"]["policy_version"] == policy["policy_version"]
    newer = policy | {"policy_version": newest, "event_id": "newer"}
    await publisher.publish([Output("policies", "acme/support-answers", "policy", newer)])
    async with asyncio.timeout(120):
        while held["acme/support-answers"]["policy_version"] != newest:
            await asyncio.sleep(0.02)
    await publisher.stop()
    await table.stop()
    await task


async def test_dead_letters_that_are_refused_stop_the_partition(tmp_path: Path) -> None:
    bus = MemoryBus(lambda: 1_700_000_000_000)
    bus.refused.add("llm-feedback.dlq")
    bus.append(Outgoing("llm-feedback", b"a", b"junk"))
    await publish(bus, ["a"])
    async with running(bus, tmp_path):
        await asyncio.sleep(0.5)
        assert bus.committed("counter") == {}, "nothing counts as done before its dead letter is acknowledged"
        assert bus.records("llm-evaluations") == []
        bus.refused.clear()
        await read(bus, "llm-feedback.dlq", lambda r: len(r) >= 1)
        found = await read(bus, "llm-evaluations", lambda r: len(r) >= 1)
    assert ids(found) == Counter(["a-1"])
    assert len(bus.records("llm-feedback.dlq")) == 1


class Store:
    """A sink that keeps records and offsets together; away on demand; refuses the value ``junk``."""

    raw = True

    def __init__(self) -> None:
        self.rows: list[RawRecord] = []
        self.away = 0
        self.slow_s = 0.0
        self.not_yet: bytes | None = None

    async def positions(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        await asyncio.sleep(self.slow_s)
        found: dict[TopicPartition, int] = {}
        for row in self.rows:
            found[TopicPartition(row.topic, row.partition)] = row.offset + 1
        return {p: n for p, n in found.items() if p in partitions}

    async def write(self, records: Sequence[RawRecord]) -> dict[int, Reject | Hold]:
        if self.away:
            self.away -= 1
            raise Unavailable("store away", 0.01)
        rejected = {i: Reject("undecodable", None, "junk") for i, r in enumerate(records) if r.value == b"junk"}
        if rejected:
            return dict(rejected)
        have = {(r.topic, r.partition, r.offset) for r in self.rows}
        waiting = {(r.topic, r.partition): r.offset for r in reversed(records) if r.value == self.not_yet}
        held: dict[int, Reject | Hold] = {}
        for i, r in enumerate(records):
            if r.offset >= waiting.get((r.topic, r.partition), r.offset + 1):
                held[i] = Hold("not yet", 0.01)
            elif (r.topic, r.partition, r.offset) not in have:
                self.rows.append(r)
        return held


async def test_a_sink_resumes_from_its_own_store_and_waits_while_that_is_away(bus: Bus, tmp_path: Path) -> None:
    store = Store()
    store.away = 2
    await publish(bus, ["a", "b", "c"])
    producer = bus.producer()
    await producer.start()
    await producer.send_many([Outgoing("llm-feedback", b"a", b"junk")])
    async with running(bus, None, store):
        await read(bus, "llm-feedback.dlq", lambda r: len(r) >= 1)
        async with asyncio.timeout(120):
            while len(store.rows) < 3:
                await asyncio.sleep(0.02)
    await publish(bus, ["d"], offset=3)
    async with running(bus, None, store):
        async with asyncio.timeout(120):
            while len(store.rows) < 4:
                await asyncio.sleep(0.02)
    assert Counter((r.topic, r.partition, r.offset) for r in store.rows).most_common(1)[0][1] == 1
    await producer.stop()


async def test_nothing_is_read_before_it_is_known_where_to_begin(bus: Bus) -> None:
    store = Store()
    store.slow_s = 1.0
    async with running(bus, None, store):
        for at in range(0, 300, 50):  # while the store is still thinking
            await publish(bus, [f"r{at + i}" for i in range(50)], offset=at)
            await asyncio.sleep(0.05)
        async with asyncio.timeout(120):
            while len(store.rows) < 300:
                await asyncio.sleep(0.02)
    assert len({(r.partition, r.offset) for r in store.rows}) == len(store.rows) == 300


async def test_a_record_that_has_to_wait_holds_up_its_own_partition_only(bus: Bus) -> None:
    store = Store()
    store.not_yet = b"later"
    count = await bus.partitions("llm-feedback")
    other = next(k for k in "bcdefgh" if partition_of(k.encode(), count) != partition_of(b"a", count))
    producer = bus.producer()
    await producer.start()
    await producer.send_many([Outgoing("llm-feedback", b"a", b"later"), Outgoing("llm-feedback", b"a", b"junk")])
    await publish(bus, [other])
    async with running(bus, None, store):
        async with asyncio.timeout(120):
            while not store.rows:
                await asyncio.sleep(0.02)
        await publish(bus, [other], offset=1)
        async with asyncio.timeout(120):
            while len(store.rows) < 2:
                await asyncio.sleep(0.02)
        assert {r.key for r in store.rows} == {other.encode()}
        store.not_yet = None
        await read(bus, "llm-feedback.dlq", lambda r: len(r) >= 1)
        async with asyncio.timeout(120):
            while len(store.rows) < 3:
                await asyncio.sleep(0.02)
    assert [r.value for r in store.rows if r.key == b"a"] == [b"later"]
    await producer.stop()
