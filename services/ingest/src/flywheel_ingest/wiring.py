"""The parts of ingest put together."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable

from flywheel.events import Codec, load_registry
from flywheel.observe import Health, Metrics, flush_traces, logger, operations_app, serve, stop_on_signals
from flywheel.pricing import PriceBook, bundled_prices
from flywheel.stream import KafkaBus, Publisher
from flywheel_ingest.adapters import (
    KafkaFactLog,
    RedactedLog,
    now_us,
    redaction_policies,
    user_hash_key,
    user_hasher,
)
from flywheel_ingest.core import Core
from flywheel_ingest.http import Ingest
from flywheel_ingest.items import KINDS, ItemRules
from flywheel_ingest.ports import FactLog
from flywheel_ingest.price_file import PriceFile, follow_prices, hung_up
from flywheel_ingest.redacting import Redaction
from flywheel_ingest.settings import IngestSettings
from flywheel_ingest.window import RecentIds


def build_core(settings: IngestSettings, codec: Codec, prices: PriceBook) -> Core:
    """The core under these settings; reads or makes the key of user hashes."""
    configured = settings.user_hash_key
    key = user_hash_key(configured.get_secret_value() if configured else None, settings.state_dir)
    return Core(
        rules={name: ItemRules(kind, codec.schema(kind.event)) for name, kind in KINDS.items()},
        limits=settings.limits(),
        prices=prices,
        hash_user=user_hasher(key),
        digest_key=hmac.digest(key, b"flywheel/ingest/digest", "sha256"),
    )


def build_redaction(settings: IngestSettings, codec: Codec) -> Redaction:
    """Redaction under these settings; where it cannot work, for some projects or all, the log says why."""
    policies, closed = redaction_policies(settings.redaction_policy_file)
    configured = settings.redaction_key
    redaction = Redaction(
        policies,
        configured.get_secret_value().encode() if configured else None,
        codec.schema,
        most_bytes=settings.max_item_bytes,
        closed=closed,
    )
    if redaction.warning is not None:
        logger("ingest.redaction").error("texts are dropped", why=redaction.warning)
    return redaction


def build_ingest(
    settings: IngestSettings,
    core: Core,
    log: FactLog,
    redaction: Redaction,
    *,
    metrics: Metrics,
    health: Health,
    clock_us: Callable[[], int] = now_us,
) -> Ingest:
    """Ingest over a core and a log of facts, which gets them redacted; a test passes its own log or clock."""
    recent = RecentIds(settings.recent_ids)
    return Ingest(core, RedactedLog(log, redaction, metrics), recent, settings, metrics, health, clock_us)


async def run(settings: IngestSettings) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are then finished."""
    metrics, health, stop = Metrics(), Health(), asyncio.Event()
    codec = Codec(load_registry())
    bus = KafkaBus(settings.kafka_bootstrap, client_id=f"flywheel-{settings.service}")
    log = KafkaFactLog(
        bus, Publisher(bus, codec, source=settings.service), health, timeout_s=settings.publish_timeout_s
    )
    own = None if settings.price_file is None else PriceFile(settings.price_file)
    core = build_core(settings, codec, bundled_prices() if own is None else own.read())
    ingest = build_ingest(settings, core, log, build_redaction(settings, codec), metrics=metrics, health=health)
    app = ingest.app()
    stop_on_signals(stop)
    grace_s = settings.publish_timeout_s + 1
    servers = [serve(app, settings.host, settings.port, stop=stop, grace_s=grace_s)]
    if settings.ops_port is not None:
        operations = operations_app(health, metrics)
        servers.append(serve(operations, settings.host, settings.ops_port, name="ops", stop=stop))
    watching = [asyncio.create_task(log.watch(), name="watch-kafka")]
    if own is not None:
        follow = follow_prices(own, ingest.use_prices, metrics, hung_up(), every_s=settings.price_file_every_s)
        watching.append(asyncio.create_task(follow, name="follow-prices"))
    try:
        await asyncio.gather(*servers)
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await log.close()
        flush_traces(settings.service)
