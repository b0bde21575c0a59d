"""The ``flywheel`` command: thin; what it does is in the libraries."""

from __future__ import annotations

import click

from flywheel.cli.commands.asking import sql
from flywheel.cli.commands.charters import charter
from flywheel.cli.commands.configuring import config
from flywheel.cli.commands.demo import demo
from flywheel.cli.commands.policies import policy
from flywheel.cli.commands.replaying import replay
from flywheel.cli.commands.running import down, status, up
from flywheel.cli.commands.topics import tail, topics


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="flywheel-cli", prog_name="flywheel")
def cli() -> None:
    """Flywheel turns the stream of your LLM calls into better decisions about the next one."""


for command in (up, down, status, demo, replay, sql, topics, tail, policy, charter, config):
    cli.add_command(command)


def main() -> None:
    """The entry point: exit code 0 for success, 1 for failure, 2 for a command line that makes no sense."""
    cli(prog_name="flywheel")
