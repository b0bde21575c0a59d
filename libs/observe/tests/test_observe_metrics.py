"""Metrics are declared once; a wrong name, kind or label is an error, not a new series."""

from __future__ import annotations

from typing import get_args

import pytest

from flywheel.observe import DECLARATIONS, Metrics
from flywheel.observe.metrics import CounterName, GaugeName, HistogramName


def test_every_literal_name_is_declared_once_with_its_kind_and_help() -> None:
    literal = {(name, kind) for kind, names in KINDS.items() for name in get_args(names)}
    assert sorted((d.name, d.kind) for d in DECLARATIONS) == sorted(literal)
    assert all(d.help.endswith(".") for d in DECLARATIONS)


KINDS = {"counter": CounterName, "gauge": GaugeName, "histogram": HistogramName}


def test_counters_gauges_and_histograms_come_out_in_prometheus_text() -> None:
    metrics = Metrics()
    metrics.count("ingest_items_total", 2, kind="call", verdict="accepted")
    metrics.count("ingest_items_total", kind="call", verdict="accepted")
    metrics.gauge("lag_records", 7, topic="llm-calls", partition=3)
    metrics.observe("decide_seconds", 0.0003, transport="http")
    text = metrics.exposition().decode()
    assert 'flywheel_ingest_items_total{kind="call",verdict="accepted"} 3.0' in text
    assert 'flywheel_lag_records{partition="3",topic="llm-calls"} 7.0' in text
    assert 'flywheel_decide_seconds_bucket{le="0.00025",transport="http"} 0.0' in text
    assert 'flywheel_decide_seconds_bucket{le="0.0005",transport="http"} 1.0' in text
    assert metrics.value("ingest_items_total", kind="call", verdict="accepted") == 3
    assert metrics.value("decide_seconds", transport="http") == 1
    assert metrics.value("ingest_items_total", kind="call", verdict="rejected") == 0


def test_labels_in_another_order_are_the_same_series() -> None:
    metrics = Metrics()
    metrics.count("ingest_items_total", kind="call", verdict="accepted")
    metrics.count("ingest_items_total", verdict="accepted", kind="call")
    assert metrics.value("ingest_items_total", kind="call", verdict="accepted") == 2


def test_a_metric_without_labels_and_the_time_of_a_body_that_fails() -> None:
    metrics = Metrics()
    metrics.gauge("policies_loaded", 2)
    with pytest.raises(ZeroDivisionError), metrics.timed("recorder_query_seconds"):
        _ = 1 / 0
    assert metrics.value("policies_loaded") == 2
    assert metrics.value("recorder_query_seconds") == 1


def test_two_registries_do_not_share_counts() -> None:
    one, other = Metrics(), Metrics()
    one.gauge("policies_loaded", 1)
    assert other.value("policies_loaded") == 0


@pytest.mark.parametrize(
    ("use", "complaint"),
    [
        (lambda m: m.count("ingest_item_total"), "not declared"),
        (lambda m: m.count("lag_records", topic="a", partition=1), "is a gauge, not a counter"),
        (lambda m: m.count("ingest_items_total", kind="call"), r"has labels \('kind', 'verdict'\), got \('kind',\)"),
        (lambda m: m.gauge("policies_loaded", 1, feature="f"), "has labels"),
    ],
)
def test_a_mistake_is_named(use: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        use(Metrics())  # type: ignore[operator]
