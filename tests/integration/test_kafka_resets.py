"""Connections that are reset under a consumer and a producer: both go on, on the event loop that services use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from flywheel.local.kafka import KafkaNode
from flywheel.stream import KafkaBus, Outgoing, Unavailable
from flywheel.testkit.proxy import FaultProxy

pytest_plugins = ["flywheel.local.fixtures"]
TOPIC, RESETS = "llm-feedback", 25


async def read_through_resets(bootstrap: str, proxy: FaultProxy) -> list[bytes]:
    """Write and read a record after each reset; returns the values read, in order, each at its first reading."""
    bus = KafkaBus(bootstrap)
    await bus.ensure_topics([TOPIC])
    consumer, producer = bus.consumer(topics=[TOPIC], group=None), bus.producer()
    await consumer.start()
    await producer.start()
    found: dict[bytes, None] = {}
    async with asyncio.timeout(200):
        for number in range(RESETS):
            value = b"%d" % number
            while value not in found:
                try:
                    if number not in {int(v) for v in found}:
                        await producer.send_many([Outgoing(TOPIC, b"k", value)])
                    for records in (await consumer.poll(max_records=10, timeout_ms=300)).values():
                        found |= {record.value or b"": None for record in records}
                except Unavailable:
                    await asyncio.sleep(0.1)
            proxy.cut()
            await asyncio.sleep(0.01 * (number % 5))
    await consumer.stop()
    await producer.stop()
    return list(found)


@pytest.mark.broker
@pytest.mark.timeout(300)
def test_a_reader_and_a_writer_outlive_resets(private_kafka: Callable[..., KafkaNode]) -> None:
    with FaultProxy() as proxy:
        node = private_kafka(advertised=proxy.address)
        proxy.target_port = node.port
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(read_through_resets(node.bootstrap, proxy))
        assert found == [b"%d" % number for number in range(RESETS)]
        assert proxy.seen.cut > RESETS
