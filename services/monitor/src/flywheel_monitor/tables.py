"""The Faust app: agents over the facts, windowed tables in memory with changelogs on Kafka.

What Faust is used for, and how, is bounded by what it can hold (version 0.15.3, each of these is in its code):

- ``concurrency=1`` and at-least-once: with more it can commit past unfinished messages, and its ``exactly_once`` can
  tear. What is read again is known by its offset (``core.fold``).
- No ``expires``: with it Faust notes every write of a windowed table until its window is over, and none of what it
  recovered; and its compiled window makes the number 0 of none at all, with which it notes every write for ever. So the
  windows are of a class of our own, ``sweep`` deletes what is no longer kept, and the changelogs' retention on Kafka.
- ``use_partitioner``: else a table can only be written inside the iteration over a stream, to the partition of the
  event that came last. The input partition is part of the key instead.
- A consumer of our own (``settled``): Faust's reads facts while it still recovers, and loses some of them.
- Keys and values are JSON, events raw bytes that our own codec reads; the default serializer would be JSON with pickle
  within reach.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import faust
import orjson
from faust.types.windows import WindowT
from mode import want_seconds

from flywheel.stream import RawRecord
from flywheel_monitor.core.alerting import Standing
from flywheel_monitor.core.fold import Slot
from flywheel_monitor.core.series import Series
from flywheel_monitor.core.spans import GRAINS, Grain
from flywheel_monitor.settled import settled

TOPICS: Final = ("llm-calls", "llm-decisions")
SESSION_S: Final = 10.0
SEGMENT_S: Final = 600
Span = tuple[float, float]
"""Start and end of a window, in seconds."""
OnBatch = Callable[[Sequence[RawRecord]], None]


class AppSettings(NamedTuple):
    """What the Faust app is made with. ``partitions``: of the input topics, and so of the tables."""

    app_id: str
    bootstrap: str
    partitions: int
    folder: Path
    batch_records: int
    batch_within_s: float
    replication: int


class Tables:
    """The windows and the alerts' standings, as ``core`` reads and writes them."""

    def __init__(self, app: Any, partitions: int) -> None:
        self.partitions = range(partitions)
        self._windows = {grain.name: _window_table(app, grain, partitions) for grain in GRAINS}
        self._standings = app.Table(
            "standings", partitions=partitions, use_partitioner=True,
            extra_topic_configs=_configs("compact"),
        )  # fmt: skip

    def get(self, slot: Slot) -> dict[str, Any] | None:
        """What is kept there, or None."""
        # Past the table's own __getitem__, which tells a sensor of every reading: a page reads thousands.
        text = self._windows[slot.grain.name].table.data.data.get((_key(slot), _span(slot)))
        return None if text is None else dict(orjson.loads(text))

    def put(self, slot: Slot, record: dict[str, Any]) -> None:
        """Keep a record, here and on the changelog."""
        # As text, which takes a fifth of the memory that the record does.
        self._windows[slot.grain.name][_key(slot)][_span(slot)] = orjson.dumps(record).decode()

    def slots(self) -> Iterator[Slot]:
        """Every window that is kept."""
        for grain in GRAINS:
            for key, span in list(self._windows[grain.name].table.data.data):
                partition, series = _placed(key)
                yield Slot(grain, partition, series, round(span[0] * 1_000_000))

    def sweep(self, now_us: int) -> set[Series]:
        """Delete the windows that are no longer kept; return the series of the others."""
        used: set[Series] = set()
        for slot in self.slots():
            if slot.grain.keeps(slot.start_us, now_us):
                used.add(slot.series)
            else:
                del self._windows[slot.grain.name][_key(slot)][_span(slot)]
        return used

    def __len__(self) -> int:
        return sum(len(table.table.data.data) for table in self._windows.values())

    def standings(self) -> dict[str, Standing]:
        """Every alert's standing, by its name."""
        return {name: Standing.of(record) for name, record in self._standings.data.data.items()}

    def stand(self, name: str, standing: Standing | None) -> None:
        """Keep where an alert stands; None forgets it."""
        if standing is None:
            self._standings.pop(name, None)
        else:
            self._standings[name] = standing.record()


class Tumbling(WindowT):  # type: ignore[misc]
    """Windows side by side, each ``size_s`` long, that the table never expires by itself."""

    expires = None

    def __init__(self, size_s: float) -> None:
        self.size = size_s

    def ranges(self, timestamp: float) -> list[Span]:
        """The one window that a time (seconds) is in."""
        return [self.current(timestamp)]

    def current(self, timestamp: float) -> Span:
        """The window that a time is in, as Faust writes it: it ends a tenth of a second before the next begins."""
        start_s = timestamp - timestamp % self.size
        return (start_s, start_s + self.size - 0.1)

    def earliest(self, timestamp: float) -> Span:
        """The first window that a time is in: the only one."""
        return self.current(timestamp)

    def delta(self, timestamp: float, d: Any) -> Span:
        """The window of a time so much (seconds, or a timedelta) earlier."""
        return self.current(timestamp - want_seconds(d))

    def stale(self, timestamp: float, latest_timestamp: float) -> bool:
        """Never."""
        return False


def make_app(settings: AppSettings) -> tuple[Any, Tables]:
    """Make the Faust app, not yet started, and its tables. Call it inside the loop that will run it."""
    # Faust says at INFO every assignment as a table of text; ours are the lines that count.
    for name in ("faust", "mode"):
        logging.getLogger(name).setLevel(logging.WARNING)
    app = faust.App(
        settings.app_id,
        broker=";".join(f"kafka://{address.strip()}" for address in settings.bootstrap.split(",")),
        store="memory://",
        datadir=settings.folder,
        autodiscover=False,
        web_enabled=False,
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication,
        topic_disable_leader=True,
        processing_guarantee="at_least_once",
        consumer_auto_offset_reset="earliest",
        key_serializer="raw",
        value_serializer="raw",
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=SESSION_S / 4,
        broker_max_poll_records=settings.batch_records,
        stream_wait_empty=False,
        worker_redirect_stdouts=False,
    )
    app.transport = settled(app)
    return app, Tables(app, settings.partitions)


def follow(app: Any, settings: AppSettings, on_batch: OnBatch) -> None:
    """Have the app's agents read the facts.

    ``on_batch`` is given the records of a topic, in the order of their offsets within each partition. It must not
    raise: Faust acknowledges a batch either way.
    """
    for name in TOPICS:
        topic = app.topic(
            name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", allow_empty=True
        )
        app.agent(topic, name=f"read-{name}", concurrency=1)(_reader(app, settings, on_batch))
    app.finalize()


def _reader(app: Any, settings: AppSettings, on_batch: OnBatch) -> Any:
    async def read(stream: Any) -> None:
        async for events in stream.take_events(settings.batch_records, within=settings.batch_within_s):
            on_batch([_raw(event.message) for event in events])
            await sent(app)

    return read


class _Mark:
    """Goes through the producer's buffer as a message does, and is sent nowhere."""

    def __init__(self) -> None:
        self.message = self.channel = self
        self.reached = asyncio.Event()

    async def publish_message(self, _future: Any, wait: bool = False) -> None:
        """Everything that was put into the buffer before is with the Kafka client."""
        self.reached.set()


async def sent(app: Any) -> None:
    """Return when the broker has what the tables changed. Faust acknowledges a batch after this. It flushes before it
    commits too, but gives up when nothing could be sent for a tenth of a second, and does not wait for the message
    that was taken from the buffer last."""
    mark = _Mark()
    app.producer.buffer.put(mark)
    await mark.reached.wait()
    await app.producer.flush()


def _raw(message: Any) -> RawRecord:
    return RawRecord(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        timestamp_ms=round(message.timestamp * 1000),
        key=message.key,
        value=message.value,
    )


def _window_table(app: Any, grain: Grain, partitions: int) -> Any:
    table = app.Table(
        grain.name, partitions=partitions, use_partitioner=True,
        extra_topic_configs=_configs("compact,delete", grain.kept_us + 2 * grain.width_us),
    )  # fmt: skip
    return table.using_window(Tumbling(grain.width_us / 1_000_000))


def _configs(cleanup: str, kept_us: int | None = None) -> dict[str, str]:
    """How Kafka keeps a changelog: in short segments, as only closed ones are cleaned, and what is not cleaned has to
    be read at the next start."""
    return {
        "cleanup.policy": cleanup,
        "retention.ms": str(-1 if kept_us is None else kept_us // 1000),
        "segment.ms": str(SEGMENT_S * 1000),
        "min.cleanable.dirty.ratio": "0.1",
        "delete.retention.ms": str(SEGMENT_S * 1000),
    }


@lru_cache(maxsize=65_536)
def _text(partition: int, series: Series) -> str:
    return orjson.dumps([partition, *series]).decode()


@lru_cache(maxsize=65_536)
def _placed(key: str) -> tuple[int, Series]:
    partition, project, feature, arm = orjson.loads(key)
    return partition, Series(project, feature, arm)


def _key(slot: Slot) -> str:
    return _text(slot.partition, slot.series)


def _span(slot: Slot) -> Span:
    """The range of a slot's window, as ``Tumbling.current`` has it."""
    start_s = slot.start_us / 1_000_000
    return (start_s, start_s + slot.grain.width_us / 1_000_000 - 0.1)
