"""Dead letters on the running Kafka: read whole from their own topics, put back, noted. Reads without a group."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from flywheel.cli.live_topics import KafkaAway, live_partitions
from flywheel.events import Codec, load_registry, topics
from flywheel.stream import KafkaBus, Outgoing, Output, Producer, Publisher, RawRecord, Reject, Unavailable
from flywheel.stream.letters import Letter, Move, Standing, note, read_letter, replayed_record, standings
from flywheel.stream.records import decode

ACTIONS: Final = "dead-letter-actions"
SILENCE_S: Final = 20.0
"""Without a record for so long, and not at the end, reading is given up."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters: of this source topic, reason, service, refused at or after this time (microseconds)."""

    topic: str | None = None
    reason: str | None = None
    service: str | None = None
    since_us: int | None = None

    def takes(self, letter: Letter) -> bool:
        """Whether a letter is among them."""
        value = letter.value
        return (
            self.topic in (None, letter.topic)
            and self.reason in (None, value["reason"])
            and self.service in (None, letter.service)
            and (self.since_us is None or value["occurred_at"] >= self.since_us)
        )


@dataclass(frozen=True, slots=True)
class Post:
    """A connection: the bus, the codec, and how many partitions each topic has."""

    bus: KafkaBus
    codec: Codec
    partitions: Mapping[str, Sequence[int]]


@asynccontextmanager
async def post(bootstrap: str) -> AsyncIterator[Post]:
    """Connects; inside, a broker that goes away raises ``KafkaAway``."""
    partitions = await live_partitions(bootstrap)
    try:
        yield Post(KafkaBus(bootstrap, client_id="flywheel-cli"), Codec(load_registry()), partitions)
    except (Unavailable, TimeoutError) as error:
        raise KafkaAway(f"dead letters on Kafka at {bootstrap}: {error or 'no answer in time'}") from error


async def read_standings(at: Post, keeps_value: Callable[[Letter], bool]) -> list[Standing]:
    """Every letter with where it stands; the records' bytes only of those ``keeps_value`` names, as they may be many.

    Raises:
        Unavailable: Kafka is away.
    """
    letters: dict[str, Letter] = {}

    def take(record: RawRecord) -> None:
        decoded = decode(at.codec, record)
        if decoded is None or isinstance(decoded, Reject):
            return  # somebody else wrote into the dead letters: no letter
        letter = read_letter(decoded.value)
        if not keeps_value(letter):
            kept = {name: value for name, value in letter.value.items() if name not in ("value", "headers")}
            letter = Letter(kept, letter.case, letter.replays)
        letters[letter.id] = letter

    actions: list[Mapping[str, Any]] = []

    def act(record: RawRecord) -> None:
        decoded = decode(at.codec, record)
        if decoded is not None and not isinstance(decoded, Reject):
            actions.append(decoded.value)

    await _read_all(at, sorted(t.dlq for t in topics().values() if t.dlq in at.partitions and t.dlq), take)
    await _read_all(at, [ACTIONS] if ACTIONS in at.partitions else [], act)
    return standings(letters.values(), actions)


async def _read_all(at: Post, names: Sequence[str], take: Callable[[RawRecord], None]) -> None:
    """Give ``take`` every record that was there when asked."""
    if not names:
        return
    consumer = at.bus.consumer(topics=names, group=None)
    try:
        await consumer.start()
        partitions = sorted(consumer.assignment())
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, begins[partition])
        left = {p: ends[p] for p in partitions if begins[p] < ends[p]}
        heard = time.monotonic()
        while left:
            polled = await consumer.poll(max_records=2000, timeout_ms=300)
            for partition, records in polled.items():
                heard = time.monotonic()
                for record in records:
                    if record.offset < ends[partition]:
                        take(record)
                if records and records[-1].offset + 1 >= ends[partition]:
                    left.pop(partition, None)
            if time.monotonic() - heard > SILENCE_S:
                raise Unavailable(f"{', '.join(sorted({p.topic for p in left}))} could not be read to the end")
    finally:
        await consumer.stop()


async def carry_out(at: Post, moves: Sequence[Move], *, done: Callable[[Move], None]) -> None:
    """Send and drop, one record after the other, each noted before the next; ``done`` hears of each.

    A kill between a record and its note leaves the note out: the next run sends the record again with the same count,
    which the runner knows for a repeat, and notes it then. Never is something noted that was not sent.

    Raises:
        Unavailable: what ``done`` heard of is done; the next one may be.
    """
    publisher, producer = Publisher(at.bus, at.codec, source="cli"), at.bus.producer()
    try:
        for move in moves:
            if move.action == "send":
                await _send(producer, replayed_record(move, len(at.partitions[move.letters[0].topic])))
                await _note(publisher, move, "REPLAYED")
            elif move.action == "drop":
                await _note(publisher, move, "DROPPED")
            done(move)
    finally:
        await publisher.stop()
        await producer.stop()


async def _send(producer: Producer, record: Outgoing) -> None:
    await producer.send_many([record])


async def _note(publisher: Publisher, move: Move, action: Any) -> None:
    now_us = time.time_ns() // 1000
    notes = [note(letter, action, move.replays, now_us=now_us) for letter in move.letters]
    await publisher.publish([Output(ACTIONS, n["letter_id"], "dead_letter_action", n) for n in notes])
