"""``flywheel charter check`` and ``apply``."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from flywheel.budget import Budget, BudgetInvalid
from flywheel.cli.addresses import current_addresses
from flywheel.cli.budgeting import AppliedBudget, apply_budgets
from flywheel.cli.charter_budgets import budgets_of, name_prefix
from flywheel.cli.declared_files import end_with_first_problem, end_with_problems, read_text
from flywheel.cli.going_live import Verdict, judge, must_be_better
from flywheel.cli.output import fail, json_option, print_json
from flywheel.cli.publishing import Applied, ApplyFailed, apply_charter, newest_charter
from flywheel.cli.questions import Rows, ask
from flywheel.cli.what_if import TIMEOUT_S, slice_as_json
from flywheel.cli.what_if_report import show
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
@click.option(
    "--require-better", is_flag=True,
    help="Only where it is proven to earn more than the running charter, as with go_live: better.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Also where that is not proven; needs --reason.")
@click.option("--reason", default="", help="Why it is forced, for whoever reads the log of changes.")
@click.option("--by", envvar="USER", default="", help="Who says so; default: $USER.")
@json_option
def apply(  # noqa: PLR0917 - one parameter for each option
    file: Path, kafka: str | None, require_better: bool, force: bool, reason: str, by: str, as_json: bool
) -> None:
    """Publish FILE as the newest revision of its feature, and its budgets. Applying the same text twice changes
    nothing; a budget that is no longer in the text ends.

    Where the charter, or the one that runs, declares policy: {go_live: better}, other arms or another policy are only
    published once the recorded decisions prove that they earn more (as flywheel whatif --require-better says).
    """
    if force != bool(reason.strip()):
        raise click.UsageError("--force and --reason go together")
    text = read_text(file)
    found = _valid(file, text)
    budgets = _budgets(file, found)
    bootstrap = kafka or current_addresses().kafka
    try:
        running = asyncio.run(newest_charter(bootstrap, found))
        verdict = _verdict(running, found, text, asked=require_better)
        refused = None if verdict is None else verdict.refused
        if verdict is not None and not as_json:
            _show(verdict, file)
        if refused is not None and not force:
            if as_json:
                print_json({"refused": refused, **_judged(verdict)})
            fail(f"{found.project}/{found.feature} is not published: {refused}; or give --force and --reason")
        spending = asyncio.run(apply_budgets(bootstrap, budgets, all_of=(found.project, name_prefix(found))))
        after = int(running["revision"]) if running is not None and verdict is not None else None
        forced = reason if refused is not None else ""
        # Budgets first: a feature must not decide for a moment without those it has.
        applied = asyncio.run(apply_charter(bootstrap, found, text, by=by, forced=forced, after=after))
    except ApplyFailed as error:
        fail(str(error))
    _say(applied, spending, verdict, as_json=as_json)


def _say(applied: Applied, spending: list[AppliedBudget], verdict: Verdict | None, *, as_json: bool) -> None:
    if as_json:
        budgets = [dataclasses.asdict(one) for one in spending]
        print_json({**dataclasses.asdict(applied), "budgets": budgets, **_judged(verdict)})
        return
    said = "published" if applied.changed else "already is this text"
    click.echo(f"{applied.project}/{applied.feature}: revision {applied.revision} {said}")
    for one in spending:
        said = "published" if one.changed else "already says so"
        click.echo(f"budget {one.project}/{one.budget}: revision {one.revision} {said}")


def _verdict(running: Mapping[str, Any] | None, wanted: Charter, text: str, *, asked: bool) -> Verdict | None:
    """Return whether the charter may go live, None where nothing asks."""
    if running is None or running["digest"] == sha256(text.encode()).hexdigest():
        return None
    try:
        declared = parse_charter(running["charter_yaml"])
    except CharterInvalid as error:
        if asked or wanted.policy.go_live == "better":
            return Verdict(f"revision {running['revision']}, which runs, is no charter any more: {error}")
        return None
    if not must_be_better(declared, wanted, asked=asked):
        return None
    url = current_addresses().clickhouse
    click.echo(f"reading the decisions of {wanted.project}/{wanted.feature} …", err=True)

    def answered(query: str) -> Rows:
        return ask(url, query, timeout_s=TIMEOUT_S)

    return judge(running, declared, wanted, answered)


def _show(verdict: Verdict, file: Path) -> None:
    if verdict.found is not None:
        show([verdict.found], file.name, verdict.left)


def _judged(verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None or verdict.found is None:
        return {}
    return {"whole": slice_as_json(verdict.found), "left_out": verdict.left.counts}


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
