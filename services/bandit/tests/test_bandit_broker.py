"""What a bandit's shard says of its sums, at its largest, through a real broker."""

from __future__ import annotations

import asyncio

import pytest

from flywheel.events import Codec, LocalRegistry, topics
from flywheel.local.topic_admin import create_topics
from flywheel.stream import KafkaBus, Output, Publisher
from flywheel_bandit.core.learned import moments_of

pytest_plugins = ["flywheel.local.fixtures"]
pytestmark = pytest.mark.broker


async def test_the_largest_summary_is_read_back_bit_for_bit(facts, private_kafka):
    bootstrap = private_kafka().bootstrap
    await create_topics(bootstrap, topics().values())
    codec, largest = Codec(LocalRegistry.load()), facts.largest()
    publisher = Publisher(KafkaBus(bootstrap), codec, source="test")
    await publisher.start()
    await publisher.publish([Output("arm-summaries", "p/f/0", "arm_summary", largest.summary)] * 2)
    await publisher.stop()
    consumer, read = KafkaBus(bootstrap).consumer(topics=["arm-summaries"], group=None), []
    await consumer.start()
    async with asyncio.timeout(120):
        while len(read) < 2:
            for records in (await consumer.poll(max_records=100, timeout_ms=500)).values():
                read += [codec.decode(record.value or b"").value for record in records]
    await consumer.stop()
    assert [list(moments_of(each).rows()) for each in read] == [list(largest.moments.rows())] * 2
