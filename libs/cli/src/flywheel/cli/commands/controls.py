"""``flywheel control list``, ``set``, ``lift`` and ``rules``."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Final

import click

from flywheel.cli.addresses import current_addresses
from flywheel.cli.controlling import apply_rules, controls_now, items_of, say_control, time_text
from flywheel.cli.declared_files import end_with_first_problem, end_with_problems, read_text
from flywheel.cli.output import console, fail, json_option, print_json, table
from flywheel.cli.publishing import ApplyFailed
from flywheel.control import Record, RulesInvalid, Tree, parse_rules
from flywheel.control.shipped import default_rules_text

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_KAFKA = click.option("--kafka", help="Kafka brokers, host:port; default: the running system's.")
_PROJECT = click.option("--project", default="default", show_default=True)
_BY = click.option("--by", envvar="USER", default="", help="Who says so; default: $USER.")
_LENGTH: Final = re.compile(r"(\d+)([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType):
    """A duration such as 90s, 15m, 24h or 7d, in microseconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = _LENGTH.fullmatch(str(value))
        if found is None or int(found[1]) == 0:
            self.fail(f"{value} is no duration such as 90s, 15m, 24h or 7d", param, ctx)
        return int(found[1]) * _SECONDS[found[2]] * 1_000_000


@click.group()
def control() -> None:
    """What is in force beside the policies: arms disabled or pinned, features paused."""


@control.command("list")
@_KAFKA
@json_option
def list_(kafka: str | None, as_json: bool) -> None:
    """Show everything in force now, whoever put it there."""
    try:
        found = asyncio.run(controls_now(kafka or current_addresses().kafka))
    except ApplyFailed as error:
        fail(str(error))
    if as_json:
        print_json(found)
        return
    rows = [
        [f"{one.project}/{one.feature}", one.kind, ", ".join(one.arms), one.by or one.owner, one.until, one.reason]
        for one in found
    ]
    console().print(table(["feature", "control", "arms", "by", "until", "why"], rows))


@control.command("set")
@click.argument("feature")
@click.option("--disable", multiple=True, metavar="ARM", help="This arm must not serve; may be given again.")
@click.option("--pin", metavar="ARM", help="Only this arm serves.")
@click.option("--pause", is_flag=True, help="The default arm serves, nothing is tried.")
@click.option("--hands-off", is_flag=True, help="Nothing is in force, and the controller leaves the feature alone.")
@click.option("--for", "for_us", type=Duration(), help="How long, e.g. 90m; default: until it is lifted.")
@click.option("--reason", default="", help="Why, for whoever reads the log of changes.")
@_BY
@_PROJECT
@_KAFKA
@json_option
def set_(
    feature: str, *, disable: tuple[str, ...], pin: str | None, pause: bool, hands_off: bool, for_us: int | None,
    reason: str, by: str, project: str, kafka: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Put a control in force on FEATURE. It replaces what you or the controller have there, and holds at once."""
    items = items_of(disable=disable, pin=pin, pause=pause)
    if bool(items) == hands_off:
        raise click.UsageError("give --disable, --pin or --pause, or --hands-off alone")
    expires_us = None if for_us is None else time.time_ns() // 1000 + for_us
    _say(Record(project, feature, "person", 1, 0, items, expires_us, by=by, reason=reason), kafka, as_json)


@control.command()
@click.argument("feature")
@click.option("--reason", default="", help="Why, for whoever reads the log of changes.")
@_BY
@_PROJECT
@_KAFKA
@json_option
def lift(feature: str, *, reason: str, by: str, project: str, kafka: str | None, as_json: bool) -> None:
    """Take back the control that a person has in force on FEATURE; the controller may act again."""
    _say(Record(project, feature, "person", 1, 0, lifted=True, by=by, reason=reason), kafka, as_json)


def _say(wanted: Record, kafka: str | None, as_json: bool) -> None:
    try:
        said = asyncio.run(say_control(kafka or current_addresses().kafka, wanted))
    except ApplyFailed as error:
        fail(str(error))
    if as_json:
        print_json({"change_id": said.record_id, **said.event()})
        return
    until = "" if said.expires_us is None else f", until {time_text(said.expires_us)}"
    what = "lifted" if said.lifted else "; ".join(f"{item.kind} {', '.join(item.arms)}".strip() for item in said.items)
    click.echo(f"{said.place}: {what or 'hands off'}{until} (change {said.record_id})")


@control.group()
def rules() -> None:
    """The rules by which the controller acts."""


@rules.command()
@click.argument("file", type=_FILE)
@json_option
def check(file: Path, as_json: bool) -> None:
    """Say whether FILE declares valid rules; each problem with its line and field."""
    try:
        tree = parse_rules(read_text(file))
    except RulesInvalid as error:
        end_with_problems(file, error, as_json=as_json)
    if as_json:
        print_json({"valid": True, "version": tree.version, "rules": [rule.name for rule in tree.rules]})
    else:
        click.echo(f"{file} is valid: version {tree.version}, {tree.mode}, {_names(tree)}")


@rules.command()
@click.argument("file", type=_FILE)
@_PROJECT
@_KAFKA
@json_option
def apply(file: Path, project: str, kafka: str | None, as_json: bool) -> None:
    """Publish FILE as the newest rules of a project. Applying the same text twice changes nothing."""
    text = read_text(file)
    try:
        parse_rules(text)
        applied = asyncio.run(apply_rules(kafka or current_addresses().kafka, project, text))
    except RulesInvalid as error:
        end_with_first_problem(file, error, "flywheel control rules check")
    except ApplyFailed as error:
        fail(str(error))
    if as_json:
        print_json(applied)
        return
    said = "published" if applied.changed else "already is this text"
    click.echo(f"rules of {applied.project}: revision {applied.revision} {said}")


@rules.command()
@json_option
def default(as_json: bool) -> None:
    """Print the rules of a project that declares none: a beginning for your own."""
    text = default_rules_text()
    if as_json:
        print_json(parse_rules(text).model_dump())
    else:
        click.echo(text, nl=False)


def _names(tree: Tree) -> str:
    return ", ".join(f"{rule.name} ({rule.priority})" for rule in sorted(tree.rules, key=lambda rule: -rule.priority))
