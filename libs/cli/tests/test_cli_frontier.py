"""``flywheel frontier``: what is printed of a policy's standings and prices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flywheel.cli.commands.frontier import arm_rows, frontier_of, price_rows
from flywheel.cli.main import cli

EXAMPLE = Path(__file__).parents[3] / "schemas/examples/policy/v4/within-bounds.json"


@pytest.fixture
def shown() -> dict[str, Any]:
    return frontier_of(json.loads(EXAMPLE.read_text(encoding="utf-8")))


def test_each_arm_has_its_intervals_its_place_and_what_constraints_make_of_it(shown: dict[str, Any]) -> None:
    strong, cheap, local = arm_rows(shown)
    assert strong[0] == "strong" and strong[2] == "0.875 (0.809 – 0.925)" and strong[5] == "yes"
    assert strong[3].startswith("0.0061 (0.00603") and strong[6] > 0
    assert "latency_ms>3000 0.215 (0.15 – 0.291)" in strong[7]
    assert cheap[6] == 0.0
    assert local[1] == 0.0 and local[7].startswith("breaks quality; latency_ms>3000")


def test_what_is_proven_or_not_is_said(shown: dict[str, Any]) -> None:
    arm = shown["arms"][1] | {"efficient": False, "dominated_by": ["strong"], "unproven": "safety.leak", "measures": []}
    (row,) = arm_rows({"arms": [arm]})
    assert row[2:6] == [None, None, None, "no, proven by strong"]
    assert row[7] == "safety.leak not proven: explored only"


def test_prices_are_rows_in_the_unit_of_a_request(shown: dict[str, Any]) -> None:
    slow, money = price_rows(shown)
    assert slow[0] == "p95_latency_ms (latency_ms>3000)" and slow[-1] == "0.05" and float(slow[1]) > 0
    assert money[1] == "0"


def test_a_kafka_that_is_away_is_one_line() -> None:
    result = CliRunner().invoke(cli, ["frontier", "answers", "--kafka", "127.0.0.1:1"], prog_name="flywheel")
    assert result.exit_code == 1 and result.stderr.startswith("flywheel: reading the policies: ")
