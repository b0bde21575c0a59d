"""Puts the gateway together from the settings."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flywheel.observe import Health, Metrics, logger
from flywheel.pricing import PriceBook, bundled_prices
from flywheel.pricing.own import read_own_price_file
from flywheel_router.board import PolicyBoard
from flywheel_router.decision_log import DecisionLog
from flywheel_router.gateway.circuits import CircuitRules, Circuits
from flywheel_router.gateway.content import ContentPolicy
from flywheel_router.gateway.exchange import Means
from flywheel_router.gateway.gateway import Gateway, GatewayRules
from flywheel_router.gateway.http import GatewayApp
from flywheel_router.gateway.planning import RetryRules
from flywheel_router.gateway.providers import load_providers
from flywheel_router.gateway.recording import Recorder
from flywheel_router.gateway.upstream import PooledUpstream, Upstream
from flywheel_router.service import DecideService
from flywheel_router.settings import RouterSettings


class Prices:
    """The prices of calls: the public table, and before it a person's own file. Read once, when first asked for."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def book(self) -> PriceBook:
        """The prices; the first time takes about a second. Raises ``OwnPricesInvalid``."""
        return self._book

    @cached_property
    def _book(self) -> PriceBook:
        return bundled_prices() if self._path is None else read_own_price_file(self._path)


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """The gateway, put together."""

    app: GatewayApp
    gateway: Gateway
    upstream: Upstream
    recorder: Recorder
    prices: Prices
    health: Health

    async def opened(self) -> None:
        """Read the prices without holding up the loop; the router is ready for calls after that."""
        await asyncio.to_thread(self.prices.book)
        self.health.set_ready("prices", True)

    async def close(self) -> None:
        """Close every connection and write what still waits."""
        await self.upstream.close()
        self.recorder.close()


def build_gateway(
    settings: RouterSettings,
    *,
    service: DecideService,
    board: PolicyBoard,
    log: DecisionLog,
    prices: Prices,
    health: Health,
    metrics: Metrics,
    upstream: Upstream | None = None,
) -> GatewayParts | None:
    """The gateway under these settings; None where no providers are declared.

    Raises:
        ProvidersInvalid: their file cannot be used.
    """
    if settings.providers_file is None:
        return None
    providers = load_providers(settings.providers_file, os.environ)
    content = None
    if settings.gateway_content:
        key = settings.redaction_key
        content = ContentPolicy(settings.redaction_policy_file, key.get_secret_value().encode() if key else None)
        if content.closed is not None:
            logger("router.gateway").error("prompts and answers are dropped", why=content.closed)
    recorder = Recorder(log, metrics, prices.book, content)
    chosen = upstream or PooledUpstream()
    hedged = frozenset(each.strip() for each in settings.gateway_hedge.split(",") if each.strip())
    circuits = CircuitRules(
        window_s=settings.circuit_window_s,
        least_attempts=settings.circuit_least_attempts,
        error_rate=settings.circuit_error_rate,
        timeout_rate=settings.circuit_timeout_rate,
        p99_ms=settings.circuit_p99_ms,
        open_s=settings.circuit_open_s,
    )
    means = Means(
        providers=providers,
        upstream=chosen,
        circuits=Circuits(circuits),
        recorder=recorder,
        rules=RetryRules(settings.gateway_attempts, settings.gateway_tries_per_arm),
        hedged=lambda project, feature: f"{project}/{feature}" in hedged,
    )
    shown = settings.gateway_key
    rules = GatewayRules(
        project=settings.gateway_project,
        deadline_s=settings.gateway_deadline_s,
        passthrough=settings.gateway_passthrough,
        drain=settings.gateway_on_disconnect == "drain",
        key=shown.get_secret_value() if shown else None,
    )
    gateway = Gateway(rules, means, service, board, metrics, remembered=settings.remembered_decisions)
    health.set_ready("prices", False, "not read yet")
    return GatewayParts(GatewayApp(gateway), gateway, chosen, recorder, prices, health)
