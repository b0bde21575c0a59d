"""Producing to Apache Kafka through aiokafka: whole batches per partition, idempotent, and never later than asked."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

import aiokafka
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, ProducerClosed

from flywheel.observe import logger
from flywheel.stream.errors import Unavailable
from flywheel.stream.kafka_connections import mend
from flywheel.stream.types import Outgoing

log = logger("stream.kafka")
ROUND_TRIP_S = 10.0
PATIENCE_S = 1.0
_M, _32 = 0x5BD1E995, 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition Kafka's default partitioner gives a key (murmur2), so that equal keys meet in every client."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """MurmurHash2 with Kafka's seed (Appleby, 2008); aiokafka's goes byte by byte and costs five times as much."""
    length = len(data)
    hashed = 0x9747B28C ^ length
    words = length >> 2
    for word in struct.unpack_from(f"<{words}I", data):
        mixed = word * _M & _32
        hashed = (hashed * _M & _32) ^ ((mixed ^ mixed >> 24) * _M & _32)
    tail = data[words << 2 :]
    if tail:
        hashed = (hashed ^ int.from_bytes(tail, "little")) * _M & _32
    hashed = (hashed ^ hashed >> 13) * _M & _32
    return hashed ^ hashed >> 15


class KafkaProducer:
    """See `flywheel.stream.ports.Producer`; whole batches per partition, as a `send` per record costs far more.

    After a send whose end is not known the client is thrown away with everything it still held: its sequence numbers
    may have a gap that the broker would refuse for ever, and what it held would be emitted at some later time, perhaps
    from a partition that belongs to somebody else by then.
    """

    def __init__(self, common: Mapping[str, Any], *, round_trip_s: float = ROUND_TRIP_S) -> None:
        self._common = common
        self._round_trip_s = round_trip_s
        self._client: Any = None
        self._starting = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect. Raises Unavailable."""
        await self._connected()

    async def stop(self) -> None:
        """Send what was handed over, at most for one round trip, and disconnect."""
        client, self._client = self._client, None
        if client is not None:
            try:
                async with asyncio.timeout(self._round_trip_s):
                    await client.stop()
            except TimeoutError:
                _empty(client)
                await _close(client)
        if self._ending:
            await asyncio.wait(self._ending)

    async def send_many(self, records: Sequence[Outgoing]) -> None:
        """See the port.

        Raises:
            ValueError: a record is larger than the broker takes.
        """
        client = await self._connected()
        started = monotonic()
        try:
            async with asyncio.timeout(self._round_trip_s):
                acks = []
                for topic in dict.fromkeys(record.topic for record in records):
                    count = len(await client.partitions_for(topic))
                    lists: list[list[Outgoing]] = [[] for _ in range(count)]
                    for record in records:
                        if record.topic == topic:
                            lists[partition_of(record.partition_key or record.key or b"", count)].append(record)
                    for partition, some in enumerate(lists):
                        if some:
                            acks += await _enqueue(client, topic, partition, some)
                await asyncio.gather(*acks)
        except MessageSizeTooLargeError as error:
            self._drop(client)
            raise ValueError("a record is larger than the broker takes") from error
        except (KafkaError, OSError, TimeoutError) as error:
            self._drop(client)
            raise Unavailable(f"producing: {error!r}") from error
        except asyncio.CancelledError:
            if monotonic() - started > PATIENCE_S:  # the caller gave up on a broker that does not answer
                self._drop(client)
            raise

    async def abandon(self) -> None:
        """Emit nothing of what is not acknowledged yet: sends under way fail, the next one connects anew."""
        if self._client is not None:
            self._drop(self._client)

    async def _connected(self) -> Any:
        async with self._starting:
            if self._client is None:
                client = aiokafka.AIOKafkaProducer(
                    **self._common,
                    acks="all",
                    enable_idempotence=True,
                    compression_type="lz4",
                    max_batch_size=512 * 1024,
                    linger_ms=0,
                )
                mend(client.client)
                try:
                    await client.start()
                except (KafkaError, OSError) as error:
                    await client.stop()
                    raise Unavailable(f"connecting the producer: {error!r}") from error
                self._client = client
            return self._client

    def _drop(self, client: Any) -> None:
        if self._client is client:
            self._client = None
            _empty(client)
            task = asyncio.create_task(_close(client))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


def _empty(client: Any) -> None:
    """Drop what a client holds; reaches into aiokafka 0.14, which has no public way (a test holds it to that)."""
    accumulator = client._message_accumulator
    accumulator.fail_all(ProducerClosed())
    for batch in (*accumulator._pending_batches, *(b for queue in accumulator._batches.values() for b in queue)):
        _looked_at(batch._drain_waiter)
        _looked_at(batch.future)
    accumulator._batches.clear()


async def _close(client: Any) -> None:
    try:
        await client.stop()
    except (KafkaError, OSError) as error:
        log.warning("closing_producer", why=repr(error))


async def _enqueue(client: Any, topic: str, partition: int, records: Sequence[Outgoing]) -> list[Any]:
    acks = []
    batch = client.create_batch()
    for record in records:
        headers = list(record.headers)
        if batch.append(key=record.key, value=record.value, timestamp=None, headers=headers) is None:
            acks.append(await _send(client, batch, topic, partition))
            batch = client.create_batch()
            if batch.append(key=record.key, value=record.value, timestamp=None, headers=headers) is None:
                raise ValueError(f"a record for {topic} is larger than a batch")
    acks.append(await _send(client, batch, topic, partition))
    return acks


async def _send(client: Any, batch: Any, topic: str, partition: int) -> Any:
    batch.close()
    ack = await client.send_batch(batch, topic, partition=partition)
    ack.add_done_callback(_looked_at)
    return ack


def _looked_at(ack: asyncio.Future[Any]) -> None:
    """Take the exception, so that a send given up half-way is not reported a second time by the event loop."""
    if ack.done() and not ack.cancelled():
        ack.exception()
