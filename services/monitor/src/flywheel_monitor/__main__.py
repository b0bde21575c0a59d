"""``python -m flywheel_monitor``: watch service levels until SIGTERM."""

from __future__ import annotations

from flywheel import observe
from flywheel.observe import command_line, configure_logging
from flywheel_monitor.settings import MonitorSettings
from flywheel_monitor.wiring import run


def main() -> None:
    """Read the settings and run the Faust app beside the pages."""
    settings = command_line(MonitorSettings, "Live service levels, error budgets and burn-rate alerts.")
    configure_logging(settings.service, settings.log_level)
    observe.run(run(settings))


if __name__ == "__main__":
    main()
