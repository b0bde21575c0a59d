"""Puts the router together and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from flywheel.control import ControlInvalid
from flywheel.events import Codec, load_registry
from flywheel.journal import open_slot, orphans
from flywheel.observe import Health, Metrics, announce_port, flush_traces, logger, operations_app, serve, tracer
from flywheel.observe.traces import ENDPOINT_ENV
from flywheel.stream import Bus, CompactedTable, KafkaBus, Producer, Unavailable
from flywheel_router.app import PolicyPage, RouterApp
from flywheel_router.board import PolicyBoard
from flywheel_router.core import Decider
from flywheel_router.decision_log import DecisionLog, send_batch
from flywheel_router.gateway.parts import GatewayParts, Prices, build_gateway
from flywheel_router.leases import Leases
from flywheel_router.protocol import DecideProtocol
from flywheel_router.remote_decisions import RemoteDecisions
from flywheel_router.rpc import start_grpc
from flywheel_router.service import DecideService, wall_clock_us
from flywheel_router.settings import RouterSettings

POLICIES: Final = "policies"
CONTROLS: Final = "controls"
_DRAIN_S: Final = 5.0
_GRACE_S: Final = 3.0
_REPORT_S: Final = 0.25
_CLOSE_S: Final = 3.0
OnPolicy = Callable[[str, dict[str, Any] | None], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """The router, put together and not yet running."""

    settings: RouterSettings
    bus: Bus
    app: RouterApp
    page: PolicyPage
    service: DecideService
    log: DecisionLog
    leases: Leases
    table: CompactedTable
    controls: CompactedTable
    on_policy: OnPolicy
    health: Health
    metrics: Metrics
    prices: Prices
    gateway: GatewayParts | None


def build(settings: RouterSettings, bus: Bus | None = None) -> Parts:
    """Put the parts together; call it inside the event loop that will run them.

    Raises:
        JournalError, OSError: the folder of the journal or of the accounts cannot be used.
        ProvidersInvalid, OwnPricesInvalid: a file that the settings name cannot be used.
    """
    metrics, health = Metrics(), Health()
    codec = Codec(load_registry(settings.schema_registry_url))
    chosen = bus or KafkaBus(settings.kafka_bootstrap, client_id="flywheel-router")
    board = PolicyBoard()
    log = DecisionLog(open_slot(settings.state_dir / "router" / "decisions", **_sizes(settings)), codec, metrics)
    key = settings.user_hash_key.get_secret_value().encode() if settings.user_hash_key else None
    prices = Prices(settings.price_file)
    leases = Leases(settings.state_dir / "router" / "accounts", chosen, codec, metrics, prices.book)
    decider = Decider(board, remembered=settings.remembered_decisions, spending=leases.spending)
    tracing = tracer("router") if os.environ.get(ENDPOINT_ENV) else None
    wait_s = settings.lease_wait_ms / 1000
    service = DecideService(
        decider, log, metrics, user_hash_key=key, tracer=tracing, leases=leases, lease_wait_s=wait_s
    )
    remote = RemoteDecisions(log, service.hash_user, wall_clock_us, remembered=settings.remembered_decisions)
    page = PolicyPage(board, health, service.budgeted)
    leases.on_definition = page.changed
    on_policy = follow(board, metrics, page.changed)
    table = CompactedTable(chosen, POLICIES, codec, on_policy)
    controls = CompactedTable(chosen, CONTROLS, codec, follow_controls(board, metrics, page.changed))
    health.set_ready("policies", False, "not read to their end yet")
    health.set_ready("controls", False, "not read to their end yet")
    health.set_ready("budgets", False, "not read to their end yet")
    gateway = build_gateway(
        settings, service=service, board=board, log=log, prices=prices, health=health, metrics=metrics
    )
    app = RouterApp(service, remote, page, health, metrics, gateway=gateway.app if gateway else None)
    return Parts(
        settings, chosen, app, page, service, log, leases, table, controls, on_policy, health, metrics, prices,
        gateway,
    )  # fmt: skip


def follow(board: PolicyBoard, metrics: Metrics, changed: Callable[[], None]) -> OnPolicy:
    """What is done with each policy that is read. One that cannot be used is logged, and what was held stays."""
    log = logger("router.policies")

    def update(key: str, event: dict[str, Any] | None) -> None:
        try:
            if not board.update(key, event):
                return
        except (ValueError, KeyError, TypeError) as error:
            log.error("policy cannot be used", key=key, detail=str(error))
            return
        metrics.gauge("policies_loaded", len(board))
        metrics.count("policy_updates_total", 1, feature=key)
        metrics.gauge("policy_version", event["policy_version"] if event else 0, feature=key)
        changed()

    return update


def follow_controls(board: PolicyBoard, metrics: Metrics, changed: Callable[[], None]) -> OnPolicy:
    """What is done with each control that is read. One that makes no sense is logged, and what was held stays."""
    log = logger("router.controls")

    def update(key: str, event: dict[str, Any] | None) -> None:
        try:
            if not board.controls.update(event):
                return
        except ControlInvalid as error:
            log.error("control cannot be used", key=key, field=error.field, detail=error.message)
            return
        metrics.count("control_updates_total", 1, feature=event["feature"] if event else "")
        changed()

    return update


async def run(settings: RouterSettings, stop: asyncio.Event, bus: Bus | None = None) -> None:
    """Serve HTTP and gRPC until ``stop`` is set; then answer what is under way, send what is logged, and return.

    Raises:
        OSError: a port or the folder of the journal cannot be used.
        Exception: whatever ended a background task, as the router must not go on without it.
    """
    parts = build(settings, bus)
    grpc_server, grpc_port = await start_grpc(parts.service, settings.host, settings.grpc_port)
    announce_port(grpc_port, name="grpc", host=settings.host)
    closing = asyncio.Event()
    background = {
        _task("policies", parts.table.run()),
        _task("policies-ready", _policies_ready(parts)),
        _task("controls", parts.controls.run()),
        _task("controls-ready", _controls_ready(parts)),
        _task("budgets-ready", _budgets_ready(parts)),
        *(_task(topic, table.run()) for topic, table in parts.leases.tables.items()),
        _task("decision-log", _send_log(parts)),
        _task("counts", _report_counts(parts.service)),
    }
    if parts.gateway is not None:
        background.add(_task("prices-ready", parts.gateway.opened()))
    grace_s = _GRACE_S if parts.gateway is None else max(_GRACE_S, settings.gateway_grace_s)
    serving = {
        _task(
            "http", serve(parts.app, settings.host, settings.port, http=DecideProtocol, stop=closing, grace_s=grace_s)
        )
    }
    if settings.ops_port is not None:
        operations = operations_app(parts.health, parts.metrics)
        serving.add(_task("ops", serve(operations, settings.host, settings.ops_port, name="ops", stop=closing)))
    stopping = _task("stop", stop.wait())
    _settle_memory()
    try:
        await _until_one_ends({stopping, *serving, *background})
    finally:
        closing.set()
        parts.page.close()
        await asyncio.gather(grpc_server.stop(_GRACE_S), *serving, return_exceptions=True)
        if parts.gateway is not None:
            await parts.gateway.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await parts.leases.closed()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(parts.log.emptied(), _DRAIN_S)
        for task in {stopping, *background}:
            task.cancel()
        await asyncio.gather(stopping, *background, return_exceptions=True)
        parts.log.close()
        parts.leases.close()
        flush_traces("router")


async def _until_one_ends(tasks: set[asyncio.Task[Any]]) -> None:
    """Wait for the stop, or for a part that failed; those that say when something is ready may end."""
    while True:
        done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if any(not task.get_name().endswith("-ready") for task in done):
            return


async def _policies_ready(parts: Parts) -> None:
    await parts.table.ready.wait()
    parts.health.set_ready("policies", True)


async def _controls_ready(parts: Parts) -> None:
    await parts.controls.ready.wait()
    parts.health.set_ready("controls", True)


async def _budgets_ready(parts: Parts) -> None:
    await parts.leases.opened()
    parts.health.set_ready("budgets", True)


async def _report_counts(service: DecideService) -> None:
    while True:
        await asyncio.sleep(_REPORT_S)
        service.report()


async def _send_log(parts: Parts) -> None:
    """Connect to Kafka, however long that takes; send what dead processes left, what this one logs, and what it asks
    of budgets."""
    producer = await _connected(parts.bus, parts.metrics)
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(parts.log.send(producer, parts.health))
            both.create_task(_send_orphans(parts, producer))
            both.create_task(parts.leases.run(producer))
    finally:
        await producer.stop()


async def _connected(bus: Bus, metrics: Metrics) -> Producer:
    log = logger("router.decision_log")
    while True:
        producer = bus.producer()
        try:
            await producer.start()
            return producer
        except Unavailable as error:
            metrics.gauge("dependency_up", 0, dependency="kafka")
            log.warning("waiting for kafka", detail=str(error))
            await asyncio.sleep(min(error.retry_after_s, 2.0))


async def _send_orphans(parts: Parts, producer: Producer) -> None:
    for journal in orphans(parts.settings.state_dir / "router" / "decisions", **_sizes(parts.settings)):
        with journal:
            while journal.waiting:
                try:
                    await send_batch(journal, producer, parts.metrics)
                except Unavailable as error:
                    journal.rewind()
                    await asyncio.sleep(error.retry_after_s)


def _sizes(settings: RouterSettings) -> dict[str, int]:
    return {"max_bytes": settings.journal_max_bytes, "segment_bytes": settings.journal_segment_bytes}


def _task(name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.create_task(work, name=name)


def _settle_memory() -> None:
    """What is loaded now stays: keep the collector from walking it in the middle of an answer."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
