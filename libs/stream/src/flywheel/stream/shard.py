"""One shard in one process: partition ``i`` of every input topic, its state, and what is under way for it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flywheel.events import Codec
from flywheel.observe import logger
from flywheel.stream.errors import Fatal, Revoked
from flywheel.stream.faults import Faults
from flywheel.stream.outbox import pack, unpack
from flywheel.stream.ports import Fold, Producer
from flywheel.stream.records import Lineage, dead_letter, decode, frame, lineage
from flywheel.stream.state import BatchView, ShardState
from flywheel.stream.types import Event, Outgoing, Output, RawRecord, Reject, Skip, TopicPartition, Verdict

log = logger("stream.shard")
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
    taken: dict[TopicPartition, int] = field(default_factory=dict)
    refused: Counter[TopicPartition] = field(default_factory=Counter)
    marks: dict[tuple[str, str], int] = field(default_factory=dict)
    verdicts: list[tuple[str, Verdict]] = field(default_factory=list)
    unknown: dict[TopicPartition, int] = field(default_factory=dict)
    repeats: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Unsent:
    """One batch's outbox: its number, the records unless only the disk has them, and how far its inputs were read."""

    sequence: int
    records: Sequence[Outgoing] | bytes
    offsets: Mapping[TopicPartition, int]


class Shard:
    """Folds batches into its state; after `revoke` it neither commits nor emits.

    Attributes:
        ends: where the log ended when the shard was taken over, of partitions that were not read so far then.
        acknowledged: next offsets as of the last batch whose outbox is acknowledged; what the group may be told.
    """

    def __init__(
        self, *, number: int, state: ShardState, codec: Codec, identity: Identity, faults: Faults | None = None
    ) -> None:
        self.number = number
        self.state = state
        self.revoked = False
        self.ends: dict[TopicPartition, int] = {}
        self._outbox = deque(_Unsent(sequence, blob, dict(state.offsets)) for sequence, blob in state.outbox())
        self.acknowledged: Mapping[TopicPartition, int] = {} if self._outbox else dict(state.offsets)
        self._codec = codec
        self._identity = identity
        self._faults = faults or Faults()
        self._source = f"{identity.service}/{number}/{state.incarnation}"
        self._busy = asyncio.Lock()
        self._sending = asyncio.Lock()

    def _catching_up(self) -> bool:
        # A copy: this runs in the fold's thread, and a take-over may write there meanwhile.
        return any(self.state.offsets.get(p, 0) < end for p, end in tuple(self.ends.items()))

    @property
    def unsent(self) -> int:
        """Batches committed and not yet acknowledged by the broker."""
        return len(self._outbox)

    @property
    def unsent_records(self) -> int:
        """Records of those batches; what a crash left on disk counts as one a batch until it is read."""
        return sum(1 if isinstance(u.records, bytes) else len(u.records) for u in self._outbox)

    def sort(self, records: Mapping[TopicPartition, Sequence[RawRecord]]) -> Batch:
        """Decode records and settle what needs no fold: repeats, undecodable ones, unknown schemas (to wait for)."""
        batch = Batch()
        for partition, some in sorted(records.items()):
            expected = self.state.offsets.get(partition, 0)
            taken = 0
            for record in some:
                if record.offset < expected:  # fetched before a seek took hold
                    continue
                if not self._take(record, batch):
                    batch.unknown[partition] = record.offset
                    break
                batch.offsets[partition] = record.offset + 1
                taken += 1
            batch.taken[partition] = taken
        return batch

    def _take(self, record: RawRecord, batch: Batch) -> bool:
        found = lineage(record)
        if found is not None:
            key = (record.topic, found.source)
            if found.sequence <= batch.marks.get(key, self.state.marks.get(key, -1)):
                batch.repeats[record.topic] += 1
                return True
        decoded = decode(self._codec, record)
        if decoded is None:
            return False
        if found is not None:
            batch.marks[record.topic, found.source] = found.sequence
        if isinstance(decoded, Reject):
            self._refuse(batch, record, decoded)
        else:
            batch.events.append(decoded)
        return True

    def _refuse(self, batch: Batch, record: RawRecord, verdict: Verdict) -> None:
        batch.verdicts.append((record.topic, verdict))
        if isinstance(verdict, Skip):
            return
        batch.refused[TopicPartition(record.topic, record.partition)] += 1
        letter = dead_letter(
            self._codec, record, verdict, service=self._identity.service, version=self._identity.version
        )
        if letter is not None:
            batch.letters[record.topic, record.partition, record.offset] = letter

    async def take(self, records: Mapping[TopicPartition, Sequence[RawRecord]], step: Fold) -> Batch | None:
        """Decode, fold and commit; None when the partition was revoked meanwhile, and then nothing happened."""
        async with self._busy:
            if self.revoked:
                return None
            if sum(map(len, records.values())) < IN_A_THREAD_FROM:
                made = self._make(self.sort(records), step)
            else:
                made = await asyncio.to_thread(lambda: self._make(self.sort(records), step))
            return made[0] if self._commit(*made) else None

    async def process(self, batch: Batch, step: Fold) -> bool:
        """Fold a sorted batch and commit it with its offsets and outbox in one transaction; False when revoked."""
        async with self._busy:
            return self._commit(*self._make(batch, step))

    def _commit(self, batch: Batch, view: BatchView, outgoing: Sequence[Outgoing], emitted: int) -> bool:
        """No await in here: the look at ``revoked`` and the commit are one act."""
        if self.revoked:
            return False
        if not batch.offsets:
            return True
        self._faults.at("before_state_commit")
        try:
            sequence = self.state.commit(
                view,
                offsets=batch.offsets,
                marks=batch.marks,
                emitted=emitted,
                outbox=pack(outgoing) if outgoing else None,
            )
        except Revoked:
            self.revoked = True
            return False
        self._faults.at("after_state_commit")
        if sequence is not None:
            self._outbox.append(_Unsent(sequence, outgoing, dict(self.state.offsets)))
        elif not self._outbox:
            self.acknowledged = dict(self.state.offsets)
        return True

    def _make(self, batch: Batch, step: Fold) -> tuple[Batch, BatchView, list[Outgoing], int]:
        view = self.state.view(catching_up=self._catching_up())
        outgoing: list[Outgoing] = []
        if batch.events:
            verdicts = self._fold(batch.events, step, view, outgoing, 0)
            for index, verdict in sorted(verdicts.items()):
                self._refuse(batch, batch.events[index].raw, verdict)
        letters = [batch.letters[place] for place in sorted(batch.letters)]  # however the batch was cut
        return batch, view, letters + outgoing, self.state.emitted + len(outgoing)

    def _fold(
        self, events: Sequence[Event], step: Fold, view: BatchView, outgoing: list[Outgoing], at: int
    ) -> dict[int, Verdict]:
        """Fold into ``view`` and ``outgoing``; an event that makes the step raise is found by halving, and refused."""
        trial = view.fork()
        try:
            result = step.fold(self.number, events, trial)
            framed = self._frame(result.outputs, self.state.emitted + len(outgoing))
        except Fatal:
            raise
        except sqlite3.Error as error:
            raise Fatal(f"state cannot be read: {error}") from error
        except Exception as error:
            if len(events) == 1:
                log.exception("step_failed", topic=events[0].topic, partition=self.number, offset=events[0].offset)
                return {at: Reject("step_failed", None, f"{type(error).__name__}: {error}")}
            half = len(events) // 2
            verdicts = self._fold(events[:half], step, view, outgoing, at)
            return verdicts | self._fold(events[half:], step, view, outgoing, at + half)
        view.adopt(trial)
        outgoing += framed
        return {at + index: verdict for index, verdict in result.verdicts.items()}

    def _frame(self, outputs: Sequence[Output], emitted: int) -> list[Outgoing]:
        service = self._identity.service
        return [
            frame(self._codec, output, service=service, emitted=Lineage(self._source, emitted + number))
            for number, output in enumerate(outputs)
        ]

    async def flush(self, producer: Producer) -> Counter[str]:
        """Send what the outbox holds, oldest first, and forget it; returns the records of each topic.

        Raises:
            Unavailable: the rest waits for the next time.
        """
        sent: Counter[str] = Counter()
        async with self._sending:
            while self._outbox and not self.revoked:
                unsent = self._outbox[0]
                records = unpack(unsent.records) if isinstance(unsent.records, bytes) else unsent.records
                await producer.send_many(records)
                self._faults.at("mid_outbox")
                sent.update(r.topic for r in records)
                if self.revoked:
                    break
                self.state.sent(unsent.sequence)
                self._outbox.popleft()
                self.acknowledged = dict(self.state.offsets) if not self._outbox else unsent.offsets
        return sent

    async def revoke(self, deadline_s: float) -> bool:
        """Let a batch and a send under way finish within the deadline, then let go.

        What is not committed by then never is. False: a send was still under way, and its producer has to be told to
        abandon it.
        """
        try:
            async with asyncio.timeout(deadline_s):
                async with self._busy:
                    self.revoked = True
                async with self._sending:
                    self.state.close()
                return True
        except TimeoutError:
            self.revoked = True  # a thread may still fold over this state, so it is not closed
            return not self._sending.locked()
