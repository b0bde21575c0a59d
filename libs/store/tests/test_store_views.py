"""The views: documented, readable by those who may and by nobody else, and honest about what is unknown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import chdb
import pytest

from flywheel.events import Codec, LocalRegistry
from flywheel.store import DATABASE, TABLES, engine_options, render, table_columns, views

PAGE = Path(__file__).parents[1] / "VIEWS.md"
HOUR = datetime(2026, 11, 20, 10, tzinfo=UTC)


def insert(database: Any, table: str, rows: list[Mapping[str, Any]]) -> None:
    """Insert rows given by some of their columns; the position counts up."""
    common = {"k_topic": "test", "k_partition": 0, "k_timestamp": HOUR, "k_batch_first": 0}
    for number, row in enumerate(rows):
        full = {**common, "k_offset": number, "event_id": f"{table}-{number}", **row}
        database.insert(table, [list(full.values())], list(full))


@pytest.fixture
def calls(database: Any) -> Iterator[Any]:
    """Three priced calls, one unpriced, one failed without usage."""
    base = {"project": "acme", "request_id": "r", "feature": "answers", "provider": "openai", "request_model": "gpt-4o"}
    ok = {**base, "status": "OK", "occurred_at": HOUR}
    insert(
        database,
        "llm_calls",
        [
            {**ok, "cost_usd": Decimal("0.1"), "latency_ms": 100.0, "input_tokens": 10},
            {**ok, "cost_usd": Decimal("0.2"), "latency_ms": 200.0, "input_tokens": 20},
            {**ok, "cost_usd": Decimal("0.000000000001"), "latency_ms": 300.0},
            {**ok, "latency_ms": 400.0},
            {**base, "status": "TIMEOUT", "occurred_at": HOUR, "latency_ms": 30_000.0, "feature": "other"},
        ],
    )
    yield database
    database.command("TRUNCATE TABLE llm_calls")


def test_the_page_is_what_the_database_says(database: Any) -> None:
    """When this fails: `python -m flywheel.store docs > libs/store/VIEWS.md`."""
    assert PAGE.read_text() == render(views(database))


def test_every_view_and_column_says_what_it_means(database: Any) -> None:
    for view in views(database):
        assert view.name.startswith("v_")
        assert len(view.comment) > 20, view.name
        assert not [c.name for c in view.columns if not c.comment], view.name


def test_every_field_of_an_event_is_a_column(database: Any) -> None:
    codec, columns = Codec(LocalRegistry.load()), table_columns(database)
    for event, table in TABLES.items():
        missing = {f["name"] for f in codec.schema(event)["fields"]} - set(columns[table])
        assert not missing, f"{event} has new fields: add a migration for {table}"


def test_money_is_exact_and_unknown_is_not_zero(calls: Any) -> None:
    rows = calls.query(
        "SELECT feature, calls, errors, priced_calls, unpriced_calls, cost_usd, input_tokens, output_tokens "
        "FROM v_cost_by_feature_hour ORDER BY feature"
    ).result_rows
    assert rows == [
        ("answers", 4, 0, 3, 1, Decimal("0.300000000001"), 30, None),
        ("other", 1, 1, 0, 1, None, None, None),
    ]


def test_unpriced_share(calls: Any) -> None:
    rows = calls.query(
        "SELECT feature, calls, unpriced_calls, unpriced_share FROM v_unpriced_share ORDER BY 1"
    ).result_rows
    assert rows == [("answers", 4, 1, 0.25), ("other", 1, 1, 1.0)]


def test_latency_is_of_calls_that_ended_well(calls: Any) -> None:
    rows = calls.query("SELECT feature, calls, latency_p50_ms, ttft_p50_ms FROM v_latency").result_rows
    assert rows == [("answers", 4, 250.0, None)]


def test_an_outcome_is_shown_at_its_newest_revision(database: Any) -> None:
    base = {
        "project": "acme",
        "request_id": "r",
        "occurred_at": HOUR,
        "completed_at": HOUR,
        "policy_version": 1,
        "arm": "a",
        "propensity": 0.5,
        "status": "complete",
    }
    insert(
        database,
        "outcomes",
        [
            {**base, "decision_id": "once", "revision": 1, "reward": 0.1},
            {**base, "decision_id": "thrice", "revision": 1, "reward": 0.2},
            {**base, "decision_id": "thrice", "revision": 3, "reward": 0.4},
            {**base, "decision_id": "thrice", "revision": 2, "reward": 0.3},
            {**base, "project": "other", "decision_id": "thrice", "revision": 1, "reward": 0.9},
            {**base, "decision_id": "rebuilt", "revision": 7, "reward": 0.6},
            {**base, "decision_id": "rebuilt", "revision": 1, "reward": 0.5},
            {**base, "decision_id": "rebuilt at once", "revision": 5, "reward": 0.7},
        ],
    )
    rows = database.query("SELECT project, decision_id, revision, reward FROM v_outcomes ORDER BY 1, 2").result_rows
    assert rows == [
        ("acme", "once", 1, 0.1),
        ("acme", "rebuilt", 7, 0.6),
        ("acme", "rebuilt at once", 5, 0.7),
        ("acme", "thrice", 3, 0.4),
        ("other", "thrice", 1, 0.9),
    ]


def test_the_audit_counts_what_is_there_twice(database: Any) -> None:
    insert(database, "feedback", [{"event_id": i, "kind": "k", "occurred_at": HOUR} for i in ("x", "x", "y")])
    row = database.query("SELECT rows, unique_events, surplus_rows FROM v_audit WHERE table = 'feedback'").result_rows
    assert row == [(3, 2, 1)]


@pytest.mark.parametrize(
    ("roles", "query", "allowed"),
    [
        ("analyst", "SELECT count() FROM v_calls", True),
        ("analyst", "SELECT count() FROM v_audit", True),
        ("analyst", "SELECT count() FROM v_content", False),
        ("analyst", "SELECT count() FROM llm_calls", False),
        ("analyst", "SELECT count() FROM call_content", False),
        ("analyst", "SELECT value FROM dead_letters", False),
        ("analyst", "SELECT count() FROM merge('flywheel', '^llm_calls$')", False),
        (
            "analyst",
            "SELECT throwIf(countIf(name NOT LIKE 'v_%')) FROM system.tables WHERE database = 'flywheel'",
            True,
        ),
        ("analyst", "DROP TABLE llm_calls", False),
        ("analyst", "INSERT INTO llm_calls (event_id) VALUES ('x')", False),
        ("analyst", "CREATE TABLE mine (x Int8) ENGINE = Memory", False),
        ("analyst, content", "SELECT count() FROM v_content", True),
        ("analyst, content", "SELECT value FROM dead_letters", True),
        ("analyst, content", "SELECT count() FROM call_content", False),
    ],
)
def test_roles_read_views_only(database: Any, roles: str, query: str, allowed: bool) -> None:
    options = "&".join(f"{k}={v}" for k, v in engine_options().items())
    connection = chdb.connect(f"{database.path}?{options}")
    try:
        connection.query(f"USE {DATABASE}")
        connection.query(f"SET ROLE {roles}")
        if allowed:
            connection.query(query)
        else:
            with pytest.raises(RuntimeError, match=r"ACCESS_DENIED|CANNOT_EXTRACT_TABLE_STRUCTURE"):
                connection.query(query)
    finally:
        connection.close()


def test_the_engine_inside_a_service_bounds_its_caches_and_lets_old_parts_go(database: Any) -> None:
    caches = database.query(
        "SELECT sum(toUInt64(value)) FROM system.server_settings WHERE name IN ('mark_cache_size', "
        "'index_mark_cache_size', 'primary_index_cache_size', 'query_condition_cache_size', "
        "'compiled_expression_cache_size')"
    ).result_rows
    assert caches == [(176 << 20,)]
    kept_s = "SELECT toUInt32(value) FROM system.merge_tree_settings WHERE name = 'old_parts_lifetime'"
    assert database.query(kept_s).result_rows == [(120,)]


def test_the_frontier_is_of_the_newest_policy_a_row_for_each_measure(database: Any) -> None:
    def standing(
        name: str, measures: list[tuple[str, float, float, float, float]], breaks: str | None
    ) -> tuple[Any, ...]:
        return name, 0.25, breaks, None, breaks is None, ["a"] if breaks else [], measures

    quality, money = ("quality", 40.0, 0.8, 0.7, 0.9), ("cost_usd", 40.0, 0.01, 0.009, 0.011)
    rows = [("a", [quality, money], None), ("b", [quality], "safety.leak")]
    arm = ("m", None, None, {}, [], True, 40.0, 0.8, 0.01, 32.0, 8.0, 0.0)
    base = {"project": "acme", "feature": "front", "occurred_at": HOUR, "kind": "thompson_beta", "default_arm": "a"}
    arms = [(name, *arm, share) for name, share in (("a", 0.9), ("b", 0.1))]
    newest = {**base, "policy_version": 9, "arms": arms, "standings": [standing(*row) for row in rows]}
    insert(database, "policies", [newest, {**newest, "policy_version": 3, "standings": []}])
    try:
        found = database.query(
            "SELECT arm, propensity, measure, mean, low, high, efficient, dominated_by, charge, breaks, unproven"
            " FROM v_frontier WHERE feature = 'front' ORDER BY arm, measure DESC"
        ).result_rows
        assert [tuple(row) for row in found] == [
            ("a", 0.9, "quality", 0.8, 0.7, 0.9, True, [], 0.25, None, None),
            ("a", 0.9, "cost_usd", 0.01, 0.009, 0.011, True, [], 0.25, None, None),
            ("b", 0.1, "quality", 0.8, 0.7, 0.9, False, ["a"], 0.25, "safety.leak", None),
        ]
    finally:
        database.command("TRUNCATE TABLE policies")
