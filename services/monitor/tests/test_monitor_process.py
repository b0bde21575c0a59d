"""Records in, pages and alerts out: the monitor around its core, on tables that are dictionaries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from flywheel.events import Codec, LocalRegistry
from flywheel.events.examples import examples
from flywheel.observe import Metrics
from flywheel.stream import RawRecord
from flywheel_monitor.core.alerting import Terms
from flywheel_monitor.core.objectives import Charters
from flywheel_monitor.core.series import Roster, Series
from flywheel_monitor.core.spans import DAY_US, MINUTE_US
from flywheel_monitor.monitor import NEEDED, Monitor
from flywheel_monitor.pages import pages_app
from flywheel_monitor.settings import MonitorSettings

from .conftest import NOW_US, DictTables

WRITER = Codec(LocalRegistry.load())
SLO = "[{metric: error_rate, max: 0.01, window: 30d}, {metric: latency_ms, below: 300, share: 0.9, window: 7d}]"


@pytest.fixture
def monitor() -> Monitor:
    charters = Charters()
    charters.update("acme/answers", charter(SLO))
    codec = Codec(LocalRegistry.load(), only=NEEDED)
    made = Monitor(
        kept=DictTables(), charters=charters, roster=Roster(), codec=codec, metrics=Metrics(), clock_us=lambda: NOW_US
    )
    made.sweep(NOW_US)
    return made


def charter(slo: str, revision: int = 1) -> dict[str, Any]:
    text = f"project: acme\nfeature: answers\narms: [{{name: a, model: m/a}}]\nslo: {slo}\n"
    return {"project": "acme", "feature": "answers", "revision": revision, "charter_yaml": text}


def record(topic: str, event: str, value: dict[str, Any], offset: int) -> RawRecord:
    return RawRecord(topic, offset % 4, offset, NOW_US // 1000, b"k", WRITER.encode(event, value))


def calls(statuses: Iterable[str], first: int = 0) -> list[RawRecord]:
    facts = {"project": "acme", "provider": "p", "request_model": "m", "feature": "answers", "variant": "a"}
    return [
        record(
            "llm-calls", "llm_call",
            facts | {"event_id": f"e{n}", "request_id": f"r{n}", "occurred_at": NOW_US, "status": status,
                     "latency_ms": 200.0},
            first + n,
        )
        for n, status in enumerate(statuses)
    ]  # fmt: skip


def look(monitor: Monitor, now_us: int, terms: Terms) -> list[Series]:
    """What a tick does; returns which features it looked at."""
    due = monitor.due(now_us)
    for series in due:
        monitor.look(series, now_us, terms)
    monitor.end_undeclared(now_us)
    return due


async def page(monitor: Monitor, path: str) -> httpx.Response:
    state = {"now_us": NOW_US, "partial": False, "behind": 0}
    transport = httpx.ASGITransport(app=pages_app(monitor, lambda: dict(state)))
    async with httpx.AsyncClient(transport=transport, base_url="http://monitor") as client:
        return await client.get(path)


@pytest.mark.parametrize(("topic", "event"), [("llm-calls", "llm_call"), ("llm-decisions", "decision")])
def test_every_example_is_counted(monitor, topic, event):
    found = examples(event).values()
    monitor.take([
        RawRecord(topic, 0, n, value["occurred_at"] // 1000, b"k", WRITER.encode(event, value))
        for n, value in enumerate(found)
    ])  # fmt: skip
    refused = sum(
        monitor.metrics.value("monitor_records_total", topic=topic, verdict=verdict)
        for verdict in ("undecodable", "wrong_event", "out_of_range", "in_the_future")
    )
    assert refused == 0
    assert monitor.metrics.value("monitor_records_total", topic=topic, verdict="counted") > 0


def test_what_cannot_be_read_is_counted_and_costs_its_neighbours_nothing(monitor):
    good = calls(["OK"], first=100)
    decision = WRITER.encode("decision", next(iter(examples("decision").values())))
    hostile = [b"", b"\x01rubbish", b"\x00\x00\x0f\xff\xff", good[0].value[:-3], decision, None]
    monitor.take([RawRecord("llm-calls", 0, n, NOW_US // 1000, None, raw) for n, raw in enumerate(hostile)] + good)

    def verdicts(verdict: str) -> float:
        return monitor.metrics.value("monitor_records_total", topic="llm-calls", verdict=verdict)

    named = ("undecodable", "unknown_schema", "wrong_event", "no_value", "counted")
    assert {name: verdicts(name) for name in named} == {
        "undecodable": 3, "unknown_schema": 1, "wrong_event": 1, "no_value": 1, "counted": 1,
    }  # fmt: skip
    assert monitor.read == {("llm-calls", 0): 101}


def test_what_is_read_again_is_told_from_what_is_new(monitor):
    monitor.take(calls(["OK"] * 8))
    monitor.take(calls(["OK"] * 10))
    counts = [
        monitor.metrics.value("monitor_records_total", topic="llm-calls", verdict=v) for v in ("counted", "repeated")
    ]
    assert counts == [10, 8]


async def test_pages_say_what_was_counted(monitor):
    monitor.take(calls(["OK"] * 98 + ["ERROR"] * 2))
    (by_feature,) = (await page(monitor, "/v1/slis?window=1h")).json()["slis"]
    (by_arm,) = (await page(monitor, "/v1/slis?by=arm&project=acme&feature=answers")).json()["slis"]
    assert (by_feature["feature"], by_feature["arm"], by_feature["error_rate"]) == ("answers", None, 0.02)
    assert (by_arm["arm"], by_arm["counts"]["calls"], by_arm["window"]) == ("a", 100, "5m")
    assert (await page(monitor, "/v1/slis?project=other")).json()["slis"] == []
    errors, latency = (await page(monitor, "/v1/slos?project=acme")).json()["slos"]
    assert (errors["attained"], errors["objective"], errors["budget_left"]) == (0.98, 0.99, -1.0)
    assert errors["burn_rates"] == dict.fromkeys(("5m", "30m", "1h", "2h", "6h", "1d", "3d"), 2.0)
    assert (latency["attained"], latency["budget_left"], latency["below"]) == (1.0, 1.0, 300.0)
    assert [each["watched"] for each in latency["rules"]] == [False, True, True, True]
    assert (await page(monitor, "/v1/slos?feature=other")).json()["slos"] == []


@pytest.mark.parametrize(
    ("path", "field", "message"),
    [
        ("/v1/slis?windw=1h", "windw", "no such parameter; one of project, feature, arm, window, by"),
        ("/v1/slis?window=soon", "window", "expected a duration such as 90s, 15m, 24h or 7d"),
        ("/v1/slis?window=10s", "window", "must be at least 1m"),
        ("/v1/slis?window=100d", "window", "must be at most 92d"),
        ("/v1/slis?window=99999999999999999999999999999d", "window", "must be at most 92d"),
        ("/v1/slis?by=model", "by", "must be feature or arm"),
        ("/v1/slos?window=1h", "window", "no such parameter; one of project, feature"),
    ],
)
async def test_a_parameter_that_cannot_be_used_is_named(monitor, path, field, message):
    answer = await page(monitor, path)
    assert (answer.status_code, answer.json()) == (400, {"errors": [{"field": field, "message": message}]})


def test_an_alert_is_told_until_the_log_has_it_and_over_with_its_objective(monitor):
    monitor.take(calls(["OK"] * 50 + ["ERROR"] * 50))
    terms = Terms(quiet_us=0)
    look(monitor, NOW_US, terms)
    first = monitor.untold()
    assert [output.value["severity"] for _, output in sorted(first.items())] == ["critical", "warning"]
    look(monitor, NOW_US + 1, terms)
    assert monitor.untold() == first  # not acknowledged: told again as it was
    monitor.told(first)
    assert monitor.untold() == {}

    monitor.charters.update("acme/answers", charter("[]", revision=2))
    look(monitor, NOW_US + 2, terms)
    over = monitor.untold()
    assert {output.value["state"] for output in over.values()} == {"resolved"}
    assert {o.value["alert_id"] for o in over.values()} == {o.value["alert_id"] for o in first.values()}
    monitor.told(over)
    look(monitor, NOW_US + 3, terms)
    assert monitor.kept.standings() == {}


def test_an_alert_is_over_when_its_windows_are_empty(monitor):
    monitor.take(calls(["ERROR"] * 50))
    terms = Terms(quiet_us=0)
    look(monitor, NOW_US, terms)
    monitor.told(monitor.untold())
    look(monitor, NOW_US + 5 * DAY_US, terms)
    assert {output.value["state"] for output in monitor.untold().values()} == {"resolved"}


def test_a_feature_is_looked_at_when_something_happened_and_when_a_minute_begins(monitor):
    terms, answers = Terms(quiet_us=MINUTE_US), [Series("acme", "answers")]
    assert look(monitor, NOW_US, terms) == answers
    assert look(monitor, NOW_US + 1, terms) == []
    monitor.take(calls(["OK"] * 50))
    assert look(monitor, NOW_US + 2, terms) == answers
    assert look(monitor, NOW_US + 3, terms) == []
    assert look(monitor, NOW_US + MINUTE_US, terms) == answers
    monitor.take(calls(["ERROR"] * 50, first=100))
    assert look(monitor, NOW_US + MINUTE_US + 1, terms) == answers
    assert look(monitor, NOW_US + MINUTE_US + 2, terms) == answers  # it fires, so its end is waited for


def test_the_terms_are_those_of_the_settings():
    assert MonitorSettings(quiet_s=1.5, least_bad=7).terms == Terms(least_bad=7, quiet_us=1_500_000)
