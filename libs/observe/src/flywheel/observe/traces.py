"""OpenTelemetry traces that follow a request through HTTP, Kafka headers and services (W3C Trace Context, 2021).

Nothing is recorded unless ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set; a ``traceparent`` that comes in is passed on all
the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Tracer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

ENDPOINT_ENV: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACEPARENT: Final = re.compile(r"^[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$")
_FIELDS: Final = ("traceparent", "tracestate")

HeaderPairs = Iterable[tuple[str | bytes, str | bytes]]
Headers = Mapping[str, str] | HeaderPairs


def recording() -> bool:
    """Whether spans are recorded at all."""
    return bool(os.environ.get(ENDPOINT_ENV))


@lru_cache(maxsize=64)
def _provider(service: str) -> trace.TracerProvider:
    if not recording():
        return trace.NoOpTracerProvider()
    # Imported late: exporter and SDK are a good part of a service's start, and a process without traces needs neither.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return recording_provider(service, OTLPSpanExporter())


def recording_provider(service: str, exporter: SpanExporter) -> TracerProvider:
    """A provider that records every span of ``service`` and exports them in the background."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def tracer(service: str) -> Tracer:
    """The tracer of a service; costs nothing unless an OTLP endpoint is configured."""
    return _provider(service).get_tracer("flywheel")


def flush_traces(service: str) -> None:
    """Export what is still waiting; call it once, when the process drains."""
    shutdown = getattr(_provider(service), "shutdown", None)
    if shutdown is not None:
        shutdown()


def _carrier(headers: Headers) -> dict[str, str]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    found: dict[str, str] = {}
    for name, value in pairs:
        key = (name if isinstance(name, str) else name.decode("latin-1")).lower()
        if key in _FIELDS:
            found[key] = value if isinstance(value, str) else bytes(value).decode("latin-1")
    return found


def extract(headers: Headers) -> Context:
    """The trace context in HTTP headers (a mapping, or ASGI's byte pairs) or Kafka headers; empty when there is none
    or it is malformed, as the standard asks."""
    carrier = _carrier(headers)
    return propagate.extract(carrier, context=Context()) if carrier else Context()


def traceparent(context: Context | None = None) -> str | None:
    """The W3C ``traceparent`` of the current (or the given) context; ``None`` outside a trace. Kafka producers put it
    in ``flywheel.events.headers(traceparent=…)``."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context=context)
    return carrier.get("traceparent")


def valid_traceparent(text: str) -> bool:
    """Whether ``text`` is a W3C traceparent."""
    return _TRACEPARENT.match(text) is not None


def inject(
    headers: MutableMapping[str, str] | MutableSequence[tuple[str, bytes]], context: Context | None = None
) -> None:
    """Add the current (or the given) trace context to HTTP headers (a mapping) or Kafka headers (a list of pairs)."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context=context)
    if isinstance(headers, MutableMapping):
        headers.update(carrier)
    else:
        headers.extend((name, value.encode("latin-1")) for name, value in carrier.items())


@contextmanager
def span(
    source: Tracer,
    name: str,
    *,
    parent: Context | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    **attributes: str | int | float,
) -> Iterator[Span]:
    """A span that is current inside; with ``parent`` it continues a trace that came in by ``extract``. An exception
    is recorded and goes on."""
    with source.start_as_current_span(name, context=parent, kind=kind, attributes=attributes) as current:
        yield current


def past_span(service: str, name: str, *, parent: Context, started_ns: int, **attributes: str | int | float) -> None:
    """Record a span of kind consumer that began at ``started_ns`` (nanoseconds since the epoch) and ends now, as a
    child of a trace that came in by ``extract``; without that trace nothing is recorded."""
    if not recording() or not trace.get_current_span(parent).get_span_context().is_valid:
        return
    made = tracer(service).start_span(
        name, context=parent, kind=SpanKind.CONSUMER, attributes=attributes, start_time=started_ns
    )
    made.end()


class TraceMiddleware:
    """ASGI: continues the trace of the request, one server span each. Without traces and without ``traceparent`` it
    adds one look at the headers."""

    def __init__(self, app: Any, service: str) -> None:
        self.app = app
        self._tracer = tracer(service)
        self._recording = recording()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        known = any(name == b"traceparent" for name, _ in scope["headers"])
        if not known and not self._recording:
            await self.app(scope, receive, send)
            return
        parent = extract(scope["headers"])
        if not self._recording:
            token = otel_context.attach(parent)
            try:
                await self.app(scope, receive, send)
            finally:
                otel_context.detach(token)
            return
        method, path = scope["method"], scope["path"]
        with span(
            self._tracer, f"{method} {path}", parent=parent, kind=SpanKind.SERVER, **{"http.request.method": method}
        ):
            await self.app(scope, receive, send)
