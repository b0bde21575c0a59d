"""``python -m flywheel_recorder``: record until SIGTERM, then finish the batch in hand."""

from __future__ import annotations

from flywheel import observe
from flywheel.observe import command_line, configure_logging
from flywheel_recorder.settings import RecorderSettings
from flywheel_recorder.wiring import run


def main() -> None:
    """Read the settings and record."""
    settings = command_line(RecorderSettings, "Records every topic into ClickHouse and answers SQL over it.")
    configure_logging(settings.service, settings.log_level)
    observe.run(run(settings))


if __name__ == "__main__":
    main()
