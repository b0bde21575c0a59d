"""``POST /v1/traces`` and ``/v1/logs``: OTLP over HTTP. Answered only after Kafka acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
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
from flywheel_ingest.otlp.records import BodyUndecodable, Entry, TooManyRecords
from flywheel_ingest.window import RecentIds

if TYPE_CHECKING:
    from flywheel_ingest.http import Ingest

PATHS: Final[dict[Signal, str]] = {"traces": "/v1/traces", "logs": "/v1/logs"}
RECORD_KINDS: Final[dict[Signal, str]] = {"traces": "span", "logs": "log"}
ASIDE_BYTES: Final = 256 << 10
"""A larger body is decoded in a thread, so that others are answered meanwhile."""
CLIENT_GONE: Final = 499
_TOLD: Final = "told"


def otlp_routes(ingest: Ingest, in_flight: InFlight) -> list[Route]:
    """The routes of both signals; their bodies share the bound on bytes under way with all others."""
    told = RecentIds(ingest.settings.recent_ids)
    exports = [_Exports(ingest, signal, in_flight, told) for signal in PATHS]
    return [Route(PATHS[each.signal], each.handle, methods=["POST"]) for each in exports]


@dataclass(frozen=True, slots=True)
class _Exports:
    """The exports of one signal; ``told`` remembers by which spans a call was told."""

    ingest: Ingest
    signal: Signal
    in_flight: InFlight
    told: RecentIds

    async def handle(self, request: Request) -> Response:
        started = perf_counter()
        path, metrics = PATHS[self.signal], self.ingest.metrics
        spoken = PROTOBUF if media_type_of(request.headers) == PROTOBUF else JSON
        try:
            with self.in_flight.share() as share:
                answer = await self._export(request, share, spoken)
        except Turned as turned:
            answer = failure(turned, spoken)
        except ClientDisconnect:
            answer = Answer(CLIENT_GONE, b"", {})
        except Exception as error:
            # The type only: a message may hold what was sent.
            logger("ingest.otlp").error("request failed", path=path, error=type(error).__name__)
            answer = failure(Turned(500, "", "an error of ours; nothing of this request is promised"), spoken)
        metrics.count("http_requests_total", 1, route=path, status=answer.status)
        metrics.observe("http_request_seconds", perf_counter() - started, route=path)
        return Response(answer.body, status_code=answer.status, headers=answer.headers)

    async def _export(self, request: Request, share: Share, spoken: str) -> Answer:
        settings, kind_of_record = self.ingest.settings, RECORD_KINDS[self.signal]
        limits = BodyLimits(settings.max_body_bytes, settings.max_inflated_bytes, settings.body_timeout_s)
        body = await read_body(request.stream(), request.headers, limits, share, media_types=(PROTOBUF, JSON))
        self.ingest.metrics.count("ingest_bytes_total", len(body), kind=kind_of_record)
        if len(body) > ASIDE_BYTES:
            taken = await asyncio.to_thread(self._judge, body, spoken)
        else:
            taken = self._judge(body, spoken)
        for name, facts in taken.facts.items():
            kind = KINDS[name]
            admission = _screen(facts, kind, self.ingest.recent)
            await self.ingest.publish(kind, admission)
            self.ingest.count(kind, admission)
        for key, value in taken.remember:
            self.told.settle(_TOLD, key, value)
        self._count(taken)
        return success(self.signal, spoken, rejected=taken.verdicts["rejected"], message=message_of(taken))

    def _judge(self, body: bytes, spoken: str) -> Taken:
        settings = self.ingest.settings
        most = settings.otlp_max_records
        try:
            return take(
                self.ingest.core,
                self._entries(body, spoken, most),
                self.ingest.clock_us(),
                keep_sampled_events=settings.otlp_sampled_events,
                keep_content=settings.otlp_content,
                max_facts=most,
                told_before=lambda key: self.told.find(_TOLD, key)[0],
            )
        except BodyUndecodable as undecodable:
            raise Turned(400, "body", str(undecodable)) from None
        except TooManyRecords as many:
            raise Turned(413, "body", str(many)) from None

    def _entries(self, body: bytes, spoken: str, most: int) -> Iterator[Entry]:
        traces = self.signal == "traces"
        if spoken == JSON:
            return (json_body.read_traces if traces else json_body.read_logs)(body, max_records=most)
        read = protobuf.read_traces if traces else protobuf.read_logs
        return read(body, max_records=most, max_record_bytes=self.ingest.settings.otlp_max_record_bytes)

    def _count(self, taken: Taken) -> None:
        for verdict, count in taken.verdicts.items():
            if count:
                kind = RECORD_KINDS[self.signal]
                self.ingest.metrics.count("ingest_items_total", count, kind=kind, verdict=verdict)
        if taken.content:
            self.ingest.metrics.count("ingest_content_dropped_total", taken.content, reason="otlp")


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
