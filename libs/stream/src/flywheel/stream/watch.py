"""Whether the runner gets on: lag, readiness, the age of what is read, and the end of a process that is stuck."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from flywheel.observe import Health, Metrics, extract, past_span, recording
from flywheel.stream.clock import now
from flywheel.stream.errors import Unavailable
from flywheel.stream.ports import Consumer
from flywheel.stream.settings import SESSION_TIMEOUT_S, RunnerSettings
from flywheel.stream.shard import Batch
from flywheel.stream.stuck import StuckDetector, dump_and_exit
from flywheel.stream.types import RawRecord, Reject, Skip, TopicPartition
from flywheel.stream.waits import Waits

Offsets = Mapping[TopicPartition, int]


class Watch:
    """Looks once a second at where a consumer stands.

    Attributes:
        turned_at: when the event loop last turned (seconds of the loop's clock); long ago after the process was frozen.
        begin: first offsets of the partitions held, for those of which nothing is done yet.
    """

    def __init__(
        self,
        *,
        name: str,
        consumer: Consumer,
        waits: Waits,
        done: Callable[[], Offsets],
        settings: RunnerSettings,
        metrics: Metrics,
        health: Health,
    ) -> None:
        self._name, self._consumer, self._waits, self._done = name, consumer, waits, done
        self._after_s, self._metrics, self._health = settings.stuck_after_s, metrics, health
        self._detector = StuckDetector(self._after_s)
        self._progress_at = self.turned_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self.begin: dict[TopicPartition, int] = {}
        self._ends: Offsets = {}

    def start(self) -> None:
        """Begin to look."""
        self._progress_at = self.turned_at = now()
        self._detector.start()
        self._tasks = [asyncio.create_task(self._tick()), asyncio.create_task(self._look())]

    def check(self) -> None:
        """Raise what made looking impossible, if anything did."""
        for task in self._tasks:
            if task.done():
                task.result()

    def stop(self) -> None:
        """Look no longer."""
        self._detector.stop()
        for task in self._tasks:
            task.cancel()

    def progress(self) -> None:
        """Something was finished."""
        self._progress_at = now()

    @property
    def frozen(self) -> bool:
        """Whether the process stood still so long that the group may have given its partitions away."""
        return now() - self.turned_at > SESSION_TIMEOUT_S / 2

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(min(0.5, self._after_s / 4))
            self._detector.beat()
            if not self.frozen:  # else the loop has to see it first
                self.turned_at = now()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._after_s / 4))
            self._health.beat(self._name, self._after_s)
            held = sorted(self._consumer.assignment())
            self._leave(held)
            if not held:
                self.progress()  # nothing is ours, or the broker is away and the loop says so
                continue
            try:
                ends = await self._consumer.end_offsets(held)
            except Unavailable as error:
                self.progress()
                self._health.set_ready(self._name, False, error.detail)
                continue
            self._health.set_ready(self._name, True, f"{len(held)} partitions")
            self._judge(self._lag(ends))

    def _lag(self, ends: Offsets) -> Offsets:
        done = self._done()
        lag = {p: max(0, end - done.get(p, self.begin.get(p, 0))) for p, end in ends.items()}
        for partition, end in ends.items():
            # While records keep coming some always wait; what waited a second ago already tells who is behind.
            newer = max(0, end - self._ends.get(partition, end))
            self._show(partition, lag[partition], max(0, lag[partition] - newer))
        self._ends = ends
        return lag

    def _leave(self, held: Sequence[TopicPartition]) -> None:
        """What waits in partitions that others hold now does not wait here."""
        for partition in set(self._ends) - set(held):
            self._show(partition, 0, 0)
        self._ends = {partition: end for partition, end in self._ends.items() if partition in held}

    def _show(self, partition: TopicPartition, lag: int, overdue: int) -> None:
        self._metrics.gauge("lag_records", lag, topic=partition.topic, partition=partition.partition)
        self._metrics.gauge("overdue_records", overdue, topic=partition.topic, partition=partition.partition)

    def _judge(self, lag: Offsets) -> None:
        behind = [partition for partition, records in lag.items() if records and partition not in self._waits]
        if not behind:
            self.progress()
            return
        # A partition that tries again and again says why each time; it is not stuck, however short its waits are.
        silent = min(max(self._progress_at, self._waits.noted_at(partition)) for partition in behind)
        if now() - silent > self._after_s:
            dump_and_exit(f"{sum(lag.values())} records wait, none finished in {self._after_s:g} s")


def count_age(metrics: Metrics, polled: Mapping[TopicPartition, Sequence[RawRecord]], now_s: float) -> None:
    """Observe the age of the oldest record of each partition polled; ``now_s`` is since the epoch."""
    for partition, records in polled.items():
        if records:
            age_s = max(0.0, now_s - records[0].timestamp_ms / 1000)
            metrics.observe("event_age_seconds", age_s, topic=partition.topic)


def trace_handled(service: str, records: Mapping[TopicPartition, Sequence[RawRecord]]) -> None:
    """Continue the trace that each record carries: a span from the broker's append to the durable effect."""
    if not recording():
        return
    for partition, handled in records.items():
        for record in handled:
            past_span(
                service,
                f"{service} {partition.topic}",
                parent=extract(record.headers),
                started_ns=record.timestamp_ms * 1_000_000,
                topic=partition.topic,
                partition=partition.partition,
                offset=record.offset,
            )


def count_batch(metrics: Metrics, batch: Batch) -> None:
    """Count a fold's records by how they ended: ok, skip, reject or repeat."""
    settled: Counter[tuple[str, str]] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    for topic, verdict in batch.verdicts:
        settled[topic, "skip" if isinstance(verdict, Skip) else "reject"] += 1
        if isinstance(verdict, Reject):
            reasons[topic, verdict.reason] += 1
    for topic, count in batch.repeats.items():
        settled[topic, "repeat"] = count
    others = list(settled.items())
    for partition, taken in batch.taken.items():
        settled[partition.topic, "ok"] += taken
    for (topic, _), count in others:
        settled[topic, "ok"] -= count
    for (topic, kind), count in settled.items():
        metrics.count("stream_records_total", count, topic=topic, verdict=kind)
    for (topic, reason), count in reasons.items():
        metrics.count("stream_dead_letters_total", count, topic=topic, reason=reason)
