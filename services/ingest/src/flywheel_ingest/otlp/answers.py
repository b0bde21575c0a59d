"""What an exporter is answered, in the encoding it spoke (OTLP 1.10, "OTLP/HTTP Response")."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from flywheel_ingest.body import Turned

Signal = Literal["traces", "logs"]
PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"

# google.rpc.Code; an exporter acts on the HTTP status alone.
_CODES: Final = {400: 3, 413: 3, 415: 3, 408: 4, 429: 8, 503: 14}
_INTERNAL: Final = 13
LEAST_RETRY_S: Final = 3
"""OpenTelemetry's Python exporters try six times and wait what they are told instead of longer each time, within ten
seconds unless set otherwise: a shorter wait would use the tries up before a broker is back."""
_RETRIED: Final = {408: 503}
"""Exporters send again after 429, 502, 503 and 504 only; a body that came too slowly is worth another try."""


class Answer(NamedTuple):
    """An HTTP answer: status, body, and the headers besides its length."""

    status: int
    body: bytes
    headers: dict[str, str]


def success(signal: Signal, media_type: str, *, rejected: int, message: str) -> Answer:
    """200: how many records were rejected, and why; ``message`` without a rejection is a warning."""
    answer: ExportTraceServiceResponse | ExportLogsServiceResponse
    if signal == "traces":
        answer = ExportTraceServiceResponse()
        if rejected or message:
            answer.partial_success.rejected_spans = rejected
            answer.partial_success.error_message = message
    else:
        answer = ExportLogsServiceResponse()
        if rejected or message:
            answer.partial_success.rejected_log_records = rejected
            answer.partial_success.error_message = message
    return Answer(200, _encoded(answer, media_type), {"content-type": media_type})


def failure(turned: Turned, media_type: str) -> Answer:
    """An error as ``google.rpc.Status``; with ``Retry-After`` where sending it again will help."""
    status = _RETRIED.get(turned.status, turned.status)
    message = Status(code=_CODES.get(status, _INTERNAL), message=f"{turned.field} {turned.message}".strip())
    headers = {"content-type": media_type}
    if status in (429, 503):
        headers["retry-after"] = str(max(LEAST_RETRY_S, turned.retry_after_s or 0))
    if turned.field == "content-encoding":
        headers["accept-encoding"] = "gzip, identity"
    # The body may not have been read to its end, so the connection cannot carry another request.
    if turned.status in (408, 413):
        headers["connection"] = "close"
    return Answer(status, _encoded(message, media_type), headers)


def _encoded(message: Message, media_type: str) -> bytes:
    if media_type == PROTOBUF:
        return message.SerializeToString()
    return MessageToJson(message, indent=None).encode()
