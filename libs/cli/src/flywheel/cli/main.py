"""The ``flywheel`` command: thin; what it does is in the libraries."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

COMMANDS: Final = {
    "up": "running",
    "down": "running",
    "status": "running",
    "demo": "demo",
    "replay": "replaying",
    "rebuild": "rebuild",
    "price": "price",
    "reprice": "reprice",
    "showback": "showback",
    "redact": "redact",
    "detect": "detect",
    "whatif": "whatif",
    "route-bench": "route_bench",
    "cascade": "cascade",
    "sql": "asking",
    "topics": "topics",
    "tail": "topics",
    "dlq": "letters",
    "policy": "policies",
    "frontier": "frontier",
    "charter": "charters",
    "budget": "budgets",
    "control": "controls",
    "alerts": "alerts",
    "incident": "incident",
    "changes": "changes",
    "rollback": "changes",
    "config": "configuring",
}
"""Each command and its module; loaded when it is used, as some need numerics and Kafka and others nothing."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found = getattr(import_module(f"flywheel.cli.commands.{COMMANDS[cmd_name]}"), cmd_name.replace("-", "_"))
        assert isinstance(found, click.Command)
        return found


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="flywheel-cli", prog_name="flywheel")
def cli() -> None:
    """Flywheel turns the stream of your LLM calls into better decisions about the next one."""


def main() -> None:
    """The entry point: exit code 0 for success, 1 for failure, 2 for a command line that makes no sense."""
    cli(prog_name="flywheel")
