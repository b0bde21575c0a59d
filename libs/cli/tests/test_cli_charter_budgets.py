"""The budgets of a charter: named by what they count, of the charter's feature, ended when they leave the text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner

from flywheel.budget import BudgetInvalid
from flywheel.cli.budgeting import withdrawn
from flywheel.cli.charter_budgets import budgets_of, name_prefix
from flywheel.cli.main import cli
from flywheel.events import topics
from flywheel.local.topic_admin import create_topics_now
from flywheel.policy import parse_charter

pytest_plugins = ["flywheel.local.fixtures"]

TEXT = """
feature: {feature}
quality: {{user.thumb: 1.0}}
arms: [{{name: a, model: openai/gpt-4o}}]
budgets: {budgets}
"""


def charter(budgets: str, feature: str = "support-answers") -> Any:
    return parse_charter(TEXT.format(feature=feature, budgets=budgets))


def test_a_budget_counts_the_charters_feature_and_is_named_by_what_it_counts() -> None:
    (found,) = budgets_of(charter("[{scope: {team: cx}, usd: 0.1, per: day, mode: hard}]"))
    assert found.key == "default/charter.support-answers.day.team=cx"
    assert found.scope == (("feature", "support-answers"), ("team", "cx"))
    assert (found.amount_pico, found.per, found.mode) == (10**11, "day", "hard")


def test_another_amount_is_the_same_budget_and_another_scope_another_one() -> None:
    (ten,) = budgets_of(charter("[{scope: {team: cx}, usd: 10, per: day}]"))
    (twenty,) = budgets_of(charter("[{scope: {team: cx}, usd: 20, per: day}]"))
    (other,) = budgets_of(charter("[{scope: {team: dx}, usd: 10, per: day}]"))
    assert ten.name == twenty.name != other.name


def test_names_stay_short_and_different_whatever_the_scope_says() -> None:
    long = [f"[{{scope: {{team: '{'x' * 200}{end}'}}, usd: 1, per: day}}]" for end in ("a", "b/c")]
    names = {budgets_of(charter(text))[0].name for text in long}
    assert len(names) == 2 and all(len(name) <= 128 and "/" not in name for name in names)


@pytest.mark.parametrize(
    ("budgets", "field"),
    [
        ("[{scope: {colour: red}, usd: 1, per: day}]", "budgets.0.scope.colour"),
        ("[{scope: {}, usd: 1, per: day}, {scope: {}, usd: 2, per: day}]", "budgets.1.scope"),
        ("[{scope: {team: ''}, usd: 1, per: day}]", "budgets.0.scope.team"),
    ],
)
def test_what_cannot_be_held_is_refused_with_its_field(tmp_path: Path, budgets: str, field: str) -> None:
    with pytest.raises(BudgetInvalid) as refused:
        budgets_of(charter(budgets))
    assert refused.value.field == field
    file = tmp_path / "c.yaml"
    file.write_text(TEXT.format(feature="f", budgets=budgets))
    told = CliRunner().invoke(cli, ["charter", "check", str(file)], prog_name="flywheel")
    assert told.exit_code == 1 and field in told.stderr


def test_only_budgets_of_this_charter_are_withdrawn() -> None:
    mine = charter("[{scope: {team: cx}, usd: 10, per: day}, {scope: {team: dx}, usd: 10, per: day}]")
    longer = charter("[{scope: {team: cx}, usd: 10, per: day}]", feature="support-answers-2")
    known = [*budgets_of(mine), *budgets_of(longer)]
    ended = withdrawn(known[:1], known, "default", name_prefix(mine))
    assert [(budget.name, budget.ended) for budget in ended] == [(known[1].name, True)]


@pytest.mark.broker
def test_applying_a_charter_publishes_its_budgets_and_ends_those_it_no_longer_has(kafka: Any, tmp_path: Path) -> None:
    create_topics_now(kafka.bootstrap, topics().values())
    feature, file = f"f-{uuid4().hex}", tmp_path / "c.yaml"

    def applied(budgets: str) -> list[tuple[str, int, bool]]:
        file.write_text(TEXT.format(feature=feature, budgets=budgets))
        arguments = ["charter", "apply", str(file), "--kafka", kafka.bootstrap, "--json"]
        said = json.loads(CliRunner().invoke(cli, arguments, prog_name="flywheel").stdout)
        return [(one["budget"].rpartition(".")[2], one["revision"], one["changed"]) for one in said["budgets"]]

    team, all_of_it = "{scope: {team: cx}, usd: 10, per: day, mode: hard}", "{scope: {}, usd: 90, per: month}"
    assert applied(f"[{team}, {all_of_it}]") == [("team=cx", 1, True), ("month", 1, True)]
    assert applied(f"[{team}, {all_of_it}]") == [("team=cx", 1, False), ("month", 1, False)]
    assert applied(f"[{all_of_it}]") == [("month", 1, False), ("team=cx", 2, True)]
    assert applied(f"[{all_of_it}]") == [("month", 1, False)]
    assert applied(f"[{team}]") == [("team=cx", 3, True), ("month", 2, True)]
