"""``flywheel alerts silence``, ``unsilence`` and ``silences``: alerts that a person expects for a time."""

from __future__ import annotations

import asyncio
import time

import click

from flywheel.cli.addresses import current_addresses
from flywheel.cli.alert_words import lift_silence, say_silence, silences_said
from flywheel.cli.letter_views import until_us
from flywheel.cli.output import console, fail, json_option, print_json, table
from flywheel.cli.publishing import ApplyFailed
from flywheel.control import Silence
from flywheel.incident import clock, moment, visible

_KAFKA = click.option("--kafka", help="Kafka brokers, host:port; default: the running system's.")
_BY = click.option("--by", envvar="USER", default="", help="Who says so; default: $USER.")
_REASON = click.option("--reason", default="", help="Why, for whoever reads the log of changes.")


class Moment(click.ParamType):
    """A time from now on, as 90m, 2h or 3d, or an ISO time, in microseconds since the epoch."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return until_us(str(value), time.time_ns() // 1000)
        except (ValueError, OverflowError):
            self.fail(f"{value} is neither 90m, 2h or 3d from now nor an ISO time", param, ctx)


@click.command()
@click.option("--feature", "features", multiple=True, help="Alerts about this feature; may be given again.")
@click.option("--arm", "arms", multiple=True, help="Alerts about this arm.")
@click.option("--model", "models", multiple=True, help="Alerts about this model, with or without provider/.")
@click.option("--kind", "kinds", multiple=True, help="Alerts of this kind, e.g. latency.")
@click.option(
    "--severity", "severities", multiple=True, type=click.Choice(["info", "warning", "critical"]), help="Of these only."
)
@click.option("--all", "everything", is_flag=True, help="Every alert of the project.")
@click.option("--from", "starts", type=Moment(), help="From then on: 30m from now, or an ISO time; default: now.")
@click.option("--until", "ends", type=Moment(), required=True, help="Until then: 2h from now, or an ISO time.")
@click.option("--reason", required=True, help="Why, for whoever wonders.")
@click.option("--project", default="default", show_default=True)
@_BY
@_KAFKA
@json_option
def silence(
    *, features: tuple[str, ...], arms: tuple[str, ...], models: tuple[str, ...], kinds: tuple[str, ...],
    severities: tuple[str, ...], everything: bool, starts: int | None, ends: int, reason: str, project: str, by: str,
    kafka: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Say that some alerts are expected, as in a maintenance window.

    They are made and recorded as ever, and not sent. The controller leaves them alone until it ends, unless a rule
    has `in_silence: act`. An alert must fit every option given; of one given several times, one value.
    """
    if bool(features or arms or models or kinds or severities) == everything:
        raise click.UsageError("give --feature, --arm, --model, --kind or --severity, or --all alone")
    now_us = time.time_ns() // 1000
    starts_us = now_us if starts is None else starts
    if ends <= max(starts_us, now_us):
        raise click.BadParameter("must lie ahead, and after --from", param_hint="--until")
    wanted = Silence(
        project, "new", 1, now_us, starts_us, ends, by, reason, features=features, arms=arms, models=models,
        kinds=kinds, severities=severities,
    )  # fmt: skip
    try:
        said = asyncio.run(say_silence(kafka or current_addresses().kafka, wanted))
    except ApplyFailed as error:
        fail(str(error))
    _tell(said, as_json)


@click.command()
@click.argument("name", metavar="ID")
@_REASON
@_BY
@_KAFKA
@json_option
def unsilence(*, name: str, reason: str, by: str, kafka: str | None, as_json: bool) -> None:
    """End a silence now. ID is its own, or its first characters."""
    try:
        said = asyncio.run(lift_silence(kafka or current_addresses().kafka, name, by=by, reason=reason))
    except ApplyFailed as error:
        fail(str(error))
    _tell(said, as_json)


@click.command()
@click.option("--all", "everything", is_flag=True, help="Those that are over or lifted too.")
@_KAFKA
@json_option
def silences(*, everything: bool, kafka: str | None, as_json: bool) -> None:
    """List the silences that hold now or will."""
    try:
        known = asyncio.run(silences_said(kafka or current_addresses().kafka))
    except ApplyFailed as error:
        fail(str(error))
    now_us = time.time_ns() // 1000
    found = [each for each in known if everything or each.until_us > now_us]
    if as_json:
        print_json([_as_json(each, now_us) for each in found])
        return
    rows = [
        [
            _state(each, now_us), visible(f"{each.project}: {_about(each)}", 200), clock(each.starts_us),
            clock(each.until_us), visible(each.by, 60), visible(each.reason, 200), each.silence_id[:12],
        ]
        for each in found
    ]  # fmt: skip
    console().print(table(["", "alerts", "from (UTC)", "until", "by", "why", "silence"], rows))


def _state(said: Silence, now_us: int) -> str:
    if said.live(now_us):
        return "holds"
    return "lifted" if said.lifted else "over" if said.ends_us <= now_us else "to come"


def _about(said: Silence) -> str:
    wanted = {
        "feature": said.features, "arm": said.arms, "model": said.models, "kind": said.kinds,
        "severity": said.severities,
    }  # fmt: skip
    return "; ".join(f"{name} {', '.join(values)}" for name, values in wanted.items() if values) or "all"


def _as_json(said: Silence, now_us: int) -> dict[str, object]:
    times = {"starts_at": moment(said.starts_us), "ends_at": moment(said.ends_us), "said_at": moment(said.said_us)}
    return {**said.event(), "occurred_at": times.pop("said_at"), **times, "state": _state(said, now_us)}


def _tell(said: Silence, as_json: bool) -> None:
    now_us = time.time_ns() // 1000
    if as_json:
        print_json(_as_json(said, now_us))
        return
    what = "lifted" if said.lifted else f"from {clock(said.starts_us)} until {clock(said.ends_us)} UTC"
    click.echo(visible(f"silence {said.silence_id[:12]} of {said.project}, {_about(said)}: {what}"))
