"""``flywheel up``, ``down`` and ``status``."""

from __future__ import annotations

import dataclasses

import click

from flywheel.cli.output import Failure, RequirementMissing, console, json_option, print_json, table
from flywheel.local import runtime
from flywheel.local.errors import LocalError


@click.command()
@json_option
def up(as_json: bool) -> None:
    """Start Kafka, ClickHouse and the services here, in the background; returns when all are ready."""
    try:
        system = runtime.up(progress=None if as_json else click.echo)
    except LocalError as error:
        raise local_failure(error) from error
    _show(system, as_json)


@click.command()
@json_option
def down(as_json: bool) -> None:
    """Stop what `flywheel up` started. The data stays."""
    try:
        stopped = runtime.down()
    except LocalError as error:
        raise local_failure(error) from error
    if as_json:
        print_json([dataclasses.asdict(part) for part in stopped])
    elif stopped:
        for part in stopped:
            click.echo(f"{part.name} stopped" + ("" if part.clean else " (it had to be killed)"))
    else:
        click.echo("nothing was running")


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Say what is running and whether it is ready. Exit code 1 when something crashed or is not ready."""
    try:
        system = runtime.status()
    except LocalError as error:
        raise local_failure(error) from error
    _show(system, as_json)
    if system.running and not system.ready:
        raise SystemExit(1)


def local_failure(error: LocalError) -> Failure:
    """The error of the local runtime as the command ends with it: exit code 2 where Java or Maven is missing, else
    1."""
    return RequirementMissing(str(error)) if error.exit_code == 2 else Failure(str(error))


def _show(system: runtime.SystemStatus, as_json: bool) -> None:
    if as_json:
        parts = [dataclasses.asdict(part) for part in system.parts]
        print_json({"folder": system.folder, "ready": system.ready, "running": system.running, "parts": parts})
        return
    rows = [
        [
            part.name,
            part.state,
            part.pid,
            " ".join(f"{name}:{port}" for name, port in part.ports.items()),
            part.lag_records,
            None if part.rss_bytes is None else f"{part.rss_bytes / 2**20:.0f} MB",
            part.detail,
        ]
        for part in system.parts
    ]
    out = console()
    out.print(table(["part", "state", "pid", "ports", "lag", "memory", ""], rows))
    for part in system.parts:
        if part.log_tail:
            out.print(f"\n{part.name}, end of {part.log}:\n{part.log_tail}", markup=False)
