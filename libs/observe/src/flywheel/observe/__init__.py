"""Logging, metrics, traces, health and settings of our own services."""

from flywheel.observe.health import Health, Part
from flywheel.observe.http import announce_port, bind, operations_app, operations_routes, serve, stop_on_signals
from flywheel.observe.logs import configure_logging, log_context, logger, redact, secret_name
from flywheel.observe.loop import run, spare_the_collector
from flywheel.observe.metrics import (
    DECLARATIONS,
    CounterName,
    Declaration,
    GaugeName,
    HistogramName,
    MetricName,
    Metrics,
)
from flywheel.observe.settings import (
    ServiceSettings,
    Setting,
    SettingsInvalid,
    command_line,
    describe,
    load_settings,
    print_config,
)
from flywheel.observe.traces import (
    TraceMiddleware,
    extract,
    flush_traces,
    inject,
    past_span,
    recording,
    span,
    traceparent,
    tracer,
    valid_traceparent,
)

__all__ = [
    "DECLARATIONS",
    "CounterName",
    "Declaration",
    "GaugeName",
    "Health",
    "HistogramName",
    "MetricName",
    "Metrics",
    "Part",
    "ServiceSettings",
    "Setting",
    "SettingsInvalid",
    "TraceMiddleware",
    "announce_port",
    "bind",
    "command_line",
    "configure_logging",
    "describe",
    "extract",
    "flush_traces",
    "inject",
    "load_settings",
    "log_context",
    "logger",
    "operations_app",
    "operations_routes",
    "past_span",
    "print_config",
    "recording",
    "redact",
    "run",
    "secret_name",
    "serve",
    "span",
    "spare_the_collector",
    "stop_on_signals",
    "traceparent",
    "tracer",
    "valid_traceparent",
]
