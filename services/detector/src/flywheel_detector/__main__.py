"""``python -m flywheel_detector``: notice what changed until SIGTERM."""

from __future__ import annotations

from flywheel import observe
from flywheel.observe import command_line, configure_logging
from flywheel_detector.settings import DetectorSettings
from flywheel_detector.wiring import run


def main() -> None:
    """Read the settings and run both stages."""
    settings = command_line(DetectorSettings, "Notices what changed in calls and scores, and says so on alerts.")
    configure_logging(settings.service, settings.log_level)
    observe.run(run(settings))


if __name__ == "__main__":
    main()
