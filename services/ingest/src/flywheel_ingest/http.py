"""The HTTP side: routes, limits, answers. What an item is worth is decided in the core."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Final

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from flywheel.observe import Health, Metrics, TraceMiddleware, logger, operations_routes, traceparent
from flywheel.pricing import PriceBook
from flywheel_ingest.batch import BodyInvalid, BodyUnreadable, TooManyItems, parse
from flywheel_ingest.body import BodyLimits, InFlight, Share, Turned, read_body
from flywheel_ingest.core import Admission, Core, report, screen, status_of
from flywheel_ingest.items import KINDS, Kind
from flywheel_ingest.openapi import docs_page, openapi_document
from flywheel_ingest.otlp.routes import PATHS, otlp_routes
from flywheel_ingest.ports import FactLog, LogAway
from flywheel_ingest.salvage import salvage
from flywheel_ingest.settings import IngestSettings
from flywheel_ingest.window import RecentIds

CLIENT_GONE: Final = 499
Handler = Callable[[Request], Awaitable[Response]]


@dataclass
class Ingest:
    """The parts of a running ingest; ``clock_us`` gives microseconds since the epoch."""

    core: Core
    log: FactLog
    recent: RecentIds
    settings: IngestSettings
    metrics: Metrics
    health: Health
    clock_us: Callable[[], int]

    def use_prices(self, prices: PriceBook) -> None:
        """Price what comes from now on by other prices."""
        self.core = replace(self.core, prices=prices)

    def app(self) -> ASGIApp:
        """The ASGI app, with the operations routes unless these have a port of their own."""
        in_flight = InFlight(self.settings.max_in_flight_bytes)
        routes = [Route(kind.path, self._handler(kind, in_flight), methods=["POST"]) for kind in KINDS.values()]
        routes += otlp_routes(self, in_flight)
        routes += _pages(self.core)
        if self.settings.ops_port is None:
            routes += operations_routes(self.health, self.metrics)
        app = Starlette(routes=routes, exception_handlers={HTTPException: _not_routed, Exception: _failed})
        return TraceMiddleware(app, self.settings.service)

    def _handler(self, kind: Kind, in_flight: InFlight) -> Handler:
        async def handle(request: Request) -> Response:
            started = perf_counter()
            try:
                with in_flight.share() as share:
                    response = await self._post(kind, request, share)
            except Turned as turned:
                response = _refusal(turned)
            except ClientDisconnect:
                response = Response(status_code=CLIENT_GONE)
            self.metrics.count("http_requests_total", 1, route=kind.path, status=response.status_code)
            self.metrics.observe("http_request_seconds", perf_counter() - started, route=kind.path)
            return response

        return handle

    async def _post(self, kind: Kind, request: Request, share: Share) -> Response:
        settings = self.settings
        limits = BodyLimits(settings.max_body_bytes, settings.max_inflated_bytes, settings.body_timeout_s)
        body = await read_body(request.stream(), request.headers, limits, share)
        self.metrics.count("ingest_bytes_total", len(body), kind=kind.name)
        items = await _items(body, settings.max_items)
        admission = screen(self.core.admit(kind.name, items, self.clock_us()), kind, self.recent)
        await self.publish(kind, admission)
        self.count(kind, admission)
        return _json(report(admission), status_of(admission))

    async def publish(self, kind: Kind, admission: Admission) -> None:
        """Return only when Kafka has acknowledged every fact. Raises ``Turned`` (503)."""
        if not admission.facts:
            return
        try:
            with self.metrics.timed("ingest_publish_seconds", kind=kind.name):
                await self.log.write(kind, admission.facts, traceparent())
        except LogAway as away:
            self.metrics.count("ingest_items_total", len(admission.facts), kind=kind.name, verdict="unavailable")
            logger("ingest.http").warning("kafka away", kind=kind.name, facts=len(admission.facts))
            raise Turned(
                503,
                "kafka",
                "did not acknowledge in time; nothing of this batch is promised, post it again unchanged",
                retry_after_s=max(1, round(away.retry_after_s)),
            ) from None
        for fact in admission.facts:
            self.recent.settle(kind.name, fact.event_id, fact.digest)

    def count(self, kind: Kind, admission: Admission) -> None:
        """Count the verdicts of a batch, and its calls without a price."""
        for verdict, found in (
            ("accepted", admission.facts),
            ("duplicate", admission.duplicates),
            ("rejected", admission.refusals),
        ):
            if found:
                self.metrics.count("ingest_items_total", len(found), kind=kind.name, verdict=verdict)
        unpriced = Counter(
            # Providers that the table does not know are one: their names come from outside.
            fact.event["provider"] if self.core.prices.knows(fact.event["provider"]) else "other"
            for fact in admission.facts
            if kind.name == "call" and fact.event.get("cost_usd") is None
        )
        for provider, count in unpriced.items():
            self.metrics.count("ingest_unpriced_total", count, provider=provider)


async def _items(body: bytes, max_items: int) -> list[object]:
    try:
        try:
            return parse(body, max_items=max_items)
        except BodyUnreadable:
            # Seldom, and slow for a large body: off the loop, so that others are answered meanwhile.
            return await asyncio.to_thread(salvage, body, max_items=max_items)
    except BodyInvalid as invalid:
        raise Turned(400, invalid.field, str(invalid)) from None
    except TooManyItems as many:
        raise Turned(413, "items", str(many)) from None


def _pages(core: Core) -> list[Route]:
    document = openapi_document(core.rules)
    as_json, as_html = orjson.dumps(document), docs_page(document).encode()

    async def openapi(_: Request) -> Response:
        return Response(as_json, media_type="application/json")

    async def docs(_: Request) -> Response:
        return Response(as_html, media_type="text/html; charset=utf-8")

    return [Route("/openapi.json", openapi), Route("/docs", docs)]


def _json(body: object, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status_code=status, media_type="application/json", headers=headers)


def _refusal(turned: Turned) -> Response:
    headers = {} if turned.retry_after_s is None else {"retry-after": str(turned.retry_after_s)}
    if turned.field == "content-encoding":
        headers["accept-encoding"] = "gzip, identity"
    # The body may not have been read to its end, so the connection cannot carry another request.
    if turned.status in (408, 413):
        headers["connection"] = "close"
    return _json({"error": {"field": turned.field, "message": turned.message}}, turned.status, headers)


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    field = "method" if error.status_code == 405 else "path"
    paths = ", ".join([*(kind.path for kind in KINDS.values()), *PATHS.values()])
    message = f"{error.detail}; POST to {paths}"
    headers = dict(error.headers) if error.headers else None
    return _json({"error": {"field": field, "message": message}}, error.status_code, headers)


async def _failed(request: Request, error: Exception) -> Response:
    # The type only: a message may hold what was posted.
    logger("ingest.http").error("request failed", path=request.url.path, error=type(error).__name__)
    return _json({"error": {"field": "", "message": "an error of ours; nothing of this batch is promised"}}, 500)
