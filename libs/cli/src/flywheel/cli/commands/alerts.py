"""``flywheel alerts``: what fires now, and what fired."""

from __future__ import annotations

import time

import click

from flywheel.cli.addresses import current_addresses
from flywheel.cli.incident_rows import standing
from flywheel.cli.letter_views import since_us
from flywheel.cli.output import console, fail, json_option, print_json, table
from flywheel.cli.questions import QueryFailed, ask
from flywheel.incident import Episode, clock, episode_as_json, lasting, visible
from flywheel.store import quoted


def ago(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    """What ``--since`` says, in microseconds."""
    try:
        return None if text is None else since_us(text, time.time_ns() // 1000)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(f"{text!r} is neither 90m, 2h or 3d nor an ISO time") from error


@click.group()
def alerts() -> None:
    """Show what fires now and what fired; incidents, what belongs together: flywheel incident."""


@alerts.command("list")
@click.option("--project", help="Only this project.")
@click.option("--feature", help="Only alerts about this feature.")
@click.option("--kind", help="Only this kind, e.g. error_rate.")
@click.option("--severity", type=click.Choice(["info", "warning", "critical"]), help="Only this severity.")
@click.option("--state", type=click.Choice(["firing", "over", "resolved"]), help="Only these.")
@click.option("--since", callback=ago, help="Only those heard of at or after: 90m, 2h, 3d ago, or an ISO time.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@click.option("--url", help="ClickHouse's HTTP address; default: the running system's.")
@json_option
def listed(
    *, project: str | None, feature: str | None, kind: str | None, severity: str | None, state: str | None,
    since: int | None, limit: int, url: str | None, as_json: bool,
) -> None:  # fmt: skip
    """List alerts, each as it stands by its newest report: those that fire first, then the newest.

    Over is what nobody resolved: the window that it is about (of a budget) has ended, or the alert that it is about
    (one of the controller's) is resolved.
    """
    wanted = {"project": project, "scope['feature']": feature, "kind": kind, "severity": severity, "state": state}
    chosen = [f"{column} = {quoted(value)}" for column, value in wanted.items() if value is not None]
    if since is not None:
        chosen.append(f"last_at >= fromUnixTimestamp64Micro({since}, 'UTC')")
    address = url or current_addresses().clickhouse
    try:
        found = standing(lambda query: ask(address, query), chosen, limit)
    except QueryFailed as error:
        fail(str(error))
    if as_json:
        print_json([{**episode_as_json(each), "state": state} for state, each in found])
        return
    columns = ["state", "severity", "kind", "about", "title", "fired", "lasting", "observed", "expected", "alert"]
    console().print(table(columns, [_row(state, each) for state, each in found]))


def _row(state: str, each: Episode) -> list[object]:
    until_us = each.last_us if each.ended_us is None else each.ended_us
    return [
        state,
        visible(each.severity, 20),
        visible(each.kind, 60),
        visible(f"{each.project}/{each.feature}" if each.feature else each.subject, 100),
        visible(each.title, 200),
        clock(each.started_us),
        lasting((until_us - each.started_us) / 1e6),
        each.observed,
        each.expected,
        each.alert_id[:12],
    ]
