"""Stage 1 run over recorded facts, without a broker: the states it would have left."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.events import Codec, load_registry
from flywheel.stream import Event, Outgoing, ShardState, TopicPartition
from flywheel.stream.outbox import pack
from flywheel.stream.shard import Batch, Identity, Shard
from flywheel_bandit.adapters import CharterShelf
from flywheel_bandit.core import OutcomeFold
from flywheel_bandit.core.outcomes import SUMMARIES_TOPIC
from flywheel_bandit.kafka_edges import charters_on_the_log
from flywheel_bandit.recorded import Recorded
from flywheel_bandit.settings import BanditSettings
from flywheel_bandit.wiring import NAME, VERSION


@dataclass(frozen=True, slots=True)
class Replayed:
    """Rows folded of each partition, and the digest of each shard's state by the file's name."""

    rows: Mapping[TopicPartition, int]
    digests: Mapping[str, str]


class _Unsent:
    """Takes what a fold tells instead of a broker: outcomes and dead letters were sent long ago; of the summaries the
    newest of each feature is kept, as it stands for all before it."""

    def __init__(self) -> None:
        self.summaries: dict[bytes | None, Outgoing] = {}

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""

    async def abandon(self) -> None:
        """Nothing is under way."""

    async def send_many(self, records: Sequence[Outgoing]) -> None:
        """Keep the newest summaries."""
        self.summaries.update({record.key: record for record in records if record.topic == SUMMARIES_TOPIC})


async def replay(
    settings: BanditSettings, recorded: Recorded, until: Mapping[TopicPartition, int], folder: Path
) -> Replayed:
    """Fold every recorded fact below these offsets into new states in ``folder``, one a shard; each reads on at its
    offsets, and has the newest summary of each feature in its outbox, as the last one may have been lost with the disk.

    Raises:
        NotReadable: ClickHouse does not answer.
        Unavailable: Kafka, which has the charters, does not answer.
    """
    charters = {event["event_id"]: event for event in recorded.charters()}
    charters |= {event["event_id"]: event for event in await charters_on_the_log(settings.kafka_bootstrap)}
    coming = sorted(charters.values(), key=lambda event: (event["occurred_at"], event["revision"]))
    coming.reverse()
    shelf = CharterShelf()
    fold = OutcomeFold(lambda: shelf.book, settings.join)
    codec = Codec(load_registry())
    numbers = sorted({tp.partition for tp in until})
    shards = {
        number: Shard(
            number=number,
            state=ShardState(folder / f"{number}.sqlite"),
            codec=codec,
            identity=Identity(NAME, VERSION),
        )
        for number in numbers
    }
    kept = {number: _Unsent() for number in numbers}
    rows: Counter[TopicPartition] = Counter()
    for events in recorded.windows(until):
        _follow(shelf, coming, events)
        for number, some in _by_shard(events).items():
            for start in range(0, len(some), settings.batch_records):
                batch = _batch(some[start : start + settings.batch_records])
                await shards[number].process(batch, fold)
                await shards[number].flush(kept[number])
        rows.update(TopicPartition(event.topic, event.partition) for event in events)
        print(f"{rows.total()} facts folded", file=sys.stderr, flush=True)
    digests = {}
    for number, shard in shards.items():
        _finish(shard.state, {tp: end for tp, end in until.items() if tp.partition == number}, kept[number])
        digests[f"{number}.sqlite"] = shard.state.digest()
        shard.state.close()
    return Replayed(rows, digests)


def _follow(shelf: CharterShelf, coming: list[dict[str, Any]], events: Sequence[Event]) -> None:
    """Take over the charters applied before the last of these facts came: a state keeps only so many revisions, and
    with all of them known from the start the oldest would never have been."""
    newest_us = max((event.raw.timestamp_ms for event in events), default=0) * 1000
    while coming and coming[-1]["occurred_at"] <= newest_us:
        event = coming.pop()
        shelf.update(f"{event['project']}/{event['feature']}", event)


def _by_shard(events: Sequence[Event]) -> dict[int, list[Event]]:
    found: dict[int, list[Event]] = {}
    for event in events:
        found.setdefault(event.partition, []).append(event)
    return found


def _batch(events: Sequence[Event]) -> Batch:
    batch = Batch(events=list(events))
    for event in events:
        batch.offsets[TopicPartition(event.topic, event.partition)] = event.offset + 1
    return batch


def _finish(state: ShardState, offsets: Mapping[TopicPartition, int], kept: _Unsent) -> None:
    """Write where to read on, past records that left no row, and what is to be told again."""
    records = [kept.summaries[key] for key in sorted(kept.summaries, key=lambda key: key or b"")]
    state.commit(
        state.view(), offsets=offsets, marks={}, emitted=state.emitted, outbox=pack(records) if records else None
    )
