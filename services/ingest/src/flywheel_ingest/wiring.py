"""The parts of ingest put together."""

from __future__ import annotations

from collections.abc import Callable

from flywheel.events import Codec
from flywheel.observe import Health, Metrics
from flywheel.pricing import PriceBook
from flywheel_ingest.adapters import now_us, user_hash_key, user_hasher
from flywheel_ingest.core import Core
from flywheel_ingest.http import Ingest
from flywheel_ingest.items import KINDS, ItemRules
from flywheel_ingest.ports import FactLog
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
    )


def build_ingest(
    settings: IngestSettings,
    core: Core,
    log: FactLog,
    *,
    metrics: Metrics,
    health: Health,
    clock_us: Callable[[], int] = now_us,
) -> Ingest:
    """Ingest over a core and a log of facts; a test passes its own log or clock."""
    recent = RecentIds(settings.recent_ids)
    return Ingest(core, log, recent, settings, metrics, health, clock_us)
