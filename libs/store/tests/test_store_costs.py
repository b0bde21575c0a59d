"""Costs: the newest price of each call beside the one it arrived with, and who pays, to the last digit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HOUR = datetime(2026, 11, 20, 10, tzinfo=UTC)
CALL = {
    "project": "acme",
    "request_id": "r",
    "feature": "answers",
    "team": "cx",
    "provider": "openai",
    "request_model": "gpt-4o",
    "status": "OK",
    "occurred_at": HOUR,
}
BILLIONTH = Decimal("0.000000001")


def insert(database: Any, table: str, rows: list[Mapping[str, Any]]) -> None:
    for number, row in enumerate(rows):
        common = {"k_topic": "test", "k_partition": 0, "k_timestamp": HOUR, "k_batch_first": 0, "k_offset": number}
        full = {"event_id": f"{table}-{number}", **common, **row}
        database.insert(table, [list(full.values())], list(full))


@pytest.fixture
def empty(database: Any) -> Iterator[Any]:
    yield database
    database.command("TRUNCATE TABLE llm_calls")
    database.command("TRUNCATE TABLE reprices")


def reprice(call: str, revision: int, cost: str | None, **other: Any) -> dict[str, Any]:
    return {
        "project": "acme",
        "occurred_at": HOUR,
        "call_id": call,
        "revision": revision,
        "repriced_at": HOUR,
        "cost_usd": None if cost is None else Decimal(cost),
        "cost_source": "UNKNOWN" if cost is None else "LOCAL",
        "event_id": f"{call}/{revision}/{cost}",
        **other,
    }


def test_the_newest_revision_is_the_cost_and_the_call_keeps_its_own(empty: Any) -> None:
    insert(
        empty,
        "llm_calls",
        [
            {**CALL, "event_id": "plain", "cost_usd": Decimal("0.1"), "cost_source": "LOCAL"},
            {**CALL, "event_id": "anew", "cost_usd": Decimal("0.2"), "price_version": "t1"},
            {**CALL, "event_id": "unknown"},
            {**CALL, "event_id": "no longer", "cost_usd": Decimal("0.4")},
        ],
    )
    insert(
        empty,
        "reprices",
        [
            reprice("anew", 2, "0.25", price_version="t3"),
            reprice("anew", 1, "0.9", price_version="t2"),
            reprice("unknown", 1, "0", repriced_at=HOUR),
            reprice("unknown", 1, "0.5", repriced_at=HOUR + timedelta(seconds=1)),
            reprice("no longer", 1, None),
            reprice("plain", 1, "7", project="other"),
        ],
    )
    rows = empty.query(
        "SELECT event_id, cost_usd, cost_source, price_version, arrival_usd, revision FROM v_costs ORDER BY event_id"
    ).result_rows
    assert rows == [
        ("anew", Decimal("0.25"), "LOCAL", "t3", Decimal("0.2"), 2),
        ("no longer", None, "UNKNOWN", None, Decimal("0.4"), 1),
        ("plain", Decimal("0.1"), "LOCAL", None, Decimal("0.1"), 0),
        ("unknown", Decimal("0.5"), "LOCAL", None, None, 1),
    ]
    arrived = empty.query("SELECT event_id, cost_usd FROM v_calls ORDER BY event_id").result_rows
    assert [cost for _, cost in arrived] == [Decimal("0.2"), Decimal("0.4"), Decimal("0.1"), None]
    spent = empty.query("SELECT calls, priced_calls, cost_usd, unpriced_share FROM v_cost_by_feature_hour").result_rows
    assert spent == [(4, 3, Decimal("0.85"), 0.25)]
    assert empty.query("SELECT unpriced_share FROM v_unpriced_share").result_rows == [(0.25,)]


def test_teams_pay_their_parts_and_the_parts_are_the_whole(empty: Any) -> None:
    insert(
        empty,
        "llm_calls",
        [
            {
                **CALL,
                "shares": {"b": "0.333333334", "a": "0.333333333", "c": "0.333333333"},
                "cost_usd": Decimal("0.000000000010"),
                "input_tokens": 10,
                "output_tokens": 1,
            },
            {**CALL, "shares": {"a": "0.5", "b": "0.5"}},
            {**CALL, "shares": {"a": "0.5", "b": "0.4"}, "cost_usd": Decimal(1)},
            {**CALL, "shares": {"a": "1.5", "b": "-0.5"}, "cost_usd": Decimal(2)},
            {**CALL, "shares": {"a": "half", "b": "0.5"}, "cost_usd": Decimal(4), "team": None},
        ],
    )
    rows = empty.query(
        "SELECT team, sum(share), sum(unpriced), sum(cost_usd), sum(input_tokens), sum(output_tokens) "
        "FROM v_showback GROUP BY team ORDER BY team"
    ).result_rows
    assert rows == [
        ("a", Decimal("0.833333333"), Decimal("0.5"), Decimal("0.000000000003"), 3, 0),
        ("b", Decimal("0.833333334"), Decimal("0.5"), Decimal("0.000000000003"), 3, 0),
        ("c", Decimal("0.333333333"), 0, Decimal("0.000000000004"), 4, 1),
        ("cx", 2, 0, 3, None, None),
        (None, 1, 0, 4, None, None),
    ]


@given(
    cost=st.decimals(0, 1_000_000, places=12, allow_nan=False),
    tokens=st.integers(0, 10**12),
    cuts=st.lists(st.integers(1, 10**9 - 1), min_size=0, max_size=8, unique=True),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_however_a_call_is_cut_the_parts_add_up(empty: Any, cost: Decimal, tokens: int, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), 10**9]
    fractions = [(high - low) * BILLIONTH for low, high in pairwise(edges)]
    shares = {f"team {place}": f"{fraction:f}" for place, fraction in enumerate(fractions)}
    insert(empty, "llm_calls", [{**CALL, "shares": shares, "cost_usd": cost, "input_tokens": tokens}])
    parts = empty.query("SELECT team, cost_usd, input_tokens, share FROM v_showback").result_rows
    empty.command("TRUNCATE TABLE llm_calls")
    assert sum(part[1] for part in parts) == cost
    assert sum(part[2] for part in parts) == tokens
    assert sum(part[3] for part in parts) == 1
    for team, part, part_tokens, share in parts:
        assert str(share) == str(Decimal(shares[team]).quantize(BILLIONTH))
        assert abs(part - cost * share) < Decimal("1e-12")
        assert abs(part_tokens - tokens * share) < 1
