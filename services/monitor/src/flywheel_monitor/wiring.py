"""The monitor put together: the Faust app, the charters, the looks at burn rates, the pages."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from aiokafka.errors import KafkaError
from faust.types import TP

from flywheel.events import Codec, load_registry
from flywheel.observe import Health, Metrics, logger, operations_app, serve, stop_on_signals
from flywheel.stream import CompactedTable, KafkaBus, Publisher, Unavailable
from flywheel.stream.stuck import dump_and_exit
from flywheel_monitor.core.objectives import Charters
from flywheel_monitor.core.series import Roster
from flywheel_monitor.monitor import NEEDED, Monitor
from flywheel_monitor.pages import pages_app
from flywheel_monitor.settings import MonitorSettings
from flywheel_monitor.tables import TOPICS, AppSettings, Tables, follow, make_app, sent

NAME: Final = "monitor"
VERSION: Final = "0.1.0"
DRAIN_S: Final = 8.0
"""For the batch in hand, the changelogs and the offsets; shorter than the group's patience with a member."""
SWEEP_S: Final = 60.0
STUCK_S: Final = 120.0
log = logger("monitor.wiring")


def wall_clock_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class Around(NamedTuple):
    """The process around the monitor."""

    settings: MonitorSettings
    metrics: Metrics
    health: Health
    stop: asyncio.Event
    group: asyncio.TaskGroup


@dataclass(slots=True)
class Running:
    """The parts of a monitor that runs."""

    around: Around
    app: Any
    tables: Tables
    monitor: Monitor
    behind: int = 0
    """Records on the topics that are not counted yet."""
    partial: bool = True
    """Whether another process counts some of the partitions."""
    progress: int = -1
    progressed_s: float = 0.0
    """How much was counted when something last was, and when by the monotonic clock."""

    def now_us(self) -> int:
        """The time that windows end at: the clock's while everything is read, else that of the newest record. Who is
        behind must not take what it has not read yet for silence."""
        if self.behind > self.around.settings.batch_records:
            return self.monitor.newest_us
        return wall_clock_us()

    def state(self) -> dict[str, Any]:
        """How much of the log the pages stand for."""
        return {"now_us": self.now_us(), "partial": self.partial, "behind": self.behind}


async def run(settings: MonitorSettings) -> None:
    """Watch until SIGTERM; then finish the batch in hand, send what the tables changed, and return.

    Raises:
        BaseExceptionGroup: a part failed that the monitor cannot be without: a restart begins from the tables.
    """
    metrics, health, stop = Metrics(), Health(), asyncio.Event()
    metrics.gauge("build_info", 1, service=NAME, version=VERSION)
    stop_on_signals(stop)
    for part in ("charters", "tables", "partitions"):
        health.set_ready(part, False, "starting")
    async with asyncio.TaskGroup() as group:
        operations = operations_app(health, metrics)
        group.create_task(serve(operations, settings.host, settings.ops_port or 0, name="ops", stop=stop))
        group.create_task(_watch(Around(settings, metrics, health, stop, group)))


async def _watch(around: Around) -> None:
    bus = KafkaBus(around.settings.kafka_bootstrap, client_id=NAME)
    codec = Codec(load_registry(around.settings.schema_registry_url))
    charters = Charters()
    table = CompactedTable(bus, "charters", codec, lambda key, event: _declare(charters, key, event))
    following = around.group.create_task(table.run())
    try:
        await _unless(around.stop, table.ready.wait())
        around.health.set_ready("charters", table.ready.is_set())
        partitions = await _unless(around.stop, _partitions(bus))
        if partitions and table.ready.is_set():
            await _run_app(_build(around, partitions, charters), Publisher(bus, codec, source=NAME))
    finally:
        await table.stop()
        await following


def _build(around: Around, partitions: int, charters: Charters) -> Running:
    settings = around.settings
    made = AppSettings(
        app_id=f"{settings.group}-{NAME}",
        bootstrap=settings.kafka_bootstrap,
        partitions=partitions,
        folder=settings.state_dir / NAME,
        batch_records=settings.batch_records,
        batch_within_s=settings.batch_within_s,
        replication=settings.replication,
    )
    made.folder.mkdir(parents=True, exist_ok=True)  # Faust makes a folder, but not those above it
    app, tables = make_app(made)
    needed = Codec(load_registry(settings.schema_registry_url), only=NEEDED)
    roster = Roster(settings.most_series, settings.most_series_of_project)
    roster.declare(charters.features)
    monitor = Monitor(
        kept=tables, charters=charters, roster=roster, codec=needed, metrics=around.metrics, clock_us=wall_clock_us
    )
    follow(app, made, monitor.take)
    return Running(around, app, tables, monitor)


async def _run_app(running: Running, publisher: Publisher) -> None:
    """Start the app, which reads its changelogs first; look at the burn rates until the end; stop it."""
    (settings, _, health, stop, group), app = running.around, running.app
    starting = asyncio.ensure_future(app.start())
    try:
        if not await _unless(stop, _started(app, starting, settings.recover_within_s)):
            return
        if not await _unless(stop, _connected(publisher)):
            return
        running.monitor.sweep(wall_clock_us())
        health.set_ready("tables", True)
        group.create_task(serve(pages_app(running.monitor, running.state), settings.host, settings.port, stop=stop))
        await _look(running, publisher)
    finally:
        starting.cancel()
        await _stopped(app, publisher)


async def _started(app: Any, starting: asyncio.Future[Any], within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await starting
    except TimeoutError as error:
        what = (
            f"the tables were not read from their changelogs within {within_s:g} s; another group starts without them"
        )
        raise RuntimeError(what) from error
    _raise_crash(app)
    return True


async def _connected(publisher: Publisher) -> bool:
    while True:
        try:
            await publisher.start()
            return True
        except Unavailable as error:
            log.warning("waiting", why=error.detail)
            await asyncio.sleep(error.retry_after_s)


async def _stopped(app: Any, publisher: Publisher) -> None:
    """Stop the app and the producer of alerts, or end the process: the thread of a consumer that does not stop would
    keep it alive for ever. What is not committed then is read again."""
    try:
        async with asyncio.timeout(DRAIN_S):
            await app.stop()
            await publisher.stop()
    except Exception as error:
        dump_and_exit(f"did not stop within {DRAIN_S:g} s: {error!r}")


def _raise_crash(app: Any) -> None:
    if app.crashed:
        raise RuntimeError(f"the Faust app failed: {app.crash_reason!r}") from app.crash_reason


async def _look(running: Running, publisher: Publisher) -> None:
    settings, stop = running.around.settings, running.around.stop
    swept_s = time.monotonic()
    while not stop.is_set():
        _raise_crash(running.app)
        if not running.app.rebalancing and await _measured(running):
            if time.monotonic() - swept_s >= SWEEP_S:
                running.monitor.sweep(running.now_us())
                swept_s = time.monotonic()
            if not running.partial:
                await _judge(running, publisher)
        await _unless(stop, asyncio.sleep(settings.tick_s))


async def _judge(running: Running, publisher: Publisher) -> None:
    monitor, now_us = running.monitor, running.now_us()
    for series in monitor.due(now_us):
        monitor.look(series, now_us, running.around.settings.terms)
        await asyncio.sleep(0)  # facts and pages have their turn in between
    monitor.end_undeclared(now_us)
    outputs = monitor.untold()
    # Where they stand is on the changelog before they are told: so whoever tells them again uses the same ids.
    if not outputs or not await _unless(running.around.stop, _kept(running.app)):
        return
    try:
        await publisher.publish(list(outputs.values()))
    except Unavailable as error:
        log.warning("alerts wait for kafka", alerts=len(outputs), detail=error.detail)
        return
    monitor.told(outputs)


async def _kept(app: Any) -> bool:
    await sent(app)
    return True


async def _measured(running: Running) -> bool:
    """Note how much is not read yet, and whether all of it is ours; False while Kafka does not say."""
    consumer = running.app.consumer
    tps = {tp for tp in consumer.assignment() if tp.topic in TOPICS}
    wanted = {TP(topic, partition) for topic in TOPICS for partition in running.tables.partitions}
    behind = 0
    try:
        ends = await consumer.highwaters(*tps) if tps else {}
        for tp, end in ends.items():
            at = running.monitor.read.get((tp.topic, tp.partition))
            if at is None:
                at = await consumer.position(tp)
            waiting = max(0, (end or 0) - (at or 0))
            running.around.metrics.gauge("lag_records", waiting, topic=tp.topic, partition=tp.partition)
            behind += waiting
    except (KafkaError, TimeoutError) as error:
        log.warning("waiting", why=repr(error))
        running.around.health.set_ready("partitions", False, f"kafka: {error!r}")
        return False
    running.behind, running.partial = behind, tps != wanted
    _end_if_stuck(running)
    detail = "another process counts some partitions: no alerts are decided" if running.partial else ""
    running.around.health.set_ready("partitions", not running.partial, detail)
    return True


def _end_if_stuck(running: Running) -> None:
    """End the process, with the stacks, when much waits to be counted and nothing has been for a while: Faust's
    rebalances have been seen to end with nobody reading, and only a restart helps."""
    progress, now_s = sum(running.monitor.read.values()), time.monotonic()
    if progress != running.progress or running.behind <= running.around.settings.batch_records:
        running.progress, running.progressed_s = progress, now_s
    elif now_s - running.progressed_s > STUCK_S:
        dump_and_exit(f"{running.behind} records wait and none was counted for {STUCK_S:g} s")


def _declare(charters: Charters, key: str, event: dict[str, Any] | None) -> None:
    if charters.update(key, event):
        log.info("objectives", charter=key, declared=sum(o.series[:2] == _split(key) for o in charters.objectives))


def _split(key: str) -> tuple[str, str]:
    project, _, feature = key.partition("/")
    return project, feature


async def _partitions(bus: KafkaBus) -> int:
    """How many partitions the facts have, once a broker says so."""
    while True:
        try:
            found = [await bus.partitions(topic) for topic in TOPICS]
        except Unavailable as error:
            log.warning("waiting", why=error.detail)
            await asyncio.sleep(error.retry_after_s)
            continue
        if len(set(found)) != 1:
            raise RuntimeError(f"{' and '.join(TOPICS)} have {found} partitions; they must have the same number")
        return found[0]


async def _unless(stop: asyncio.Event, work: Any) -> Any:
    """The result of ``work``, or None when the stop came first."""
    stopping, working = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(work)
    try:
        await asyncio.wait({stopping, working}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        stopping.cancel()
        working.cancel()
