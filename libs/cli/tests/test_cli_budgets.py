"""``flywheel budget``: what a file declares, which revision it becomes, where budgets stand."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flywheel.budget.budget_yaml import parse_budgets
from flywheel.cli.budgeting import next_revision, standing
from flywheel.cli.main import cli
from flywheel.cli.publishing import ApplyFailed
from flywheel.events.examples import examples

TEXT = """
project: acme
budgets:
  - {name: support-day, scope: {team: cx}, usd: 50, per: day, time_zone: Europe/Berlin, mode: hard}
  - {name: per-user, each: [user_hash], usd: 0.25, per: rolling, rolling: 1h}
"""
NOW_US = 1_795_222_800_000_000
DAILY, ROLLING = parse_budgets(TEXT)


def flywheel(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="flywheel")


def test_a_valid_file(tmp_path: Path) -> None:
    file = tmp_path / "b.yaml"
    file.write_text(TEXT)
    assert "acme/support-day, acme/per-user" in flywheel("budget", "check", str(file)).output
    assert json.loads(flywheel("budget", "check", str(file), "--json").stdout)["valid"] is True


def test_every_problem_is_shown_with_file_line_and_field(tmp_path: Path) -> None:
    file = tmp_path / "b.yaml"
    file.write_text(TEXT.replace("usd: 50", "usd: -1").replace("rolling: 1h", "rolling: 1s"))
    result = flywheel("budget", "check", str(file))
    assert result.exit_code == 1
    assert f"{file}:4: budgets.0.usd" in result.stderr and f"{file}:5: budgets.1.rolling" in result.stderr
    problems = json.loads(flywheel("budget", "check", str(file), "--json").stdout)["problems"]
    assert [problem["line"] for problem in problems] == [4, 5]
    assert flywheel("budget", "apply", str(file)).exit_code == 1


@pytest.mark.parametrize("arguments", [("list",), ("apply", "{file}")])
def test_without_kafka_it_says_so(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    file = tmp_path / "b.yaml"
    file.write_text(TEXT)
    result = flywheel("budget", *(a.format(file=file) for a in arguments), "--kafka", "127.0.0.1:1")
    assert result.exit_code == 1
    assert "reaching Kafka at 127.0.0.1:1" in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_budget_counts_from_when_it_is_first_applied_and_keeps_that() -> None:
    first = next_revision(DAILY, None, NOW_US)
    assert (first.revision, first.effective_from_us) == (1, NOW_US)
    assert next_revision(DAILY, first, NOW_US + 5) is first
    more = next_revision(replace(DAILY, amount_pico=60 * 10**12), first, NOW_US + 5)
    assert (more.revision, more.effective_from_us, more.amount_pico) == (2, NOW_US, 60 * 10**12)
    ended = next_revision(replace(DAILY, ended=True), more, NOW_US + 6)
    assert ended.ended and ended.revision == 3
    again = next_revision(DAILY, ended, NOW_US + 7)
    assert (again.ended, again.effective_from_us) == (False, NOW_US + 7)


@pytest.mark.parametrize("change", [{"per": "week"}, {"scope": ()}, {"time_zone": "UTC"}, {"each": ("app",)}])
def test_what_a_budget_counts_never_changes_under_one_name(change: dict[str, Any]) -> None:
    first = next_revision(DAILY, None, NOW_US)
    with pytest.raises(ApplyFailed, match=f"acme/support-day: {next(iter(change))}"):
        next_revision(replace(DAILY, **change), first, NOW_US)


def test_where_a_budget_stands_is_told_of_the_present_window_only() -> None:
    state = examples("budget_state")["support-day"]
    now = standing("acme/support-day", DAILY, state, state["window_start"] + 1)
    assert (now.spent_usd, now.available_usd) == (Decimal("0.0041"), Decimal("49.5079"))
    over = standing("acme/support-day", DAILY, state, state["window_end"])
    assert (over.spent_usd, over.available_usd, over.window_end) == (0, 50, None)
    assert standing("acme/support-day", DAILY, None, NOW_US).available_usd == 50


def test_the_example_of_the_readme_is_valid() -> None:
    page = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    block = page.partition("# budgets.yaml")[2].partition("```")[0]
    assert [budget.mode for budget in parse_budgets("#" + block)] == ["hard", "hard", "downgrade"]
