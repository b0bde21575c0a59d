"""``python -m flywheel_bandit``: join and learn until SIGTERM, then finish the batches in hand."""

from __future__ import annotations

from flywheel import observe
from flywheel.observe import command_line, configure_logging
from flywheel_bandit.settings import BanditSettings
from flywheel_bandit.wiring import run


def main() -> None:
    """Read the settings and run both stages."""
    settings = command_line(BanditSettings, "Joins facts into outcomes and learns policies from them.")
    configure_logging(settings.service, settings.log_level)
    observe.run(run(settings))


if __name__ == "__main__":
    main()
