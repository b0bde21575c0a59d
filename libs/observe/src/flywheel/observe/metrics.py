"""Every Prometheus metric of Flywheel, declared in one place.

A metric is recorded by its name in code (``metrics.count("ingest_items_total", 1, kind="call", verdict="accepted")``)
and exported with the prefix ``flywheel_``. The names are literals, so a typo is a type error; a label that was not
declared is a ``ValueError`` at the first use. To add one: its name in the ``Literal`` below and one line in
``DECLARATIONS``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.metrics import MetricWrapperBase

PREFIX: Final = "flywheel"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

CounterName = Literal[
    "http_requests_total",
    "stream_records_total",
    "stream_dead_letters_total",
    "stream_skipped_total",
    "stream_outputs_total",
    "stream_rebalances_total",
    "stream_retries_total",
    "ingest_items_total",
    "ingest_bytes_total",
    "ingest_unpriced_total",
    "ingest_redactions_total",
    "ingest_content_dropped_total",
    "ingest_price_file_reads_total",
    "decisions_total",
    "decision_log_total",
    "policy_updates_total",
    "control_updates_total",
    "budget_refusals_total",
    "lease_requests_total",
    "lease_answers_total",
    "gateway_requests_total",
    "cascade_verdicts_total",
    "gateway_attempts_total",
    "gateway_content_dropped_total",
    "outcomes_total",
    "policies_published_total",
    "bandit_alerts_total",
    "leases_total",
    "budget_alerts_total",
    "actions_total",
    "detector_alerts_total",
    "monitor_records_total",
    "monitor_odd_values_total",
    "monitor_alerts_total",
    "notifications_total",
    "recorder_rows_total",
    "recorder_duplicates_total",
    "recorder_queries_total",
    "client_events_total",
]
GaugeName = Literal[
    "build_info",
    "dependency_up",
    "lag_records",
    "overdue_records",
    "stream_paused",
    "stream_pending_bytes",
    "stream_outbox_records",
    "policy_age_seconds",
    "policy_version",
    "policies_loaded",
    "budgets_loaded",
    "lease_accounts",
    "budget_spent_usd",
    "budget_available_usd",
    "budget_stranded_usd",
    "monitor_series",
    "monitor_windows",
    "notifications_waiting",
    "notifier_alerts",
    "decision_log_pending",
    "circuits_not_closed",
    "open_requests",
    "client_buffer_bytes",
    "client_spill_bytes",
    "ingest_price_file_broken",
]
HistogramName = Literal[
    "http_request_seconds",
    "stream_batch_seconds",
    "stream_batch_records",
    "stream_commit_seconds",
    "event_age_seconds",
    "ingest_publish_seconds",
    "decide_seconds",
    "lease_wait_seconds",
    "gateway_seconds",
    "gateway_first_token_seconds",
    "reward",
    "recorder_insert_seconds",
    "recorder_query_seconds",
]
MetricName = CounterName | GaugeName | HistogramName
LabelValue = str | int | float | bool

LATENCY_S: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
CALL_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
AGE_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
RECORDS: Final = (1, 10, 50, 100, 500, 1000, 5000, 10000)
UNIT: Final = (-1.0, -0.5, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a metric is: its name in code, kind, one-line help, labels and, for a histogram, its bucket bounds."""

    name: MetricName
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = LATENCY_S


DECLARATIONS: Final[tuple[Declaration, ...]] = (
    Declaration("build_info", "gauge", "Always 1; says what runs.", ("service", "version")),
    Declaration("dependency_up", "gauge", "1 while a dependency answers, else 0.", ("dependency",)),
    Declaration("http_requests_total", "counter", "HTTP requests answered.", ("route", "status")),
    Declaration("http_request_seconds", "histogram", "Time to answer an HTTP request.", ("route",)),
    Declaration("lag_records", "gauge", "Records not yet handled by this consumer.", ("topic", "partition")),
    Declaration("overdue_records", "gauge", "Those of them that waited a second ago already.", ("topic", "partition")),
    Declaration("stream_records_total", "counter", "Records by how they ended.", ("topic", "verdict")),
    Declaration("stream_dead_letters_total", "counter", "Records sent to a dead-letter topic.", ("topic", "reason")),
    Declaration("stream_skipped_total", "counter", "Records skipped on purpose.", ("topic", "reason")),
    Declaration("stream_outputs_total", "counter", "Records sent and acknowledged.", ("topic",)),
    Declaration("stream_rebalances_total", "counter", "Partitions assigned, revoked or lost.", ("kind",)),
    Declaration("stream_retries_total", "counter", "Attempts repeated because a dependency was away.", ("dependency",)),
    Declaration("stream_paused", "gauge", "1 while a partition is paused.", ("topic", "partition")),
    Declaration("stream_pending_bytes", "gauge", "Bytes read and not yet handled.", ("topic", "partition")),
    Declaration("stream_outbox_records", "gauge", "Outputs committed and not yet acknowledged.", ("partition",)),
    Declaration("stream_batch_seconds", "histogram", "Time to handle one batch.", ("step",)),
    Declaration("stream_batch_records", "histogram", "Records in one batch.", ("step",), RECORDS),
    Declaration("stream_commit_seconds", "histogram", "Time to commit one batch.", ("step",)),
    Declaration("event_age_seconds", "histogram", "Age of an event when it was handled.", ("topic",), AGE_S),
    Declaration("ingest_items_total", "counter", "Items posted, by verdict.", ("kind", "verdict")),
    Declaration("ingest_bytes_total", "counter", "Body bytes read.", ("kind",)),
    Declaration("ingest_unpriced_total", "counter", "Calls for which no price was known.", ("provider",)),
    Declaration("ingest_redactions_total", "counter", "Personal data and secrets taken out, by kind.", ("kind",)),
    Declaration("ingest_content_dropped_total", "counter", "Texts dropped instead of written.", ("reason",)),
    Declaration("ingest_price_file_reads_total", "counter", "Readings of the own price file.", ("result",)),
    Declaration("ingest_price_file_broken", "gauge", "1 while the own price file cannot be used: older prices hold."),
    Declaration("ingest_publish_seconds", "histogram", "Time until Kafka acknowledged a batch.", ("kind",)),
    Declaration("decisions_total", "counter", "Decisions made.", ("feature", "arm", "reason")),
    Declaration("decide_seconds", "histogram", "Time to decide.", ("transport",)),
    Declaration("decision_log_total", "counter", "Decisions written to the log, by verdict.", ("verdict",)),
    Declaration("decision_log_pending", "gauge", "Decisions made and not yet acknowledged by Kafka."),
    Declaration("budget_refusals_total", "counter", "Requests that no budget could pay.", ("budget", "reason")),
    Declaration("lease_requests_total", "counter", "Requests for money sent, repeated ones included."),
    Declaration("lease_answers_total", "counter", "Answers of the guard to this holder.", ("reason",)),
    Declaration("lease_wait_seconds", "histogram", "Time a request waited for a lease.", ("ended",)),
    Declaration("lease_accounts", "gauge", "Accounts held, of earlier lives too."),
    Declaration("cascade_verdicts_total", "counter", "Answers that a cascade's plan had judged.", ("verdict",)),
    Declaration("gateway_requests_total", "counter", "Requests to the gateway, by answer.", ("endpoint", "status")),
    Declaration("gateway_attempts_total", "counter", "Calls of providers, by how they ended.", ("provider", "ending")),
    Declaration("gateway_content_dropped_total", "counter", "Prompts and answers that could not be redacted."),
    Declaration("gateway_seconds", "histogram", "Time of a request to the gateway.", ("endpoint",), CALL_S),
    Declaration(
        "gateway_first_token_seconds", "histogram", "Time to the first token of a stream.", ("provider",), CALL_S
    ),
    Declaration("circuits_not_closed", "gauge", "Arms that are cut off, or on trial."),
    Declaration("budgets_loaded", "gauge", "Budgets held in memory."),
    Declaration("policies_loaded", "gauge", "Policies held in memory."),
    Declaration("policy_age_seconds", "gauge", "Seconds since the newest version of a policy.", ("feature",)),
    Declaration("policy_version", "gauge", "Newest version of a policy known here.", ("feature",)),
    Declaration("policy_updates_total", "counter", "Policy versions read.", ("feature",)),
    Declaration("control_updates_total", "counter", "Controls read.", ("feature",)),
    Declaration("outcomes_total", "counter", "Requests joined.", ("feature", "status")),
    Declaration("open_requests", "gauge", "Requests that still wait for a part.", ("partition",)),
    Declaration("policies_published_total", "counter", "Policy versions published.", ("feature",)),
    Declaration("bandit_alerts_total", "counter", "Alerts about proxies and experiments told.", ("kind", "state")),
    Declaration("leases_total", "counter", "Answers to holders of budgets.", ("budget", "reason")),
    Declaration("budget_alerts_total", "counter", "Alerts about budgets.", ("kind",)),
    Declaration("detector_alerts_total", "counter", "Reports of what the detector noticed.", ("kind", "state")),
    Declaration("actions_total", "counter", "Steps of the controller's actions.", ("kind", "state")),
    Declaration("monitor_records_total", "counter", "Facts by what the monitor made of them.", ("topic", "verdict")),
    Declaration("monitor_odd_values_total", "counter", "Values that make no sense, left out.", ("field",)),
    Declaration("monitor_alerts_total", "counter", "Burn-rate alerts told.", ("severity", "state")),
    Declaration("monitor_series", "gauge", "Features and arms with windows of their own."),
    Declaration(
        "notifications_total", "counter", "Messages about alerts, by what came of a try.", ("destination", "outcome")
    ),
    Declaration("notifications_waiting", "gauge", "Messages that a destination has not taken.", ("destination",)),
    Declaration("notifier_alerts", "gauge", "Alerts held, firing or not long over."),
    Declaration("monitor_windows", "gauge", "Windows held in memory."),
    Declaration("budget_spent_usd", "gauge", "Money spent in the present window.", ("budget",)),
    Declaration("budget_available_usd", "gauge", "Money that is neither spent nor held.", ("budget",)),
    Declaration("budget_stranded_usd", "gauge", "Money held by processes not heard of.", ("budget",)),
    Declaration("reward", "histogram", "Reward of joined requests.", ("feature", "arm"), UNIT),
    Declaration("recorder_rows_total", "counter", "Rows inserted.", ("table",)),
    Declaration("recorder_duplicates_total", "counter", "Records met again and not inserted.", ("table",)),
    Declaration("recorder_insert_seconds", "histogram", "Time of one insert.", ("table",)),
    Declaration("recorder_queries_total", "counter", "SQL queries answered.", ("status",)),
    Declaration("recorder_query_seconds", "histogram", "Time of one SQL query."),
    Declaration("client_events_total", "counter", "Events given to the client, by verdict.", ("kind", "verdict")),
    Declaration("client_buffer_bytes", "gauge", "Bytes waiting in memory."),
    Declaration("client_spill_bytes", "gauge", "Bytes waiting in the spill file."),
)

_Child = Counter | Gauge | Histogram


def _make(declaration: Declaration, registry: CollectorRegistry) -> _Child:
    name, labels = f"{PREFIX}_{declaration.name}", declaration.labels
    match declaration.kind:
        case "counter":
            return Counter(name, declaration.help, labels, registry=registry)
        case "gauge":
            return Gauge(name, declaration.help, labels, registry=registry)
        case "histogram":
            return Histogram(name, declaration.help, labels, registry=registry, buckets=declaration.buckets)


class Metrics:
    """The metrics of one process, in a registry of its own, so that two services in one test do not share counts.

    A metric appears in the exposition once it was used. Safe to use from several threads.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry or CollectorRegistry()
        self._declared: Mapping[str, Declaration] = {d.name: d for d in DECLARATIONS}
        self._parents: dict[str, _Child] = {}
        self._children: dict[tuple[object, ...], _Child] = {}

    def count(self, name: CounterName, amount: float = 1, **labels: LabelValue) -> None:
        """Add ``amount`` to a counter."""
        child = self._child(name, "counter", labels)
        assert isinstance(child, Counter)
        child.inc(amount)

    def gauge(self, name: GaugeName, value: float, **labels: LabelValue) -> None:
        """Set a gauge."""
        child = self._child(name, "gauge", labels)
        assert isinstance(child, Gauge)
        child.set(value)

    def observe(self, name: HistogramName, value: float, **labels: LabelValue) -> None:
        """Add one value to a histogram; the unit is in the name."""
        child = self._child(name, "histogram", labels)
        assert isinstance(child, Histogram)
        child.observe(value)

    @contextmanager
    def timed(self, name: HistogramName, **labels: LabelValue) -> Iterator[None]:
        """Observe the seconds that the body took, also when it raises."""
        started = perf_counter()
        try:
            yield
        finally:
            self.observe(name, perf_counter() - started, **labels)

    def value(self, name: MetricName, **labels: LabelValue) -> float:
        """The current value of a counter or gauge, or the number of observations of a histogram; 0 when never used."""
        return self.value_if_used(name, **labels) or 0.0

    def value_if_used(self, name: MetricName, **labels: LabelValue) -> float | None:
        """The same, None when never used."""
        kind = self._declared[name].kind
        suffix = "_count" if kind == "histogram" else ""
        return self.registry.get_sample_value(f"{PREFIX}_{name}{suffix}", {k: str(v) for k, v in labels.items()})

    def exposition(self) -> bytes:
        """The Prometheus text format of everything recorded so far."""
        return generate_latest(self.registry)

    def _child(self, name: str, kind: str, labels: dict[str, LabelValue]) -> _Child:
        key = (name, *labels.items())
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._new_child(name, kind, labels)
        return child

    def _new_child(self, name: str, kind: str, labels: dict[str, LabelValue]) -> _Child:
        declaration = self._declared.get(name)
        if declaration is None:
            raise ValueError(f"metric {name!r} is not declared in flywheel.observe.metrics")
        if declaration.kind != kind:
            raise ValueError(f"metric {name!r} is a {declaration.kind}, not a {kind}")
        if set(labels) != set(declaration.labels):
            raise ValueError(f"metric {name!r} has labels {declaration.labels}, got {tuple(labels)}")
        parent = self._parents.get(name)
        if parent is None:
            parent = self._parents[name] = _make(declaration, self.registry)
        child: MetricWrapperBase = parent.labels(**{k: str(v) for k, v in labels.items()}) if labels else parent
        assert isinstance(child, Counter | Gauge | Histogram)
        return child
