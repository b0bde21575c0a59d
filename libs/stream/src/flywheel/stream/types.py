"""The values that pass through the runner. Those made by the million are named tuples: they cost a third as much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Headers = Sequence[tuple[str, bytes]]


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class RawRecord(NamedTuple):
    """A record as the broker gave it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Event(NamedTuple):
    """A record whose value was decoded."""

    raw: RawRecord
    event: str
    version: int
    value: dict[str, Any]

    @property
    def topic(self) -> str:
        """Topic it came from."""
        return self.raw.topic

    @property
    def partition(self) -> int:
        """Partition it came from."""
        return self.raw.partition

    @property
    def offset(self) -> int:
        """Its offset there."""
        return self.raw.offset


class Output(NamedTuple):
    """An event a step wants sent. The runner fills in ``event_id`` where the value has none."""

    topic: str
    key: str
    event: str
    value: Mapping[str, Any]
    partition_key: str | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """An input that is rightly without effect."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reject:
    """An input that can never be processed: it goes to the dead letters with this."""

    reason: str
    field: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class Hold:
    """An input a sink can't write yet: its partition waits at this record and is given again; others go on.

    The sink must not have written later records of that partition.
    """

    reason: str
    retry_after_s: float = 1.0


Verdict = Skip | Reject


@dataclass(frozen=True, slots=True)
class FoldResult:
    """What folding a batch gave: outputs in order, and a verdict for each input that was not simply taken."""

    outputs: Sequence[Output] = ()
    verdicts: Mapping[int, Verdict] = field(default_factory=dict)


class Outgoing(NamedTuple):
    """A record ready for the broker; ``partition`` None lets the key choose."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition_key: bytes | None = None
