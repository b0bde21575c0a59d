"""``flywheel incident``: alerts with a common cause, what was done about them, and what came of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from flywheel.cli.addresses import current_addresses
from flywheel.cli.commands.alerts import ago
from flywheel.cli.output import console, fail, json_option, print_json, table
from flywheel.cli.questions import QueryFailed, Rows, ask
from flywheel.cli.reviewing import Found, NotOne, incidents, review, the_one
from flywheel.incident import (
    Figures,
    Incident,
    PhaseFigures,
    Review,
    Terms,
    clock,
    figure,
    incident_as_json,
    lasting,
    page,
    review_as_json,
    visible,
)

F = TypeVar("F", bound=Callable[..., Any])
_SHORT: Final = 12


def _duration(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if not found:
        raise click.BadParameter(f"{text!r} is no duration such as 90s, 15m, 2h or 1d")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[found[2]] * 1_000_000


def _options(command: F) -> F:
    options = [
        click.option("--project", help="Only this project."),
        click.option(
            "--gap", "gap_us", callback=_duration, default="15m", show_default=True,
            help="Alerts of a feature at most so far apart are one incident.",
        ),
        click.option("--url", help="ClickHouse's HTTP address; default: the running system's."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def incident() -> None:
    """Review incidents: alerts with a common cause, what was done about them, and what came of it."""


@incident.command("list")
@click.option("--feature", help="Only incidents of this feature.")
@click.option("--state", type=click.Choice(["open", "closed", "stale"]), help="Only these.")
@click.option("--since", callback=ago, help="Only those heard of at or after: 90m, 2h, 3d ago, or an ISO time.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="The newest so many.")
@_options
@json_option
def listed(
    *, project: str | None, feature: str | None, state: str | None, since: int | None, limit: int, gap_us: int,
    url: str | None, as_json: bool,
) -> None:  # fmt: skip
    """List incidents, the newest first.

    Open: an alert fires. Closed: all are over. Stale: one was never resolved and not heard of for a day.
    """
    now_us, terms = time.time_ns() // 1000, Terms(gap_us=gap_us)
    found = _incidents(_asking(url), terms, project)
    chosen = [
        each
        for each in found.incidents
        if (feature is None or feature in each.features)
        and (state is None or each.state(now_us, terms) == state)
        and (since is None or each.last_us >= since)
    ][-limit:][::-1]
    if found.cut:
        click.echo("there are more alerts than were looked at: the oldest incidents may not be whole", err=True)
    if as_json:
        print_json([incident_as_json(each, now_us, terms) for each in chosen])
        return
    columns = ["state", "severity", "about", "kinds", "title", "began", "lasting", "alerts", "actions", "incident"]
    console().print(table(columns, [_row(each, now_us, terms) for each in chosen]))


def _row(each: Incident, now_us: int, terms: Terms) -> list[object]:
    ended_us = each.ended_us(now_us, terms)
    return [
        each.state(now_us, terms),
        visible(each.severity, 20),
        visible(f"{each.project}/{', '.join(each.features)}" if each.features else each.lead.subject, 100),
        visible(", ".join(each.kinds), 100),
        visible(each.lead.title, 200),
        clock(each.started_us),
        lasting(((now_us if ended_us is None else ended_us) - each.started_us) / 1e6),
        len(each.episodes),
        len({step.action_id for step in each.steps}),
        each.incident_id[:_SHORT],
    ]


@incident.command()
@click.argument("name", metavar="ID")
@click.option(
    "--page", "file", type=click.Path(dir_okay=False, path_type=Path), help="Also write one self-contained HTML file."
)
@click.option(
    "--around", "around_us", callback=_duration,
    help="So much of the time before it and after it is shown too; default: as much as it lasted, 30m to 6h.",
)  # fmt: skip
@_options
@json_option
def show(
    *,
    name: str,
    file: Path | None,
    around_us: int | None,
    project: str | None,
    gap_us: int,
    url: str | None,
    as_json: bool,
) -> None:
    """Replay one incident: facts, detections, decisions, effects, and changes of the configuration near it.

    ID is an incident's, or that of an alert or action in it; its first characters will do.
    """
    now_us, terms, asking = time.time_ns() // 1000, Terms(gap_us=gap_us), _asking(url)
    try:
        chosen = the_one(_incidents(asking, terms, project).incidents, name)
        found = review(asking, chosen, now_us=now_us, terms=terms, around_us=around_us)
    except (QueryFailed, NotOne) as error:
        fail(str(error))
    if file is not None:
        try:
            file.write_text(page(found), encoding="utf-8", errors="replace")
        except OSError as error:
            fail(f"no page: {error}")
    if as_json:
        print_json(review_as_json(found, terms))
        return
    _print(found)
    if file is not None:
        click.echo(f"written: {file}")


def _asking(url: str | None) -> Callable[[str], Rows]:
    address = url or current_addresses().clickhouse
    return lambda query: ask(address, query)


def _incidents(asking: Callable[[str], Rows], terms: Terms, project: str | None) -> Found:
    try:
        return incidents(asking, terms, project=project)
    except QueryFailed as error:
        fail(str(error))


def _print(found: Review) -> None:
    about, times, shown = found.incident, found.times, console()
    features = ", ".join(about.features) or about.lead.subject
    click.echo(visible(f"{about.severity}, {found.state}: {about.lead.title or about.lead.kind}"))
    click.echo(visible(f"{about.project}/{features}; {', '.join(about.kinds)}; incident {about.incident_id}"))
    told = [
        ("began", times.began_us), ("alert", times.alerted_us), ("action", times.acted_us),
        ("effect", times.effect_us), ("over", times.ended_us),
    ]  # fmt: skip
    rows = [[name, clock(at_us), lasting(times.after_s(at_us))] for name, at_us in told]
    shown.print(table(["", "time (UTC)", "since it began"], rows))
    click.echo("")
    measures = found.measures
    phases = [
        [name, lasting((each.phase.stop_us - each.phase.start_us) / 1e6)]
        + [figure(measure, measure.read(figures)) for measure in measures]
        for each in found.phases
        for name, figures in _told(each, found.arms)
    ]
    shown.print(table(["phase", "lasting", *(measure.label for measure in measures)], phases))
    click.echo("")
    entries = [
        [
            clock(each.at_us), lasting((each.at_us - times.origin_us) / 1e6), each.sort, visible(each.what, 80),
            visible(each.who, 80), visible(each.said, 200), visible(each.detail, 400),
        ]
        for each in found.entries
    ]  # fmt: skip
    shown.print(table(["time (UTC)", "since", "", "what", "who", "", "detail"], entries))
    for note in found.notes:
        click.echo(note)


def _told(each: PhaseFigures, arms: Sequence[str]) -> list[tuple[str, Figures]]:
    of_arms = [(f"  {visible(arm or '(no arm)', 60)}", each.arms[arm]) for arm in arms if arm in each.arms]
    return [(each.phase.name, each.whole), *of_arms]
