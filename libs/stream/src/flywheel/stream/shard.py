"""One shard in one process: partition ``i`` of every input topic, its state, and what is under way for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flywheel.events import Codec
from flywheel.stream.outbox import pack, unpack
from flywheel.stream.ports import Fold, Producer
from flywheel.stream.records import Lineage, dead_letter, decode, frame, lineage
from flywheel.stream.state import BatchView, ShardState
from flywheel.stream.types import Event, Outgoing, RawRecord, Reject, Skip, TopicPartition, Verdict

IN_A_THREAD_FROM = 200
"""Records from which a fold leaves the event loop, so that the member goes on heartbeating meanwhile."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who processes: goes into derived ids and dead letters."""

    service: str
    version: str


@dataclass(slots=True)
class Batch:
    """A shard's records sorted out: events to fold, verdicts already known, and how far each partition is read."""

    events: list[Event] = field(default_factory=list)
    letters: dict[tuple[str, int, int], Outgoing] = field(default_factory=dict)
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    marks: dict[tuple[str, str], int] = field(default_factory=dict)
    verdicts: list[tuple[str, Verdict]] = field(default_factory=list)
    unknown: dict[TopicPartition, int] = field(default_factory=dict)
    repeats: int = 0


class Shard:
    """Folds batches into its state; after `revoke` it neither commits nor emits.

    Attributes:
        unsent: whether the outbox holds anything.
        acknowledged: next offsets as of when the outbox was last empty; what the group may be told.
    """

    def __init__(self, *, number: int, state: ShardState, codec: Codec, identity: Identity) -> None:
        self.number = number
        self.state = state
        self.revoked = False
        self.unsent = bool(state.outbox())
        self.acknowledged: Mapping[TopicPartition, int] = {} if self.unsent else dict(state.offsets)
        self._codec = codec
        self._identity = identity
        self._source = f"{identity.service}/{number}/{state.incarnation}"
        self._busy = asyncio.Lock()

    def sort(self, records: Mapping[TopicPartition, Sequence[RawRecord]]) -> Batch:
        """Decode records and settle what needs no fold: repeats, undecodable ones, unknown schemas (to wait for)."""
        batch = Batch()
        for partition, some in sorted(records.items()):
            expected = self.state.offsets.get(partition, 0)
            for record in some:
                if record.offset < expected:  # fetched before a seek took hold
                    continue
                if not self._take(record, batch):
                    batch.unknown[partition] = record.offset
                    break
                batch.offsets[partition] = record.offset + 1
        return batch

    def _take(self, record: RawRecord, batch: Batch) -> bool:
        found = lineage(record)
        if found is not None:
            key = (record.topic, found.source)
            if found.sequence <= batch.marks.get(key, self.state.marks.get(key, -1)):
                batch.repeats += 1
                return True
            batch.marks[key] = found.sequence
        decoded = decode(self._codec, record)
        if decoded is None:
            return False
        if isinstance(decoded, Reject):
            self._refuse(batch, record, decoded)
        else:
            batch.events.append(decoded)
        return True

    def _refuse(self, batch: Batch, record: RawRecord, verdict: Verdict) -> None:
        batch.verdicts.append((record.topic, verdict))
        if isinstance(verdict, Skip):
            return
        letter = dead_letter(
            self._codec, record, verdict, service=self._identity.service, version=self._identity.version
        )
        if letter is not None:
            batch.letters[record.topic, record.partition, record.offset] = letter

    async def process(self, batch: Batch, step: Fold) -> bool:
        """Fold a batch and commit it with its offsets and outbox in one transaction; False when revoked meanwhile."""
        async with self._busy:
            view = self.state.view()
            if len(batch.events) >= IN_A_THREAD_FROM:
                outgoing, emitted = await asyncio.to_thread(self._fold, batch, step, view)
            else:
                outgoing, emitted = self._fold(batch, step, view)
            if self.revoked:  # no await from here to the end of the commit: flag and commit are one act
                return False
            self.state.commit(
                view,
                offsets=batch.offsets,
                marks=batch.marks,
                emitted=emitted,
                outbox=pack(outgoing) if outgoing else None,
            )
            self.unsent = self.unsent or bool(outgoing)
            return True

    def _fold(self, batch: Batch, step: Fold, view: BatchView) -> tuple[list[Outgoing], int]:
        emitted = self.state.emitted
        outgoing: list[Outgoing] = []
        if batch.events:
            result = step.fold(self.number, batch.events, view)
            for index, verdict in sorted(result.verdicts.items()):
                self._refuse(batch, batch.events[index].raw, verdict)
            for output in result.outputs:
                made = Lineage(self._source, emitted)
                outgoing.append(frame(self._codec, output, service=self._identity.service, emitted=made))
                emitted += 1
        letters = [batch.letters[place] for place in sorted(batch.letters)]  # however the batch was cut
        return letters + outgoing, emitted

    async def flush(self, producer: Producer) -> int:
        """Send what the outbox holds, oldest first; returns how many records. Raises Unavailable."""
        if not self.unsent:
            self.acknowledged = dict(self.state.offsets)
            return 0
        sent = 0
        for sequence, blob in self.state.outbox():
            if self.revoked:
                return sent
            records = unpack(blob)
            await producer.send_many(records)
            if self.revoked:
                return sent + len(records)
            self.state.sent(sequence)
            sent += len(records)
        self.unsent, self.acknowledged = False, dict(self.state.offsets)
        return sent

    async def revoke(self, deadline_s: float) -> None:
        """Let a batch under way finish within the deadline, then let go; what is not committed by then never is."""
        try:
            async with asyncio.timeout(deadline_s), self._busy:
                self.revoked = True
        except TimeoutError:
            self.revoked = True
            return  # a thread still folds over this state; it is closed when that ends
        self.state.close()
