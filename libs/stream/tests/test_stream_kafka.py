"""The aiokafka shell against a real broker: what it adds to, and takes away from, the client it stands on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiokafka
import pytest
from aiokafka.partitioner import murmur2 as their_murmur2
from hypothesis import given
from hypothesis import strategies as st

from flywheel.stream import KafkaBus, Outgoing, TopicPartition, Unavailable
from flywheel.stream.kafka_producer import KafkaProducer, murmur2

pytest_plugins = ["flywheel.local.fixtures"]


@given(st.binary(max_size=70))
def test_our_hash_is_kafkas(key: bytes) -> None:
    assert murmur2(key) == their_murmur2(key)


async def everything(bootstrap: str, topic: str) -> list[aiokafka.ConsumerRecord]:
    consumer = aiokafka.AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    ends = await consumer.end_offsets(sorted(consumer.assignment()))
    found: list[aiokafka.ConsumerRecord] = []
    while any([await consumer.position(p) < end for p, end in ends.items()]):
        for records in (await consumer.getmany(timeout_ms=200)).values():
            found += records
    await consumer.stop()
    return found


@pytest.mark.broker
async def test_batches_keep_order_headers_keys_and_idempotence(kafka: object, kafka_topic: Callable[..., str]) -> None:
    topic = kafka_topic(partitions=3)
    producer = KafkaBus(kafka.bootstrap).producer()  # type: ignore[attr-defined]
    await producer.start()
    records = [Outgoing(topic, f"k{i % 7}".encode(), b"%d" % i * 300, [("h", b"%d" % i)]) for i in range(9000)]
    await asyncio.gather(*(producer.send_many(records[at : at + 3000]) for at in (0, 3000, 6000)))
    await producer.stop()
    found = await everything(kafka.bootstrap, topic)  # type: ignore[attr-defined]
    assert sorted((r.key, r.value) for r in found) == sorted((r.key, r.value) for r in records)
    for partition in range(3):
        numbers = [int(r.headers[0][1]) for r in found if r.partition == partition]
        for start in (0, 3000, 6000):  # each send keeps its own order; sends at once may follow each other in any
            mine = [n for n in numbers if start <= n < start + 3000]
            assert mine == sorted(mine)


@pytest.mark.broker
async def test_what_was_given_up_is_never_emitted_later(private_kafka: Callable[..., object]) -> None:
    node = private_kafka()
    bootstrap = node.bootstrap  # type: ignore[attr-defined]
    admin = aiokafka.admin.AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([aiokafka.admin.NewTopic("t", 1, 1)])
    await admin.close()
    producer = KafkaProducer({"bootstrap_servers": bootstrap}, round_trip_s=2.0)
    await producer.start()
    await producer.send_many([Outgoing("t", b"k", b"before")])
    node.kill()  # type: ignore[attr-defined]
    for _ in range(2):
        with pytest.raises(Unavailable):
            await producer.send_many([Outgoing("t", b"k", b"given up")])
    await asyncio.to_thread(node.restart)  # type: ignore[attr-defined]
    async with asyncio.timeout(120):
        while True:
            try:
                await producer.send_many([Outgoing("t", b"k", b"after")])
                break
            except Unavailable:
                await asyncio.sleep(0.2)
    await producer.stop()
    values = [r.value for r in await everything(bootstrap, "t")]
    assert b"given up" not in values
    assert (values[0], values[-1]) == (b"before", b"after")


@pytest.mark.broker
async def test_a_partition_number_of_all_topics_stays_with_one_member(
    kafka: object, kafka_topic: Callable[..., str]
) -> None:
    topics = [kafka_topic(partitions=5, name=n) for n in ("calls", "decisions", "feedback")]
    bus = KafkaBus(kafka.bootstrap)  # type: ignore[attr-defined]

    class Quiet:
        async def assigned(self, partitions: object) -> None: ...

        async def revoked(self, partitions: object) -> None: ...

    members = [bus.consumer(topics=topics, group=topics[0], listener=Quiet()) for _ in range(3)]
    await asyncio.gather(*(m.start() for m in members))
    everywhere = {TopicPartition(t, n) for t in topics for n in range(5)}
    async with asyncio.timeout(120):
        while True:
            held = [m.assignment() for m in members]
            if all(held) and sum(map(len, held)) == len(everywhere) and frozenset().union(*held) == everywhere:
                break
            await asyncio.gather(*(m.poll(max_records=1, timeout_ms=50) for m in members))
    for one in held:
        numbers = {p.partition for p in one}
        assert one == {TopicPartition(t, n) for t in topics for n in numbers}
    await asyncio.gather(*(m.stop() for m in members))
