"""A trace goes on through Kafka: what a runner handled shows as a span from the broker's append to the durable
effect."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flywheel.observe import flush_traces
from flywheel.observe import traces as traces_module
from flywheel.stream.types import RawRecord, TopicPartition
from flywheel.stream.watch import trace_handled

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLS = TopicPartition("llm-calls", 2)


class Forward(SpanExporter):
    """Hands spans to a memory that outlives the provider."""

    def __init__(self, memory: InMemorySpanExporter) -> None:
        self.memory = memory

    def export(self, spans):  # type: ignore[no-untyped-def]
        self.memory.export(spans)
        return SpanExportResult.SUCCESS


def record(offset: int, *headers: tuple[str, bytes]) -> RawRecord:
    return RawRecord(CALLS.topic, CALLS.partition, offset, 1_795_000_000_000, b"k", b"v", headers)


def test_each_record_that_carries_a_trace_gets_a_span_of_its_service(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = InMemorySpanExporter()
    monkeypatch.setenv(traces_module.ENDPOINT_ENV, "http://127.0.0.1:9")
    monkeypatch.setattr(
        "opentelemetry.exporter.otlp.proto.http.trace_exporter.OTLPSpanExporter", lambda: Forward(memory)
    )
    traces_module._provider.cache_clear()
    try:
        trace_handled("bandit", {CALLS: [record(7, ("traceparent", PARENT.encode())), record(8)]})
        flush_traces("bandit")
    finally:
        traces_module._provider.cache_clear()
    (made,) = memory.get_finished_spans()
    assert made.name == "bandit llm-calls"
    assert made.parent is not None
    assert f"{made.parent.span_id:016x}" == PARENT.split("-")[2]
    assert made.start_time == 1_795_000_000_000_000_000
    assert made.attributes is not None
    assert made.attributes["offset"] == 7
    assert made.resource.attributes["service.name"] == "bandit"


def test_without_an_exporter_headers_are_not_even_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(traces_module.ENDPOINT_ENV, raising=False)
    monkeypatch.setattr("flywheel.stream.watch.extract", lambda _: pytest.fail("looked at headers"))
    trace_handled("bandit", {CALLS: [record(7, ("traceparent", PARENT.encode()))]})
