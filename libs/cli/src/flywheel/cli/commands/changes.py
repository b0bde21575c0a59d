"""``flywheel changes`` and ``flywheel rollback``."""

from __future__ import annotations

import asyncio

import click

from flywheel.cli.addresses import current_addresses
from flywheel.cli.controlling import drift_now
from flywheel.cli.output import console, fail, json_option, print_json, table
from flywheel.cli.publishing import ApplyFailed
from flywheel.cli.questions import QueryFailed
from flywheel.cli.rolling_back import Filters, roll_back
from flywheel.cli.rolling_back import changes as read_changes

_KAFKA = click.option("--kafka", help="Kafka brokers, host:port; default: the running system's.")
_URL = click.option("--url", help="ClickHouse's HTTP address; default: the running system's.")
_COLUMNS = ("occurred_at", "what", "subject", "revision", "by", "said", "change_id")


@click.command()
@click.option("--project", help="Only this project.")
@click.option("--subject", help="Only changes of this feature, budget or project.")
@click.option(
    "--what", type=click.Choice(["charter", "budget", "rules", "control", "silence", "action"]), help="Only this kind."
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="The newest so many.")
@click.option(
    "--drift", is_flag=True, help="Instead: what runs otherwise than it was declared. Exit code 1 if anything."
)
@_URL
@_KAFKA
@json_option
def changes(
    *, project: str | None, subject: str | None, what: str | None, limit: int, drift: bool, url: str | None,
    kafka: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Show every change of the configuration, the newest first, whoever made it: a person or the controller."""
    if drift:
        _drift(kafka, as_json)
        return
    try:
        found = read_changes(url or current_addresses().clickhouse, Filters(project, subject, what, limit))
    except QueryFailed as error:
        fail(str(error))
    if as_json:
        print_json(found)
        return
    console().print(table(list(_COLUMNS), [[row[column] for column in _COLUMNS] for row in found]))


def _drift(kafka: str | None, as_json: bool) -> None:
    try:
        found = asyncio.run(drift_now(kafka or current_addresses().kafka))
    except ApplyFailed as error:
        fail(str(error))
    if as_json:
        print_json(found)
    elif found:
        rows = [[one.what, one.subject, one.declared, one.running, one.since] for one in found]
        console().print(table(["what", "subject", "declared", "running", "since"], rows))
    else:
        click.echo("what runs is what was declared")
    if found:
        raise SystemExit(1)


@click.command()
@click.argument("change")
@click.option("--older-too", is_flag=True, help="Also where later changes are lost by it.")
@click.option("--by", envvar="USER", default="", help="Who says so; default: $USER.")
@_URL
@_KAFKA
@json_option
def rollback(change: str, *, older_too: bool, by: str, url: str | None, kafka: str | None, as_json: bool) -> None:
    """Publish what was declared before CHANGE again, as a new change. CHANGE is an id from flywheel changes: of a
    charter, of rules, or of a person's control, which is lifted."""
    addresses = current_addresses()
    try:
        done = roll_back(url or addresses.clickhouse, kafka or addresses.kafka, change, by=by, older_too=older_too)
    except (QueryFailed, ApplyFailed) as error:
        fail(str(error))
    if as_json:
        print_json(done)
    elif done.what == "control":
        click.echo(f"control of {done.subject}: lifted")
    else:
        click.echo(
            f"{done.what} of {done.subject}: revision {done.revision} published, as revision {done.as_of_revision}"
        )
