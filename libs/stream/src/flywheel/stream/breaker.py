"""Stops a partition on which nearly nothing can be processed, instead of moving it into the dead letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flywheel.stream.types import RawRecord, TopicPartition

Records = Mapping[TopicPartition, Sequence[RawRecord]]


class Breaker:
    """Opens for a partition after ``limit`` dead letters in a row, closes with the first record that is none.

    A long run of dead letters is more often a wrong deploy, or somebody writing to the wrong topic, than so many bad
    records; the log keeps them while a person looks. While it is open one record at a time is let through, so that a
    run of garbage that does end is passed without anybody's help. 0 as ``limit`` never opens.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._run: dict[TopicPartition, int] = {}

    def is_open(self, partition: TopicPartition) -> bool:
        """Whether the partition is stopped."""
        return 0 < self._limit <= self._run.get(partition, 0)

    def let_through(self, polled: Records) -> Records:
        """The records to take now: of a stopped partition only the first."""
        if not any(self.is_open(p) for p in polled):
            return polled
        return {p: records[:1] if self.is_open(p) else records for p, records in polled.items()}

    def saw(self, partition: TopicPartition, *, taken: int, bad: int) -> bool:
        """Count a batch's records and its dead letters; returns whether the partition is stopped now."""
        if taken:
            self._run[partition] = self._run.get(partition, 0) + bad if bad == taken else 0
        return self.is_open(partition)

    def forget(self, partition: TopicPartition) -> None:
        """The partition is somebody else's now."""
        self._run.pop(partition, None)
