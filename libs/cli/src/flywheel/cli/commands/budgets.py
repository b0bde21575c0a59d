"""``flywheel budget check``, ``apply``, ``list`` and ``plan``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from flywheel.budget import Budget
from flywheel.budget.budget_yaml import BudgetsInvalid, parse_budgets
from flywheel.cli.addresses import current_addresses
from flywheel.cli.budgeting import Standing, apply_budgets, standings
from flywheel.cli.commands.budget_plan import plan
from flywheel.cli.declared_files import end_with_first_problem, end_with_problems, read_text
from flywheel.cli.output import console, fail, json_option, print_json, table
from flywheel.cli.publishing import ApplyFailed

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_KAFKA = click.option("--kafka", help="Kafka brokers, host:port; default: the running system's.")


@click.group()
def budget() -> None:
    """Budgets: how much may be spent, by whom, in which window."""


budget.add_command(plan)


@budget.command()
@click.argument("file", type=_FILE)
@json_option
def check(file: Path, as_json: bool) -> None:
    """Say whether FILE declares valid budgets; each problem with its line and field."""
    try:
        found = parse_budgets(read_text(file))
    except BudgetsInvalid as error:
        end_with_problems(file, error, as_json=as_json)
    if as_json:
        print_json({"valid": True, "budgets": [declared.key for declared in found]})
    else:
        click.echo(f"{file} is valid: {', '.join(declared.key for declared in found)}")


@budget.command()
@click.argument("file", type=_FILE)
@_KAFKA
@json_option
def apply(file: Path, kafka: str | None, as_json: bool) -> None:
    """Publish the budgets of FILE as the newest revisions of their names. Applying the same twice changes nothing."""
    found = _valid(file)
    try:
        applied = asyncio.run(apply_budgets(kafka or current_addresses().kafka, found))
    except ApplyFailed as error:
        fail(str(error))
    if as_json:
        print_json(applied)
        return
    for one in applied:
        done = "published" if one.changed else "already says this"
        click.echo(f"{one.project}/{one.budget}: revision {one.revision} {done}")


@budget.command("list")
@_KAFKA
@json_option
def list_(kafka: str | None, as_json: bool) -> None:
    """Show every budget: spent, held by leases (exposure), free (available), in US dollars."""
    try:
        found = asyncio.run(standings(kafka or current_addresses().kafka))
    except ApplyFailed as error:
        fail(str(error))
    if as_json:
        print_json(found)
        return
    columns = ["budget", "mode", "per", "amount", "spent", "exposure", "available", "until", "remark"]
    console().print(table(columns, [_row(one) for one in found]))


def _row(one: Standing) -> list[str]:
    remarks = [
        ("ended", one.ended),
        ("exhausted", one.exhausted),
        (f"{one.stranded_usd.normalize():f} stranded", one.stranded_usd > 0),
        (f"{one.unpriced} unpriced", one.unpriced > 0),
    ]
    money = [one.amount_usd, one.spent_usd, one.exposure_usd, one.available_usd]
    shown = [f"{amount:.4f}" for amount in money]
    return [
        one.instance,
        one.mode,
        one.per,
        *shown,
        one.window_end or "",
        ", ".join(r for r, holds in remarks if holds),
    ]


def _valid(file: Path) -> tuple[Budget, ...]:
    try:
        return parse_budgets(read_text(file))
    except BudgetsInvalid as error:
        end_with_first_problem(file, error, "flywheel budget check")
