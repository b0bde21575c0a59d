"""``python -m flywheel_controller``: act by the declared rules until SIGTERM."""

from __future__ import annotations

from flywheel import observe
from flywheel.observe import command_line, configure_logging
from flywheel_controller.settings import ControllerSettings
from flywheel_controller.wiring import run


def main() -> None:
    """Read the settings and run both stages."""
    settings = command_line(ControllerSettings, "Acts on alerts by declared rules, verifies, takes back.")
    configure_logging(settings.service, settings.log_level)
    observe.run(run(settings))


if __name__ == "__main__":
    main()
