"""``flywheel charter check`` and ``apply``."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import click

from flywheel.budget import Budget, BudgetInvalid
from flywheel.cli.addresses import current_addresses
from flywheel.cli.budgeting import AppliedBudget, apply_budgets
from flywheel.cli.charter_budgets import budgets_of, name_prefix
from flywheel.cli.declared_files import end_with_first_problem, end_with_problems, read_text
from flywheel.cli.output import fail, json_option, print_json
from flywheel.cli.publishing import Applied, ApplyFailed, apply_charter
from flywheel.policy import Charter, CharterInvalid, parse_charter

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def charter() -> None:
    """Check and publish charters: what a feature's owner declares, one YAML file per feature."""


@charter.command()
@click.argument("file", type=_FILE)
@json_option
def check(file: Path, as_json: bool) -> None:
    """Say whether FILE is a valid charter; each problem with its line and field."""
    try:
        found = parse_charter(read_text(file))
    except CharterInvalid as error:
        end_with_problems(file, error, as_json=as_json)
    _budgets(file, found)
    if as_json:
        print_json({"valid": True, "project": found.project, "feature": found.feature})
    else:
        arms = ", ".join(arm.name for arm in found.policy_arms)
        click.echo(f"{file} is valid: feature {found.feature}, {found.policy.kind} over {arms}")


@charter.command()
@click.argument("file", type=_FILE)
@click.option("--kafka", help="Kafka brokers, host:port; default: the running system's.")
@json_option
def apply(file: Path, kafka: str | None, as_json: bool) -> None:
    """Publish FILE as the newest revision of its feature, and its budgets. Applying the same text twice changes
    nothing; a budget that is no longer in the text ends."""
    text = read_text(file)
    found = _valid(file, text)
    budgets = _budgets(file, found)
    try:
        applied, spending = asyncio.run(_apply(kafka or current_addresses().kafka, found, text, budgets))
    except ApplyFailed as error:
        fail(str(error))
    if as_json:
        print_json({**dataclasses.asdict(applied), "budgets": [dataclasses.asdict(one) for one in spending]})
        return
    said = "published" if applied.changed else "already is this text"
    click.echo(f"{applied.project}/{applied.feature}: revision {applied.revision} {said}")
    for one in spending:
        said = "published" if one.changed else "already says so"
        click.echo(f"budget {one.project}/{one.budget}: revision {one.revision} {said}")


async def _apply(
    kafka: str, found: Charter, text: str, budgets: tuple[Budget, ...]
) -> tuple[Applied, list[AppliedBudget]]:
    """Budgets first: a feature must not decide for a moment without those it has."""
    spending = await apply_budgets(kafka, budgets, all_of=(found.project, name_prefix(found)))
    return await apply_charter(kafka, found, text), spending


def _budgets(file: Path, found: Charter) -> tuple[Budget, ...]:
    try:
        return budgets_of(found)
    except BudgetInvalid as error:
        fail(f"{file}: {error.field}: {error.message}")


def _valid(file: Path, text: str) -> Charter:
    try:
        return parse_charter(text)
    except CharterInvalid as error:
        end_with_first_problem(file, error, "flywheel charter check")
