"""``flywheel alerts``: what fires now, what fired, and what a person says to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import click

from flywheel.cli.addresses import current_addresses
from flywheel.cli.alert_words import NoSuchAlert, Word, firing_alerts, known_alert, say
from flywheel.cli.commands.silences import silence, silences, unsilence
from flywheel.cli.incident_rows import Ask, reports_of, standing
from flywheel.cli.incident_rows import silences as silences_known
from flywheel.cli.letter_views import since_us, until_us
from flywheel.cli.output import console, fail, json_option, print_json, table
from flywheel.cli.publishing import ApplyFailed
from flywheel.cli.questions import QueryFailed, ask
from flywheel.control import Silence, silenced_by
from flywheel.incident import Episode, Report, clock, episode_as_json, lasting, moment, visible
from flywheel.store import quoted

F = TypeVar("F", bound=Callable[..., Any])
MOST_TOLD: Final = 1_000
_URL = click.option("--url", help="ClickHouse's HTTP address; default: the running system's.")


def ago(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    """What ``--since`` says, in microseconds."""
    try:
        return None if text is None else since_us(text, time.time_ns() // 1000)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(f"{text!r} is neither 90m, 2h or 3d nor an ISO time") from error


def ahead(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    """What ``--until`` says, in microseconds; it lies ahead."""
    now_us = time.time_ns() // 1000
    try:
        found = None if text is None else until_us(text, now_us)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(f"{text!r} is neither 90m, 2h or 3d nor an ISO time") from error
    if found is not None and found <= now_us:
        raise click.BadParameter(f"{text} does not lie ahead")
    return found


@click.group()
def alerts() -> None:
    """Show what fires now and what fired, and say something to it; what belongs together: flywheel incident."""


for _command in (silence, unsilence, silences):
    alerts.add_command(_command)


@alerts.command("list")
@click.option("--project", help="Only this project.")
@click.option("--feature", help="Only alerts about this feature.")
@click.option("--kind", help="Only this kind, e.g. error_rate.")
@click.option("--severity", type=click.Choice(["info", "warning", "critical"]), help="Only this severity.")
@click.option("--state", type=click.Choice(["firing", "acknowledged", "over", "resolved"]), help="Only these.")
@click.option("--since", callback=ago, help="Only those heard of at or after: 90m, 2h, 3d ago, or an ISO time.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@_URL
@json_option
def listed(
    *, project: str | None, feature: str | None, kind: str | None, severity: str | None, state: str | None,
    since: int | None, limit: int, url: str | None, as_json: bool,
) -> None:  # fmt: skip
    """List alerts, each as it stands by its newest report: those that fire first, then the newest.

    Acknowledged: it fires, and a person has seen it as severe as it is. Over is what nobody resolved: the window that
    it is about (of a budget) has ended, or the alert that it is about (one of the controller's) is resolved.
    """
    wanted = {"project": project, "scope['feature']": feature, "kind": kind, "severity": severity, "state": state}
    chosen = [f"{column} = {quoted(value)}" for column, value in wanted.items() if value is not None]
    if since is not None:
        chosen.append(f"last_at >= fromUnixTimestamp64Micro({since}, 'UTC')")
    asking, now_us = _asking(url), time.time_ns() // 1000
    try:
        found, silenced = standing(asking, chosen, limit), silences_known(asking, now_us)
    except QueryFailed as error:
        fail(str(error))
    told = [(state, each, _silence_of(silenced, state, each, now_us)) for state, each in found]
    if as_json:
        print_json([_as_json(*one) for one in told])
        return
    columns = ["state", "severity", "kind", "about", "title", "fired", "lasting", "observed", "expected", "by", "alert"]
    console().print(table(columns, [_row(*one) for one in told]))


@alerts.command()
@click.argument("name", metavar="ID")
@click.option("--project", help="Only of this project.")
@_URL
@json_option
def show(*, name: str, project: str | None, url: str | None, as_json: bool) -> None:
    """Show one alert: what it is about, its evidence, its reports, and what people said to it.

    ID is the alert's; its first characters will do.
    """
    asking, now_us = _asking(url), time.time_ns() // 1000
    try:
        state, found = known_alert(asking, name, project)
        told = reports_of(asking, found.project, found.alert_id, MOST_TOLD)
        held = _silence_of(silences_known(asking, now_us), state, found, now_us)
    except (QueryFailed, NoSuchAlert) as error:
        fail(str(error))
    if as_json:
        print_json({**_as_json(state, found, held), "told": [_report_as_json(each) for each in told]})
        return
    _print(state, found, held, told)


def _word_options(command: F) -> F:
    options = [
        click.argument("name", metavar="ID|CAUSE"),
        click.option("--by", envvar="USER", default="", help="Who says so; default: $USER."),
        click.option("--note", default="", help="What others should know, in one line."),
        click.option("--project", help="Only alerts of this project."),
        click.option("--kafka", help="Kafka brokers, host:port; default: the running system's."),
        _URL,
        json_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@alerts.command()
@click.option("--until", "until", callback=ahead, help="It holds until then: 90m, 2h, 3d from now, or an ISO time.")
@_word_options
def ack(
    *, name: str, by: str, note: str, until: int | None, project: str | None, kafka: str | None, url: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Say that an alert is seen: it is not sent to people again until it is resolved, worse, or --until has passed.

    ID is the alert's, or its first characters; CAUSE a subject or feature: all that fires about it. The controller
    goes on as ever.
    """
    _say(name, Word("acknowledged", by, note, until), _Where(project, kafka, url), as_json)


@alerts.command()
@_word_options
def resolve(
    *, name: str, by: str, note: str, project: str | None, kafka: str | None, url: str | None, as_json: bool
) -> None:
    """Say that an alert is over. It fires anew when whoever noticed it says so again.

    ID is the alert's, or its first characters; CAUSE a subject or feature: all that fires about it. What the
    controller has in force because of it returns in its time.
    """
    _say(name, Word("resolved", by, note), _Where(project, kafka, url), as_json)


class _Where(NamedTuple):
    """Where alerts are looked up, and where words go; None: any project, the running system."""

    project: str | None
    kafka: str | None
    url: str | None


def _say(name: str, word: Word, where: _Where, as_json: bool) -> None:
    try:
        found = firing_alerts(_asking(where.url), name, where.project)
        asyncio.run(say(where.kafka or current_addresses().kafka, found, word))
    except (QueryFailed, NoSuchAlert, ApplyFailed) as error:
        fail(str(error))
    if as_json:
        print_json([{"alert_id": each.alert_id, "project": each.project, "state": word.state} for each in found])
        return
    until = "" if word.until_us is None else f", until {clock(word.until_us)} UTC"
    for each in found:
        click.echo(f"{word.state}{until}: {visible(each.title or each.kind, 200)} ({each.alert_id[:12]})")


def _asking(url: str | None) -> Ask:
    address = url or current_addresses().clickhouse
    return lambda query: ask(address, query)


def _silence_of(known: Sequence[Silence], state: str, episode: Episode, now_us: int) -> Silence | None:
    """The silence that keeps an alert which fires from being sent."""
    if state not in ("firing", "acknowledged"):
        return None
    return silenced_by(known, episode.project, episode.kind, episode.severity, episode.scope, at_us=now_us)


def _as_json(state: str, episode: Episode, held: Silence | None) -> dict[str, Any]:
    silenced = {
        "silenced_by": held.silence_id if held else None, "silenced_until": moment(held.until_us if held else None),
    }  # fmt: skip
    return {**episode_as_json(episode), "state": state, **silenced}


def _report_as_json(report: Report) -> dict[str, Any]:
    return {
        "at": moment(report.at_us), "state": report.state, "severity": report.severity, "title": report.title,
        "value": report.value, "by": report.attributes.get("by", ""), "note": report.attributes.get("note", ""),
    }  # fmt: skip


def _row(state: str, each: Episode, held: Silence | None) -> list[object]:
    until_us = each.last_us if each.ended_us is None else each.ended_us
    return [
        f"{state}, silenced" if held else state,
        visible(each.severity, 20),
        visible(each.kind, 60),
        visible(f"{each.project}/{each.feature}" if each.feature else each.subject, 100),
        visible(each.title, 200),
        clock(each.started_us),
        lasting((until_us - each.started_us) / 1e6),
        each.observed,
        each.expected,
        visible(each.acknowledged_by, 60),
        each.alert_id[:12],
    ]


def _print(state: str, found: Episode, held: Silence | None, told: Sequence[Report]) -> None:
    click.echo(visible(f"{found.severity}, {state}: {found.title or found.kind}"))
    click.echo(visible(f"{found.project}, {found.kind}, about {found.subject}; alert {found.alert_id}"))
    if held is not None:
        click.echo(visible(f"silenced until {clock(held.until_us)} UTC by {held.by or 'a person'}: {held.reason}"))
    if found.detail:
        click.echo(visible(found.detail))
    about = {**found.scope, **found.attributes}
    console().print(table(["", ""], [[visible(name, 60), visible(text, 400)] for name, text in sorted(about.items())]))
    click.echo("")
    rows = [
        [
            clock(each.at_us), each.state, visible(each.severity, 20), each.value,
            visible(each.attributes.get("by", ""), 60), visible(each.attributes.get("note", "") or each.title, 200),
        ]
        for each in told
    ]  # fmt: skip
    console().print(table(["time (UTC)", "state", "severity", "value", "by", ""], rows))
