"""OpenTelemetry's own SDK and exporters into ingest as a process, with a real broker: what is sent is in the topics."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from flywheel.events import Codec, LocalRegistry, topics
from flywheel.local.kafka import KafkaNode
from flywheel.local.topic_admin import create_topics
from flywheel.stream import KafkaBus

pytest_plugins = ["flywheel.local.fixtures"]
pytestmark = [pytest.mark.broker]

TOPICS = ("llm-calls", "llm-content", "llm-feedback", "llm-evaluations")
CHAT: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 900,
    "gen_ai.usage.cache_read.input_tokens": 300,
    "gen_ai.usage.output_tokens": 200,
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.input.messages": "the password is s3cret-canary",
    "user.id": "ann@example.org",
}
SHOP = Resource.create({"service.name": "shop", "deployment.environment.name": "production"})


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []

    def start(bootstrap: str, **environ: str) -> subprocess.Popen[bytes]:
        ours = {"KAFKA_BOOTSTRAP": bootstrap, "STATE_DIR": str(tmp_path), "PORT": "0", **environ}
        env = {**os.environ, **{f"FLYWHEEL_{name}": value for name, value in ours.items()}}
        with (tmp_path / "ingest.log").open("ab") as log:
            running.append(subprocess.Popen([sys.executable, "-m", "flywheel_ingest"], env=env, stderr=log, stdout=log))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


async def base_url(log: Path) -> str:
    """Where the process listens, once it reached Kafka."""
    async with asyncio.timeout(120), httpx.AsyncClient() as http:
        while True:
            await asyncio.sleep(0.1)
            said = [orjson.loads(line) for line in log.read_bytes().splitlines() if line.startswith(b"{")]
            ports = [line["port"] for line in said if line["event"] == "listening"]
            if ports and (await http.get(f"http://127.0.0.1:{ports[-1]}/ready")).status_code == 200:
                return f"http://127.0.0.1:{ports[-1]}"


async def values_of(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    """Every event of a topic."""
    codec = Codec(LocalRegistry.load())
    consumer = KafkaBus(bootstrap, client_id="test").consumer(topics=[topic], group=None)
    await consumer.start()
    found: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(120):
            while not consumer.assignment():
                await consumer.poll(max_records=1, timeout_ms=10)
            partitions = sorted(consumer.assignment())
            for partition in partitions:
                consumer.seek(partition, 0)
            left = {partition: end for partition, end in (await consumer.end_offsets(partitions)).items() if end}
            while left:
                for partition, records in (await consumer.poll(max_records=5_000, timeout_ms=200)).items():
                    found += [codec.decode(record.value or b"").value for record in records]
                    if records[-1].offset + 1 >= left[partition]:
                        del left[partition]
    finally:
        await consumer.stop()
    return found


def work(tracer: trace.Tracer, requests: int) -> set[tuple[str, str]]:
    """So many requests of an application, each with a call of a model and a tool; trace and span ids of the calls."""
    calls: set[tuple[str, str]] = set()
    for _ in range(requests):
        with tracer.start_as_current_span("GET /ask", attributes={"http.request.method": "GET"}):
            with tracer.start_as_current_span(
                "execute_tool search", attributes={"gen_ai.operation.name": "execute_tool"}
            ):
                pass
            with tracer.start_as_current_span("chat gpt-4o", kind=trace.SpanKind.CLIENT, attributes=CHAT) as call:
                context = call.get_span_context()
                calls.add((f"{context.trace_id:032x}", f"{context.span_id:016x}"))
    return calls


async def test_what_the_sdk_exports_is_in_the_topics(
    private_kafka: Callable[..., KafkaNode], started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    kafka = private_kafka()
    await create_topics(kafka.bootstrap, [topics()[name] for name in TOPICS])
    started(kafka.bootstrap)
    url = await base_url(tmp_path / "ingest.log")
    spans, logs = TracerProvider(resource=SHOP), LoggerProvider(resource=SHOP)
    exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces", compression=Compression.Gzip)
    spans.add_span_processor(BatchSpanProcessor(exporter))
    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(endpoint=f"{url}/v1/logs")))

    def run() -> tuple[set[tuple[str, str]], str]:
        calls = work(spans.get_tracer("app"), 300)
        with spans.get_tracer("app").start_as_current_span("chat gpt-4o", attributes=CHAT) as judged:
            said = {"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 0.8}
            logs.get_logger("judge").emit(event_name="gen_ai.evaluation.result", attributes=said)
            context = judged.get_span_context()
        assert spans.force_flush()
        assert logs.force_flush()
        return calls | {(f"{context.trace_id:032x}", f"{context.span_id:016x}")}, f"{context.span_id:016x}"

    calls, judged = await asyncio.to_thread(run)
    stored = await values_of(kafka.bootstrap, "llm-calls")
    assert {(value["trace_id"], value["span_id"]) for value in stored} == calls
    assert len(stored) == len(calls)
    (first,) = {(v["app"], v["environment"], v["uncached_input_tokens"], v["finish_reason"]) for v in stored}
    assert first == ("shop", "production", 600, "stop")
    assert {str(value["cost_usd"]) for value in stored} == {"0.003875000000"}
    assert all(value["latency_ms"] is not None and len(value["user_hash"]) == 32 for value in stored)
    (evaluation,) = await values_of(kafka.bootstrap, "llm-evaluations")
    (of_span,) = [value["event_id"] for value in stored if value["span_id"] == judged]
    assert (evaluation["call_id"], evaluation["score"]) == (of_span, 0.8)
    contents = await values_of(kafka.bootstrap, "llm-content")
    assert {value["call_id"]: value["input_text"] for value in contents} == {
        value["event_id"]: "the password is [SECRET]" for value in stored
    }
    written = repr([*stored, *contents, evaluation]) + (tmp_path / "ingest.log").read_text()
    assert "s3cret-canary" not in written
    assert "ann@example.org" not in written
    async with httpx.AsyncClient() as http:
        metrics = (await http.get(f"{url}/metrics")).text
    assert 'flywheel_ingest_items_total{kind="span",verdict="not_genai"} 300.0' in metrics
    assert 'flywheel_ingest_items_total{kind="span",verdict="not_a_call"} 300.0' in metrics
    assert 'flywheel_ingest_redactions_total{kind="secret"} 301.0' in metrics
    await asyncio.to_thread(spans.shutdown)
    await asyncio.to_thread(logs.shutdown)


async def test_an_exporter_outlasts_a_stopped_broker(
    private_kafka: Callable[..., KafkaNode], started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    kafka = private_kafka()
    await create_topics(kafka.bootstrap, [topics()[name] for name in TOPICS])
    started(kafka.bootstrap)
    url = await base_url(tmp_path / "ingest.log")
    results: list[SpanExportResult] = []

    class Noting(OTLPSpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            results.append(super().export(spans))
            return results[-1]

    provider = TracerProvider(resource=SHOP)
    exporter = Noting(endpoint=f"{url}/v1/traces", timeout=120)
    provider.add_span_processor(BatchSpanProcessor(exporter, export_timeout_millis=120_000))
    before = await asyncio.to_thread(work, provider.get_tracer("app"), 20)
    assert await asyncio.to_thread(provider.force_flush)
    kafka.kill()
    during = await asyncio.to_thread(work, provider.get_tracer("app"), 20)
    flushed: list[bool] = []
    flushing = threading.Thread(target=lambda: flushed.append(provider.force_flush(120_000)))
    flushing.start()
    async with asyncio.timeout(90), httpx.AsyncClient() as http:
        while True:  # until the exporter was told that Kafka is away
            seen = (await http.get(f"{url}/metrics")).text
            if 'flywheel_http_requests_total{route="/v1/traces",status="503"}' in seen:
                break
            await asyncio.sleep(0.1)
    kafka.restart()
    await asyncio.to_thread(flushing.join)
    await asyncio.to_thread(provider.shutdown)
    assert set(results) == {SpanExportResult.SUCCESS}
    stored = await values_of(kafka.bootstrap, "llm-calls")
    assert {(value["trace_id"], value["span_id"]) for value in stored} == before | during
    assert len({value["event_id"] for value in stored}) == 40
