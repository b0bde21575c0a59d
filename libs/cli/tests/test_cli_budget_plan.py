"""``flywheel budget plan``: what is printed, what goes to standard error, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flywheel.cli.main import cli

BUDGETS = """project: acme
budgets:
  - {name: day, scope: {team: cx}, usd: 2, per: day, mode: hard}
  - {name: users, each: [user_hash], usd: 10, per: rolling, rolling: 1h}
"""
USAGE = (
    '"provider": "openai", "model": "gpt-4o-mini", "usage": {"prompt_tokens": 1000000, "completion_tokens": 1000000}'
)


@pytest.fixture
def budgets(tmp_path: Path) -> Path:
    path = tmp_path / "budgets.yaml"
    path.write_text(BUDGETS, encoding="utf-8")
    return path


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """Two days of an hourly call of 10 cents for team cx, then one of 75 cents, priced from its usage."""
    path = tmp_path / "calls.jsonl"
    hours = [f"2026-11-{day}T{hour:02d}:30:00Z" for day in (29, 30) for hour in range(24)]
    lines = [f'{{"time": "{at}", "cost_usd": "0.1", "team": "cx", "user_hash": "a/b"}}' for at in hours]
    path.write_text("\n".join([*lines, f'{{"time": "2026-12-01T00:30:00Z", {USAGE}, "team": "cx"}}', ""]))
    return path


def plan(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["budget", "plan", *map(str, arguments)], prog_name="flywheel", input=stdin)


def test_a_table_for_each_budget(calls: Path, budgets: Path) -> None:
    shown = plan(calls, "--budgets", budgets)
    assert shown.exit_code == 0, shown.output
    assert "acme/day: 2 USD per day, hard" in shown.stdout
    assert "2026-11-30T00:00:00Z" in shown.stdout
    assert "exhausted 11-30T19:30" in shown.stdout
    assert "acme/users/a%2Fb" in shown.stdout
    assert "amounts by the whole windows" in shown.stdout


def test_json_has_every_window(calls: Path, budgets: Path) -> None:
    shown = plan(calls, "--budgets", budgets, "--json")
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert (found["calls"], found["bad_lines"]) == (49, [])
    day, users = found["budgets"]
    assert [(w["spent_usd"], w["refused_calls"], w["whole"]) for w in day["windows"]] == [
        ("2.4", 4, False),
        ("2.4", 4, True),
        ("0.75", 0, False),
    ]
    assert day["suggested_usd"] == {"p50": "2.4", "p90": "2.4", "p99": "2.4", "p100": "2.4"}
    assert day["forecast"]["exceeded"] == day["forecast"]["told"] == 1
    assert {w["peak_usd"] for w in users["windows"]} == {"0.1"}


def test_bad_lines_are_named_and_skipped_and_the_exit_code_says_so(budgets: Path) -> None:
    good = '{"time": "2026-11-29T00:00:00Z", "cost_usd": 0.5, "team": "cx"}'
    shown = plan("-", "--budgets", budgets, "--json", stdin=f'{good}\n\nnonsense\n{{"cost_usd": 1}}\n')
    assert shown.exit_code == 1
    assert "standard input: line 3: not JSON" in shown.stderr
    assert "standard input: line 4: time: is missing" in shown.stderr
    assert "2 of 3 lines could not be read" in shown.stderr
    found = json.loads(shown.stdout)
    assert [bad["line"] for bad in found["bad_lines"]] == [3, 4]
    assert found["budgets"][0]["windows"][0]["spent_usd"] == "0.5"


def test_a_budget_that_is_none_is_named_by_line_and_field(calls: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(BUDGETS.replace("usd: 2,", "usd: -2,"), encoding="utf-8")
    shown = plan(calls, "--budgets", wrong)
    assert shown.exit_code == 1
    assert "wrong.yaml:3: budgets.0.usd: must be more than 0" in shown.stderr
    wrong.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in plan(calls, "--budgets", wrong).stderr


def test_no_calls_are_no_error(budgets: Path) -> None:
    shown = plan("-", "--budgets", budgets, stdin="")
    assert shown.exit_code == 0
    assert "no call falls under it" in shown.stdout
