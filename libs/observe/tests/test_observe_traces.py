"""One trace through HTTP, Kafka headers and the next service; without an exporter the ids still pass through."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flywheel.observe import (
    TraceMiddleware,
    extract,
    flush_traces,
    inject,
    past_span,
    span,
    traceparent,
    tracer,
    valid_traceparent,
)
from flywheel.observe import traces as traces_module

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Traces on, exported to memory instead of over the network."""
    memory = InMemorySpanExporter()
    monkeypatch.setenv(traces_module.ENDPOINT_ENV, "http://127.0.0.1:9")
    monkeypatch.setattr(
        "opentelemetry.exporter.otlp.proto.http.trace_exporter.OTLPSpanExporter", lambda: Forward(memory)
    )
    traces_module._provider.cache_clear()
    yield memory
    traces_module._provider.cache_clear()


class Forward(SpanExporter):
    """Hands spans to a shared memory, and outlives the provider that shuts it down."""

    def __init__(self, memory: InMemorySpanExporter) -> None:
        self.memory = memory

    def export(self, spans):  # type: ignore[no-untyped-def]
        self.memory.export(spans)
        return SpanExportResult.SUCCESS


async def ingest(request: Request) -> Response:
    """What a service does between HTTP and Kafka: passes the current context on in record headers."""
    headers: list[tuple[str, bytes]] = [("ce_id", b"1")]
    inject(headers)
    return JSONResponse([[name, value.decode()] for name, value in headers])


def app(service: str) -> httpx.AsyncClient:
    wrapped = TraceMiddleware(Starlette(routes=[Route("/v1/calls", ingest, methods=["POST"])]), service)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=wrapped), base_url="http://ingest")


async def test_one_trace_goes_from_http_through_kafka_headers_into_the_next_service(
    exported: InMemorySpanExporter,
) -> None:
    async with app("ingest") as client:
        record = (await client.post("/v1/calls", headers={"traceparent": PARENT})).json()
    with span(tracer("bandit"), "fold", parent=extract([(n, v.encode()) for n, v in record]), records=1):
        pass
    flush_traces("ingest")
    flush_traces("bandit")
    http, fold = exported.get_finished_spans()
    assert f"{http.context.trace_id:032x}" == PARENT.split("-")[1] == f"{fold.context.trace_id:032x}"
    assert http.parent is not None
    assert f"{http.parent.span_id:016x}" == PARENT.split("-")[2]
    assert fold.parent is not None
    assert fold.parent.span_id == http.context.span_id
    assert (http.resource.attributes["service.name"], fold.resource.attributes["service.name"]) == ("ingest", "bandit")


def test_a_record_handled_later_continues_its_trace_from_when_it_was_appended(exported: InMemorySpanExporter) -> None:
    appended_ns = time.time_ns() - 2_000_000_000
    headers = [("traceparent", PARENT.encode())]
    past_span("recorder", "recorder llm-calls", parent=extract(headers), started_ns=appended_ns, offset=7)
    past_span("recorder", "recorder llm-calls", parent=extract([]), started_ns=appended_ns)
    flush_traces("recorder")
    (span_made,) = exported.get_finished_spans()
    assert f"{span_made.context.trace_id:032x}" == PARENT.split("-")[1]
    assert span_made.start_time == appended_ns
    assert span_made.end_time is not None
    assert span_made.end_time >= appended_ns + 2_000_000_000


def test_without_an_exporter_a_handled_record_costs_nothing() -> None:
    past_span("recorder", "recorder llm-calls", parent=extract([("traceparent", PARENT.encode())]), started_ns=1)


async def test_without_an_exporter_nothing_is_recorded_and_the_ids_pass_through() -> None:
    async with app("ingest-plain") as client:
        known = dict((await client.post("/v1/calls", headers={"traceparent": PARENT})).json())
        unknown = dict((await client.post("/v1/calls")).json())
    assert known["traceparent"] == PARENT
    assert "traceparent" not in unknown


def test_outside_a_trace_there_is_no_traceparent() -> None:
    assert traceparent() is None
    headers: dict[str, str] = {}
    inject(headers)
    assert headers == {}


@pytest.mark.parametrize(
    "headers",
    [
        {"Traceparent": PARENT},
        [(b"traceparent", PARENT.encode())],
        [("ce_id", b"1"), ("traceparent", PARENT.encode())],
    ],
)
def test_a_parent_is_found_in_http_asgi_and_kafka_headers(headers: object) -> None:
    assert traceparent(extract(headers)) == PARENT  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "00-0-0-0", PARENT[:-3], "00-" + "0" * 32 + "-b7ad6b7169203331-01", "zz" + PARENT[2:]]
)
def test_a_malformed_parent_is_ignored(text: str) -> None:
    assert traceparent(extract({"traceparent": text})) is None
    assert not valid_traceparent(text)


def test_a_wellformed_parent_is_valid() -> None:
    assert valid_traceparent(PARENT)
