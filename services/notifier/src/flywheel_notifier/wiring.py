"""The parts of the notifier put together: one sink, and a task for each destination."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import httpx

from flywheel.events import Codec, load_registry
from flywheel.observe import Health, Metrics, SettingsInvalid, logger
from flywheel.stream import Bus, Runner, RunnerSettings, StepSpec, Unavailable, stages
from flywheel.stream.ticker import nothing_overdue
from flywheel_notifier.core.destinations import Destination, DestinationsInvalid, read_destinations
from flywheel_notifier.core.keeping import gone
from flywheel_notifier.core.telling import Terms
from flywheel_notifier.notebook import Notebook
from flywheel_notifier.posting import Limits, Poster, keep_posting
from flywheel_notifier.settings import NotifierSettings
from flywheel_notifier.sink import INPUTS, NotifierSink

NAME: Final = "notifier"
VERSION: Final = "0.1.0"
MOST_CONNECTIONS: Final = 20
log = logger(NAME)


def runner_specs() -> tuple[StepSpec, ...]:
    """The notifier's one step."""

    def make(folder: Path) -> NotifierSink:
        return NotifierSink(partial(Notebook, folder / "notebook.sqlite", 0), settle_us=60_000_000)

    return (StepSpec(name=NAME, topics=INPUTS, make_step=make),)


def load_destinations(path: Path | None, environ: Mapping[str, str]) -> dict[str, Destination]:
    """The destinations of a file; none where there is no file.

    Raises:
        SettingsInvalid: naming the file, lines and fields.
    """
    if path is None:
        return {}

    def find(kind: str, where: str) -> str:
        return environ[where] if kind == "env" else Path(where).read_text(encoding="utf-8").rstrip("\r\n")

    try:
        return read_destinations(path.read_text(encoding="utf-8"), find)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is not UTF-8"
        raise SettingsInvalid(f"FLYWHEEL_DESTINATIONS_FILE: {path}: {why}") from None
    except DestinationsInvalid as error:
        raise SettingsInvalid(f"FLYWHEEL_DESTINATIONS_FILE: {path}: {error}") from None


async def run(settings: NotifierSettings, destinations: Mapping[str, Destination]) -> None:
    """Send until SIGTERM, then finish the posts in hand."""
    await stages.serve_process(NAME, VERSION, settings, partial(send, settings, destinations=destinations))


async def send(
    settings: NotifierSettings,
    bus: Bus,
    metrics: Metrics,
    health: Health,
    stop: asyncio.Event,
    *,
    destinations: Mapping[str, Destination],
) -> None:
    """Read alerts from a bus and send them until ``stop`` is set. Raises Fatal."""
    if not destinations:
        log.warning("no_destinations", why="FLYWHEEL_DESTINATIONS_FILE is not set: nothing is sent")
    health.set_ready(NAME, False, "starting")
    path = settings.state_dir / NAME / "notebook.sqlite"
    notebook = Notebook(path, time.time_ns() // 1000)
    notebook.keep_destinations(destinations)
    sink = NotifierSink(lambda: notebook, settle_us=_us(settings.settle_s))
    runner = Runner(
        service=NAME,
        service_version=VERSION,
        bus=bus,
        codec=Codec(load_registry()),
        step=sink,
        topics=INPUTS,
        group=f"{settings.group}-{NAME}",
        state_dir=None,
        metrics=metrics,
        health=health,
        settings=RunnerSettings(max_records=settings.batch_records, poll_ms=settings.poll_ms),
        name=NAME,
    )
    terms = Terms(_us(settings.wait_s), _us(settings.settle_s), notebook.since_us)
    limits = Limits(settings.most_waiting, _us(settings.give_up_s))
    # Redirects are not followed: only the declared place is told.
    most = httpx.Limits(max_connections=MOST_CONNECTIONS)
    try:
        async with httpx.AsyncClient(limits=most, follow_redirects=False) as client, asyncio.TaskGroup() as group:
            ready = asyncio.Event()
            for each in destinations.values():
                poster = Poster(each, notebook, client, metrics, terms=terms, limits=limits)
                group.create_task(keep_posting(poster, stop, tick_s=settings.tick_s, ready=ready))
            group.create_task(_keep(settings, notebook, bus, metrics, stop, ready=ready))
            group.create_task(runner.run())
            await stop.wait()
            await runner.stop()
    finally:
        notebook.close()


async def _keep(
    settings: NotifierSettings,
    notebook: Notebook,
    bus: Bus,
    metrics: Metrics,
    stop: asyncio.Event,
    *,
    ready: asyncio.Event,
) -> None:
    """Say when everything on the log is read, as messages made of half of it would be wrong; forget what is old."""
    places: list[tuple[str, int]] = []
    while not stop.is_set():
        if not places:
            with suppress(Unavailable):
                places = [(topic, number) for topic in INPUTS for number in range(await bus.partitions(topic))]
        if nothing_overdue(metrics, places):
            ready.set()
        alerts, silences = gone(
            notebook.alerts, notebook.silences, time.time_ns() // 1000, forget_us=_us(settings.forget_s),
            most=settings.most_alerts,
        )  # fmt: skip
        notebook.forget(alerts=alerts, silences=silences)
        metrics.gauge("notifier_alerts", len(notebook.alerts))
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), settings.tick_s)


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
