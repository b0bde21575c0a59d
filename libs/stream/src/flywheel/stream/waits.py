"""Partitions that wait: paused, rewound to where they have to be read again, and resumed when it is time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from random import uniform

from flywheel.observe import Metrics, logger
from flywheel.stream.clock import now
from flywheel.stream.errors import Unavailable
from flywheel.stream.ports import Consumer
from flywheel.stream.settings import RunnerSettings
from flywheel.stream.types import TopicPartition

log = logger("stream.waits")


class Waits:
    """Which partitions of a consumer wait, until when, and how long the next wait is: growing, with jitter."""

    def __init__(self, consumer: Consumer, settings: RunnerSettings, metrics: Metrics) -> None:
        self._consumer, self._settings, self._metrics = consumer, settings, metrics
        self._until: dict[TopicPartition, float] = {}
        self._noted: dict[TopicPartition, float] = {}
        self._attempts: dict[object, int] = defaultdict(int)

    def __contains__(self, partition: TopicPartition) -> bool:
        return partition in self._until

    def noted_at(self, partition: TopicPartition) -> float:
        """When it last began to wait for a cause that was said, 0 when it never did."""
        return self._noted.get(partition, 0.0)

    def rewind(self, offsets: Mapping[TopicPartition, int], error: Unavailable) -> None:
        """Read these again later: the partitions pause, the member goes on heartbeating."""
        assigned = self._consumer.assignment()
        held = {p: offset for p, offset in offsets.items() if p in assigned}
        for partition, offset in held.items():
            self.pause(partition, offset, self.delay(partition, error))
        self._metrics.count("stream_retries_total", 1, dependency="downstream")
        log.warning("paused", partitions=[f"{p.topic}/{p.partition}" for p in held], why=error.detail)

    def hold(self, partitions: Sequence[TopicPartition], error: Unavailable) -> None:
        """Leave these alone for a while: where to read on is not known yet."""
        self._consumer.pause(partitions)
        for partition in partitions:
            self.note(partition, self.delay(partition, error))
        log.warning("held", partitions=[f"{p.topic}/{p.partition}" for p in partitions], why=error.detail)

    def pause(self, partition: TopicPartition, offset: int, seconds: float) -> None:
        """Read on from ``offset`` in so many seconds; without effect on a partition that is somebody else's."""
        if partition in self._consumer.assignment():
            self._consumer.seek(partition, offset)
            self._consumer.pause([partition])
            self.note(partition, seconds)

    def note(self, partition: TopicPartition, seconds: float) -> None:
        """A partition that is paused already stays so for so many seconds."""
        self._noted[partition] = now()
        self._until[partition] = now() + seconds
        self._metrics.gauge("stream_paused", 1, topic=partition.topic, partition=partition.partition)

    def due(self) -> list[TopicPartition]:
        """Partitions whose wait is over."""
        present = now()
        return [p for p, at in self._until.items() if at <= present]

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these again."""
        assigned = self._consumer.assignment()
        for partition in partitions:
            self.forget(partition)
            if partition in assigned:
                self._consumer.resume([partition])

    def forget(self, partition: TopicPartition) -> None:
        """The partition waits no longer, or is somebody else's."""
        if self._until.pop(partition, None) is not None:
            self._metrics.gauge("stream_paused", 0, topic=partition.topic, partition=partition.partition)

    def succeeded(self, what: object) -> None:
        """The next wait for this begins short again."""
        self._attempts.pop(what, None)

    def delay(self, what: object, error: Unavailable) -> float:
        """Seconds to wait after one more failure of ``what``."""
        self._attempts[what] += 1
        steps = min(self._attempts[what], 10)
        longest: float = min(self._settings.backoff_max_s, self._settings.backoff_s * 2.0**steps)
        return max(min(error.retry_after_s, longest), longest * uniform(0.5, 1.0))
