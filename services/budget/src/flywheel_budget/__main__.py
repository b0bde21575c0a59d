"""``python -m flywheel_budget``: count and grant until SIGTERM, then finish the batches in hand."""

from __future__ import annotations

from flywheel import observe
from flywheel.observe import command_line, configure_logging
from flywheel_budget.settings import BudgetSettings
from flywheel_budget.wiring import run


def main() -> None:
    """Read the settings and run both stages."""
    settings = command_line(BudgetSettings, "Counts what is spent, grants leases, tells where budgets stand.")
    configure_logging(settings.service, settings.log_level)
    observe.run(run(settings))


if __name__ == "__main__":
    main()
