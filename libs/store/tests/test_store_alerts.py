"""Alerts by the times that they fired, and how each stands now."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

START = datetime(2024, 11, 20, tzinfo=UTC)
AHEAD = datetime(2100, 1, 1, tzinfo=UTC)


def report(alert_id: str, minute: int, state: str, **more: Any) -> dict[str, Any]:
    return {
        "alert_id": alert_id, "project": "acme", "occurred_at": START + timedelta(minutes=minute), "kind": "error_rate",
        "severity": "warning", "state": state, "subject": "acme/answers", "title": f"{alert_id} at {minute}", **more,
    }  # fmt: skip


@pytest.fixture
def alerts(database: Any) -> Iterator[Any]:
    def insert(*rows: dict[str, Any]) -> Any:
        for number, row in enumerate(rows):
            place = {"k_topic": "t", "k_partition": 0, "k_offset": number, "k_timestamp": START, "k_batch_first": 0}
            full = {"event_id": f"e{number}", **place, **row}
            database.insert("alerts", [list(full.values())], list(full))
        return database

    yield insert
    database.command("TRUNCATE TABLE alerts")


def minutes(found: Any) -> list[tuple[Any, ...]]:
    """Rows with times as minutes after the start."""
    return [
        tuple((c.replace(tzinfo=UTC) - START) // timedelta(minutes=1) if isinstance(c, datetime) else c for c in row)
        for row in found.result_rows
    ]


def test_an_episode_lasts_from_its_first_report_until_it_is_resolved(alerts: Any) -> None:
    database = alerts(
        report("a", 0, "firing"),
        report("a", 5, "firing", severity="critical", value=0.5, attributes={"observed": "0.5"}),
        report("a", 9, "resolved", severity="info", title="over", value=0.0),
        report("a", 20, "firing"),
        report("b", 3, "resolved"),  # never fired
        report("a", 1, "firing", project="other"),
        report("c", 30, "resolved"),
        report("c", 30, "firing"),  # at the same time, but after it on the topic
    )
    found = database.query(
        "SELECT project, alert_id, started_at, last_at, ended_at, state, severity, reports, title, value, attributes"
        " FROM v_alert_episodes ORDER BY project, started_at"
    )
    assert minutes(found) == [
        ("acme", "a", 0, 9, 9, "resolved", "critical", 3, "a at 5", 0.5, {"observed": "0.5"}),
        ("acme", "a", 20, 20, None, "firing", "warning", 1, "a at 20", None, {}),
        ("acme", "c", 30, 30, None, "firing", "warning", 1, "c at 30", None, {}),
        ("other", "a", 1, 1, None, "firing", "warning", 1, "a at 1", None, {}),
    ]


def test_how_every_alert_stands(alerts: Any) -> None:
    database = alerts(
        report("again", 0, "firing"),
        report("again", 1, "resolved"),
        report("again", 2, "firing"),
        report("done", 0, "firing"),
        report("done", 1, "resolved"),
        report("done", 2, "resolved"),  # said again by another process
        report("week", 0, "firing", window_end=START + timedelta(days=7)),
        report("century", 0, "firing", window_end=AHEAD),
        report("seen", 5, "firing", window_end=START),  # about a window that had ended when it was told
        report("about done", 1, "firing", attributes={"cause": "done"}),
        report("about again", 1, "firing", attributes={"cause": "again"}),
        report("about nothing", 1, "firing", attributes={"cause": "gone"}),
        report("about another", 1, "firing", attributes={"cause": "done"}, project="other"),
    )
    found = database.query("SELECT alert_id, state, started_at FROM v_alert_states ORDER BY alert_id")
    assert minutes(found) == [
        ("about again", "firing", 1), ("about another", "firing", 1), ("about done", "over", 1),
        ("about nothing", "firing", 1), ("again", "firing", 2), ("century", "firing", 0), ("done", "resolved", 0),
        ("seen", "firing", 5), ("week", "over", 0),
    ]  # fmt: skip


def test_what_a_person_says_belongs_to_the_time_that_it_fired(alerts: Any) -> None:
    said: dict[str, Any] = {"attributes": {"by": "ana", "note": "on it"}}
    later = {"attributes": {"by": "bo", "note": "till lunch", "until": "2024-11-20T12:00:00Z"}}
    database = alerts(
        report("seen", 0, "firing"),
        report("seen", 2, "acknowledged", **said),
        report("seen", 5, "firing", title="newest"),
        report("worse", 0, "firing"),
        report("worse", 2, "acknowledged", **said),
        report("worse", 3, "firing", severity="critical"),
        report("lunch", 0, "firing"),
        report("lunch", 2, "acknowledged", **said),
        report("lunch", 3, "acknowledged", **later),  # long over
        report("again", 0, "firing"),
        report("again", 2, "acknowledged", **said),
        report("again", 3, "resolved", attributes={"by": "ana"}),
        report("again", 9, "firing"),
        report("never fired", 9, "acknowledged", **said),
    )
    found = database.query(
        "SELECT alert_id, state, last_at, reports, title, acknowledged_at, acknowledged_by, note FROM v_alert_states"
        " ORDER BY alert_id"
    )
    assert minutes(found) == [
        ("again", "firing", 9, 1, "again at 9", None, "", ""),
        ("lunch", "firing", 3, 1, "lunch at 0", 3, "bo", "till lunch"),
        ("seen", "acknowledged", 5, 2, "newest", 2, "ana", "on it"),
        ("worse", "firing", 3, 2, "worse at 3", 2, "ana", "on it"),
    ]
    first = database.query(
        "SELECT state, ended_at, acknowledged_at, reports FROM v_alert_episodes"
        " WHERE alert_id = 'again' AND episode = 0"
    )
    assert minutes(first) == [("resolved", 3, 2, 2)]
