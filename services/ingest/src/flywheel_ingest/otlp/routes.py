"""``POST /v1/traces`` and ``/v1/logs``: OTLP over HTTP. Answered only after Kafka acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from flywheel.observe import logger
from flywheel_ingest.body import BodyLimits, InFlight, Share, Turned, media_type_of, read_body
from flywheel_ingest.core import Admission, Fact
from flywheel_ingest.items import KINDS, Kind
from flywheel_ingest.otlp import json_body, protobuf
from flywheel_ingest.otlp.answers import JSON, PROTOBUF, Answer, Signal, failure, success
from flywheel_ingest.otlp.intake import Taken, message_of, take
from flywheel_ingest.otlp.records import BodyUndecodable, TooManyRecords
from flywheel_ingest.window import RecentIds

if TYPE_CHECKING:
    from flywheel_ingest.http import Ingest

PATHS: Final[dict[Signal, str]] = {"traces": "/v1/traces", "logs": "/v1/logs"}
RECORD_KINDS: Final[dict[Signal, str]] = {"traces": "span", "logs": "log"}
ASIDE_BYTES: Final = 256 << 10
"""A larger body is decoded in a thread, so that others are answered meanwhile."""
CLIENT_GONE: Final = 499


def otlp_routes(ingest: Ingest, in_flight: InFlight) -> list[Route]:
    """The routes of both signals; their bodies share the bound on bytes under way with all others."""
    return [Route(path, _handler(ingest, signal, in_flight), methods=["POST"]) for signal, path in PATHS.items()]


def _handler(ingest: Ingest, signal: Signal, in_flight: InFlight) -> Callable[[Request], Awaitable[Response]]:
    path = PATHS[signal]

    async def handle(request: Request) -> Response:
        started = perf_counter()
        spoken = PROTOBUF if media_type_of(request.headers) == PROTOBUF else JSON
        try:
            with in_flight.share() as share:
                answer = await _export(ingest, signal, request, share, spoken)
        except Turned as turned:
            answer = failure(turned, spoken)
        except ClientDisconnect:
            answer = Answer(CLIENT_GONE, b"", {})
        except Exception as error:
            # The type only: a message may hold what was sent.
            logger("ingest.otlp").error("request failed", path=path, error=type(error).__name__)
            answer = failure(Turned(500, "", "an error of ours; nothing of this request is promised"), spoken)
        ingest.metrics.count("http_requests_total", 1, route=path, status=answer.status)
        ingest.metrics.observe("http_request_seconds", perf_counter() - started, route=path)
        return Response(answer.body, status_code=answer.status, headers=answer.headers)

    return handle


async def _export(ingest: Ingest, signal: Signal, request: Request, share: Share, spoken: str) -> Answer:
    settings, metrics = ingest.settings, ingest.metrics
    limits = BodyLimits(settings.max_body_bytes, settings.max_inflated_bytes, settings.body_timeout_s)
    body = await read_body(request.stream(), request.headers, limits, share, media_types=(PROTOBUF, JSON))
    metrics.count("ingest_bytes_total", len(body), kind=RECORD_KINDS[signal])
    judge = partial(_judge, ingest, signal, body, spoken, ingest.clock_us())
    taken = await asyncio.to_thread(judge) if len(body) > ASIDE_BYTES else judge()
    for name, facts in taken.facts.items():
        kind = KINDS[name]
        admission = _screen(facts, kind, ingest.recent)
        await ingest.publish(kind, admission)
        ingest.count(kind, admission)
    for verdict, count in taken.verdicts.items():
        if count:
            metrics.count("ingest_items_total", count, kind=RECORD_KINDS[signal], verdict=verdict)
    if taken.content:
        metrics.count("ingest_redactions_total", taken.content, kind="otlp_content")
    return success(signal, spoken, rejected=taken.verdicts["rejected"], message=message_of(taken))


def _judge(ingest: Ingest, signal: Signal, body: bytes, spoken: str, now_us: int) -> Taken:
    settings = ingest.settings
    most = settings.otlp_max_records
    try:
        if spoken == PROTOBUF:
            read = protobuf.read_traces if signal == "traces" else protobuf.read_logs
            entries = read(body, max_records=most, max_record_bytes=settings.otlp_max_record_bytes)
        else:
            entries = (json_body.read_traces if signal == "traces" else json_body.read_logs)(body, max_records=most)
        return take(ingest.core, entries, now_us, keep_sampled_events=settings.otlp_sampled_events, max_facts=most)
    except BodyUndecodable as undecodable:
        raise Turned(400, "body", str(undecodable)) from None
    except TooManyRecords as many:
        raise Turned(413, "body", str(many)) from None


def _screen(facts: list[Fact], kind: Kind, recent: RecentIds) -> Admission:
    """Take out what Kafka has acknowledged before. Unlike a batch, a span seen again with other attributes (by way of a
    second collector, say) is no conflict that its exporter could mend: the first one stands."""
    fresh: list[Fact] = []
    duplicates: list[Fact] = []
    seen: set[str] = set()
    for fact in facts:
        _, acknowledged = recent.find(kind.name, fact.event_id)
        if acknowledged or fact.event_id in seen:
            duplicates.append(fact)
            continue
        seen.add(fact.event_id)
        recent.claim(kind.name, fact.event_id, fact.digest)
        fresh.append(fact)
    return Admission(fresh, duplicates, [])
