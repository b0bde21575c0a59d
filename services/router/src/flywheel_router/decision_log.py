"""The decision log: into the journal before the answer, to Kafka after it, in batches. What else a router must not lose
(the gateway's calls) goes the same way, in the same order.

An answered decision survives the death of the process, as the journal is written first. Sending repeats after a crash;
the id of a decision is a hash of what it stands for, so readers drop the second copy.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from flywheel.events import Codec, headers
from flywheel.journal import Entry, Journal, JournalError, JournalFull
from flywheel.observe import Health, Metrics, logger
from flywheel.stream import Outgoing, Unavailable
from flywheel_router.encoding import EVENT, DecisionEncoder

TOPIC: Final = "llm-decisions"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<BqBBH")  # version, occurred_at_us, lengths of event id, traceparent and key
_SORTED_VERSION: Final = 2
"""A record of a sort that stands in the byte after its head; one of version 1 is a decision."""


class Sort(NamedTuple):
    """Events of one kind and where they go."""

    topic: str
    event: str


SORTS: Final = (
    Sort(TOPIC, EVENT), Sort("llm-calls", "llm_call"), Sort("llm-content", "call_content"), Sort("alerts", "alert"),
)  # fmt: skip
"""What a journal may hold, by number; a number never changes its meaning."""
CALL, CONTENT, ALERT = 1, 2, 3
# What is appended is safe already, so it may wait to go with others: a batch of 8 costs five times as much CPU per
# record as one of 64. A larger one would hold up answers while it is handed to the producer; only a log that has fallen
# behind is worth that.
_BATCH_RECORDS: Final = 64
_BEHIND_RECORDS: Final = 512
_CATCH_UP_RECORDS: Final = 256
_LINGER_S: Final = 0.02


class LogFull(Exception):
    """No decision can be logged now, so none may be made. ``retry_after_s`` is a guess at when to ask again."""

    def __init__(self, detail: str, retry_after_s: float = 2.0) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class SendMany(Protocol):
    """The one thing needed of a producer: return when every record is acknowledged, or raise ``Unavailable``."""

    async def send_many(self, records: Sequence[Outgoing]) -> object: ...


class DecisionLog:
    """Appends decisions to a journal and sends what is in it."""

    def __init__(self, journal: Journal, codec: Codec, metrics: Metrics) -> None:
        self._journal = journal
        self._codec = codec
        self._encoder = DecisionEncoder(codec)
        self._metrics = metrics
        self._fresh = asyncio.Event()
        self._sent = asyncio.Event()
        self._hurry = False

    def append(self, event: Mapping[str, Any], traceparent: str | None = None) -> None:
        """Write a decision event where a crash of the process cannot reach it.

        Raises:
            LogFull: the journal's bound or the disk is reached, or its folder cannot be written.
            EventInvalid: the event does not fit its schema.
        """
        self._write(pack(event, self._encoder.encode(event), traceparent))

    def append_other(self, sort: int, key: str, event: Mapping[str, Any], traceparent: str | None = None) -> None:
        """Write an event of another sort (a place in ``SORTS``), which will be sent under ``key``.

        Raises:
            LogFull, EventInvalid: as ``append``.
        """
        value = self._codec.encode(SORTS[sort].event, event)
        self._write(pack_other(sort, key, event, value, traceparent))

    def _write(self, record: bytes) -> None:
        try:
            self._journal.append(record)
        except (JournalFull, OSError) as error:
            self._metrics.count("decision_log_total", verdict="refused")
            raise LogFull(str(error)) from error
        self._fresh.set()

    def fits(self, size_bytes: int) -> bool:
        """Say whether about so many bytes more can be logged."""
        return self._journal.fits(size_bytes)

    @property
    def waiting(self) -> int:
        """Decisions that Kafka has not acknowledged."""
        return self._journal.waiting

    async def emptied(self) -> None:
        """Return when everything is acknowledged."""
        self._hurry = True
        while self._journal.waiting:
            self._sent.clear()
            await self._sent.wait()

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    async def send(self, producer: SendMany, health: Health) -> None:
        """Send for ever what is appended, oldest first; wait and repeat while Kafka is away."""
        log = logger("router.decision_log")
        away = False
        while True:
            self._fresh.clear()
            if not self._journal.unread:
                await self._fresh.wait()
            if self._journal.unread < _BATCH_RECORDS and not self._hurry:
                await asyncio.sleep(_LINGER_S)
            try:
                await send_batch(self._journal, producer, self._metrics)
                if away:
                    log.info("kafka is back", waiting=self._journal.waiting)
                away = False
            except Unavailable as error:
                self._journal.rewind()
                if not away:
                    log.warning("kafka is away; decisions wait in the journal", detail=str(error))
                away = True
                await asyncio.sleep(min(error.retry_after_s, 5.0))
            self._sent.set()
            self._report(health, away)

    def _report(self, health: Health, away: bool) -> None:
        waiting, size_bytes = self._journal.waiting, self._journal.size_bytes
        self._metrics.gauge("decision_log_pending", waiting)
        self._metrics.gauge("dependency_up", 0 if away else 1, dependency="kafka")
        full = size_bytes > 0.98 * self._journal.max_bytes
        health.set_ready("decision_log", not full, f"{waiting} decisions wait in {size_bytes} bytes")


async def send_batch(journal: Journal, producer: SendMany, metrics: Metrics) -> None:
    """Send the next batch of a journal and acknowledge it there.

    Raises:
        Unavailable: Kafka is away; what was not acknowledged is still in the journal, behind its cursor.
    """
    entries = journal.read(limit=_BATCH_RECORDS if journal.unread < _BEHIND_RECORDS else _CATCH_UP_RECORDS)
    if entries:
        await producer.send_many([unpack(entry) for entry in entries])
        journal.acknowledge(entries[-1].sequence)
        metrics.count("decision_log_total", len(entries), verdict="acknowledged")


def pack(event: Mapping[str, Any], value: bytes, traceparent: str | None) -> bytes:
    """One record of the journal: what is needed to send the decision later."""
    identity, key, trace = event["event_id"].encode(), event["request_id"].encode(), (traceparent or "").encode()
    head = _HEAD.pack(_VERSION, event["occurred_at"], len(identity), len(trace), len(key))
    return b"".join((head, identity, trace, key, value))


def pack_other(sort: int, key: str, event: Mapping[str, Any], value: bytes, traceparent: str | None) -> bytes:
    """One record of the journal that is no decision."""
    identity, name, trace = event["event_id"].encode(), key.encode(), (traceparent or "").encode()
    head = _HEAD.pack(_SORTED_VERSION, event["occurred_at"], len(identity), len(trace), len(name))
    return b"".join((head, bytes((sort,)), identity, trace, name, value))


def unpack(entry: Entry) -> Outgoing:
    """The Kafka record that an entry of the journal stands for.

    Raises:
        JournalError: the entry was written by another version of this code.
    """
    data = entry.payload
    version, occurred_at_us, id_length, trace_length, key_length = _HEAD.unpack_from(data)
    start, sort = _HEAD.size, 0
    if version == _SORTED_VERSION:
        start, sort = start + 1, data[start]
    if version not in (_VERSION, _SORTED_VERSION) or sort >= len(SORTS):
        raise JournalError(f"record {entry.sequence} has format {version}.{sort}, which this code does not read")
    id_end = start + id_length
    trace_end = id_end + trace_length
    key_end = trace_end + key_length
    return Outgoing(
        topic=SORTS[sort].topic,
        key=data[trace_end:key_end],
        value=data[key_end:],
        headers=headers(
            event=SORTS[sort].event,
            event_id=data[start:id_end].decode(),
            source="router",
            occurred_at_us=occurred_at_us,
            traceparent=data[id_end:trace_end].decode() or None,
        ),
    )
