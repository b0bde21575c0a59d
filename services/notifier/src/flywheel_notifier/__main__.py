"""``python -m flywheel_notifier``: send alerts until SIGTERM."""

from __future__ import annotations

import os
import sys

from flywheel import observe
from flywheel.observe import SettingsInvalid, command_line, configure_logging
from flywheel_notifier.settings import NotifierSettings
from flywheel_notifier.wiring import load_destinations, run


def main() -> None:
    """Read the settings and send."""
    settings = command_line(NotifierSettings, "Sends alerts to webhooks, Slack and Alertmanager.")
    try:
        destinations = load_destinations(settings.destinations_file, os.environ)
    except SettingsInvalid as error:
        sys.stderr.write(f"python -m flywheel_notifier: {error}\n")
        sys.exit(2)
    configure_logging(settings.service, settings.log_level)
    observe.run(run(settings, destinations))


if __name__ == "__main__":
    main()
