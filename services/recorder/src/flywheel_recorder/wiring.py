"""The parts of the recorder put together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.events import Codec, load_registry, topics
from flywheel.observe import Health, Metrics, logger, operations_app, serve, stop_on_signals
from flywheel.store import StoreSettings, StoreUnavailable, connect, migrate
from flywheel.stream import KafkaBus, Runner, RunnerSettings, StepSpec
from flywheel_recorder.settings import RecorderSettings
from flywheel_recorder.sink import RecorderSink

if TYPE_CHECKING:
    from flywheel_recorder.tables import Tables

NAME = "recorder"
VERSION = "0.1.0"
SQL = "sql"
log = logger("recorder")


def recorded_topics() -> tuple[str, ...]:
    """Every topic that names the recorder among its consumers."""
    return tuple(sorted(t.name for t in topics().values() if NAME in t.consumers))


def open_tables(
    store: StoreSettings, staging: Path, codec: Codec, *, remembered: int, metrics: Metrics, min_free_bytes: int = 0
) -> Callable[[], Tables]:
    """What opens the store, brings it up to date and gets ready to write."""

    def observe(table: str, rows: int, repeats: int, seconds: float) -> None:
        metrics.count("recorder_rows_total", rows, table=table)
        metrics.count("recorder_duplicates_total", repeats, table=table)
        metrics.observe("recorder_insert_seconds", seconds, table=table)

    def opened() -> Tables:
        from flywheel_recorder.adapters import FileStaging, TableStaging
        from flywheel_recorder.tables import Source, Tables

        client = connect(store)
        for name in migrate(client):
            log.info("migrated", migration=name)
        if store.embedded:
            # chDB 26.9 reports an insert as done whose files were cut short by a disk that filled up meanwhile.
            client.command(f"SET min_free_disk_bytes_to_perform_insert = {min_free_bytes}")
        sources = [
            Source(topic=t.name, event=t.event, compacted=t.compacted, has_dead_letters=t.dlq is not None)
            for t in (topics()[name] for name in recorded_topics())
        ]
        way = FileStaging(staging) if store.embedded else TableStaging(client)
        return Tables(client, way, codec, sources, remembered=remembered, observe=observe)

    return opened


def runner_specs() -> tuple[StepSpec, ...]:
    """The recorder's one step, over an engine embedded in the folder it is given."""

    def make(folder: Path) -> RecorderSink:
        opened = open_tables(
            StoreSettings(path=folder / "clickhouse"),
            folder / "staging",
            Codec(load_registry()),
            remembered=100_000,
            metrics=Metrics(),
        )
        return RecorderSink(opened, every_s=0.0)

    return (StepSpec(name=NAME, topics=recorded_topics(), make_step=make),)


async def run(settings: RecorderSettings) -> None:
    """Record and answer until SIGTERM, then finish the batch in hand."""
    metrics, health, stop = Metrics(), Health(), asyncio.Event()
    metrics.gauge("build_info", 1, service=NAME, version=VERSION)
    stop_on_signals(stop)
    health.set_ready("store", False, "opening")
    if settings.server_url is None:
        health.set_ready(SQL, False, "not listening yet")
    operations = operations_app(health, metrics)
    async with asyncio.TaskGroup() as group:
        ops_port = 0 if settings.ops_port is None else settings.ops_port
        group.create_task(serve(operations, settings.host, ops_port, name="ops", stop=stop))
        group.create_task(_record(settings, metrics, health, stop))


async def _record(settings: RecorderSettings, metrics: Metrics, health: Health, stop: asyncio.Event) -> None:
    url = settings.server_url
    store = StoreSettings(path=settings.clickhouse_path, url=url.get_secret_value() if url else None)
    codec = Codec(load_registry())
    opened = open_tables(
        store,
        settings.state_dir / NAME / "staging",
        codec,
        remembered=settings.remembered_ids,
        metrics=metrics,
        min_free_bytes=settings.min_free_bytes,
    )
    tables = await _patiently(opened, health, stop)
    if tables is None:
        return
    sink = RecorderSink(lambda: tables, every_s=settings.batch_every_s)
    runner = Runner(
        service=NAME,
        service_version=VERSION,
        bus=KafkaBus(settings.kafka_bootstrap, client_id=NAME),
        codec=codec,
        step=sink,
        topics=recorded_topics(),
        group=f"flywheel-{NAME}",
        state_dir=None,
        metrics=metrics,
        health=health,
        settings=RunnerSettings(max_records=settings.batch_records),
        name=NAME,
    )
    try:
        async with asyncio.TaskGroup() as group:
            if store.embedded:
                group.create_task(_serve_sql(settings, metrics, health, stop))
            group.create_task(runner.run())
            await stop.wait()
            await runner.stop()
    finally:
        tables.close()


async def _patiently(opened: Callable[[], Tables], health: Health, stop: asyncio.Event) -> Tables | None:
    """Open the store, however long it takes to be there; None when told to stop meanwhile."""
    while not stop.is_set():
        try:
            tables = await asyncio.to_thread(opened)
        except StoreUnavailable as error:
            health.set_ready("store", False, str(error))
            log.warning("waiting", dependency="store", why=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 2.0)
        else:
            health.set_ready("store", True)
            return tables
    return None


async def _serve_sql(settings: RecorderSettings, metrics: Metrics, health: Health, stop: asyncio.Event) -> None:
    from flywheel_recorder.http import MAX_WAITING, Endpoint, parse_users, sql_app
    from flywheel_recorder.reader import Limits, Reader

    def observe(status: str, seconds: float) -> None:
        metrics.count("recorder_queries_total", 1, status=status)
        metrics.observe("recorder_query_seconds", seconds)

    limits = Limits(
        seconds=settings.query_seconds,
        memory_bytes=settings.query_memory_bytes,
        result_bytes=settings.query_result_bytes,
        threads=settings.query_threads,
    )
    reader = await asyncio.to_thread(Reader, settings.clickhouse_path, limits, settings.queries)
    pool = ThreadPoolExecutor(settings.queries, thread_name_prefix="sql")
    endpoint = Endpoint(
        reader=reader,
        pool=pool,
        users=parse_users(settings.users.get_secret_value()) if settings.users else {},
        limits=limits,
        observe=observe,
        waiting=asyncio.Semaphore(MAX_WAITING),
    )
    try:
        await serve(
            sql_app(endpoint),
            settings.host,
            settings.port,
            name="http",
            on_started=lambda _port: health.set_ready(SQL, True),
            stop=stop,
        )
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        reader.close()
