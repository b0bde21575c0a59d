"""``flywheel config``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Final

import click
import orjson

from flywheel.cli.output import console, fail, json_option, print_json, table

SERVICES: Final = ("ingest", "router", "bandit", "budget", "recorder")


@click.command()
@click.argument("service", type=click.Choice(SERVICES), required=False)
@json_option
def config(service: str | None, as_json: bool) -> None:
    """Print every setting of each service (or of one) with its source; secrets are masked."""
    found = {name: settings_of(name) for name in ([service] if service else SERVICES)}
    if as_json:
        print_json(found)
        return
    rows = [
        [name, row["variable"], row["value"], row["source"], row["description"]]
        for name, settings in found.items()
        for row in settings.values()
    ]
    console().print(table(["service", "variable", "value", "source", "what it is"], rows))


def settings_of(service: str, environ: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Every setting of a service by name, with value and source; ``environ`` replaces this process's environment.

    Asks the service itself, as its own process: the command imports no service. Ends the command when it cannot say.
    """
    command = [sys.executable, "-m", f"flywheel_{service}", "--print-config"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)
    if ended.returncode != 0:
        lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        fail(f"{service}: {lines[-1]}")
    settings: dict[str, dict[str, Any]] = orjson.loads(ended.stdout)
    return settings
