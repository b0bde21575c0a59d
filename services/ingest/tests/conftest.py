"""What the tests of OTLP share: a core, and builders of requests by the official messages."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from flywheel.events import Codec, LocalRegistry
from flywheel.pricing import bundled_prices
from flywheel_ingest.core import Core
from flywheel_ingest.items import KINDS, ItemRules, Limits

sys.path.insert(0, str(Path(__file__).parent))  # what tests share besides: ingest_parts

START_NS = 1_795_234_140_000_000_000  # 2026-11-21T04:09:00Z
TRACE = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")


class Otlp:
    """What a row, or a test, says in few words, as requests in either encoding."""

    start_ns = START_NS
    trace = TRACE

    def span(
        self,
        attributes: Mapping[str, Any],
        *,
        number: int = 1,
        name: str = "span",
        status: int = 0,
        events: Sequence[Mapping[str, Any]] = (),
        ms: float = 1500.0,
    ) -> Span:
        """A span of 1.5 s; its id is its number."""
        span = Span(
            trace_id=TRACE,
            span_id=number.to_bytes(8, "big"),
            name=name,
            start_time_unix_nano=START_NS,
            end_time_unix_nano=START_NS + int(ms * 1e6),
            attributes=_pairs(attributes),
        )
        span.status.code = status  # type: ignore[assignment]
        for event in events:
            at_ns = START_NS + event.get("at_ms", 1000) * 1_000_000
            span.events.add(name=event["name"], time_unix_nano=at_ns, attributes=_pairs(event.get("attributes", {})))
        return span

    def log(
        self, attributes: Mapping[str, Any], *, event_name: str = "", context: bool = True, sampled: bool = False
    ) -> LogRecord:
        """A log record in the context of span 1."""
        return LogRecord(
            trace_id=TRACE if context else b"",
            span_id=(1).to_bytes(8, "big") if context else b"",
            flags=int(sampled),
            time_unix_nano=START_NS,
            event_name=event_name,
            attributes=_pairs(attributes),
        )

    def traces(
        self, *spans: Span, resource: Mapping[str, Any] | None = None, scope: str = ""
    ) -> ExportTraceServiceRequest:
        """A request with one resource and one scope."""
        request = ExportTraceServiceRequest()
        group = request.resource_spans.add()
        group.resource.attributes.extend(_pairs(resource or {}))
        inner = group.scope_spans.add()
        inner.scope.name = scope
        inner.spans.extend(spans)
        return request

    def logs(self, *records: LogRecord) -> ExportLogsServiceRequest:
        """A request with one resource and one scope."""
        request = ExportLogsServiceRequest()
        request.resource_logs.add().scope_logs.add().log_records.extend(records)
        return request

    def json(self, request: Message) -> bytes:
        """The request in OTLP's JSON: protobuf's mapping, but for the ids, which are hex."""
        return orjson.dumps(_hex(MessageToDict(request, use_integers_for_enums=True)))

    def varint(self, number: int) -> bytes:
        """A number as protobuf writes lengths."""
        return varint(number)

    def raw(self, attributes: Mapping[str, Any], number: int) -> bytes:
        """A span as bytes."""
        return self.span(attributes, number=number).SerializeToString()

    def wrapped(self, spans: Sequence[bytes]) -> bytes:
        """A request of these spans, as they are."""
        inner = b"".join(b"\x12" + varint(len(each)) + each for each in spans)
        scope = b"\x12" + varint(len(inner)) + inner
        return b"\x0a" + varint(len(scope)) + scope

    def json_spans(self, attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Spans 1, 2 and 3 as JSON objects."""
        request = self.json(self.traces(*(self.span(attributes, number=number) for number in (1, 2, 3))))
        spans: list[dict[str, Any]] = orjson.loads(request)["resourceSpans"][0]["scopeSpans"][0]["spans"]
        return spans

    def wrapped_json(self, spans: Sequence[bytes]) -> bytes:
        """A request of these spans, as they are."""
        return b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b",".join(spans) + b"]}]}]}"

    def nested(self, key: str, depth: int) -> bytes:
        """An attribute whose value is an array in an array, and so on."""
        value = b"\x0a\x04deep"
        for _ in range(depth):
            array = b"\x0a" + varint(len(value)) + value
            value = b"\x2a" + varint(len(array)) + array
        return b"\x0a" + varint(len(key)) + key.encode() + b"\x12" + varint(len(value)) + value


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def _pairs(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any(value)) for key, value in attributes.items()]


def _any(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case _:
            made = AnyValue()
            made.array_value.values.extend(map(_any, value))
            return made


def _hex(node: Any) -> Any:
    if isinstance(node, list):
        return [_hex(each) for each in node]
    if not isinstance(node, dict):
        return node
    ids = ("traceId", "spanId", "parentSpanId")
    return {key: base64.b64decode(value).hex() if key in ids else _hex(value) for key, value in node.items()}


@pytest.fixture(scope="session")
def codec() -> Codec:
    """The codec of the pinned schemas."""
    return Codec(LocalRegistry.load())


@pytest.fixture(scope="session")
def core(codec: Codec) -> Core:
    """The core over the real schemas and prices; every user hashes to the same."""
    rules = {name: ItemRules(kind, codec.schema(kind.event)) for name, kind in KINDS.items()}
    return Core(rules, Limits(), bundled_prices(), lambda project, user: "f" * 32)


@pytest.fixture(scope="session")
def otlp() -> Otlp:
    """The builders."""
    return Otlp()
