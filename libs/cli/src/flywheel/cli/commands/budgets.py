"""``flywheel budget``."""

from __future__ import annotations

import click

from flywheel.cli.commands.budget_plan import plan


@click.group()
def budget() -> None:
    """Budgets: how much may be spent, by whom, in which window."""


budget.add_command(plan)
