"""``python -m flywheel_ingest``: serve until SIGTERM, then finish what is under way."""

from __future__ import annotations

from flywheel import observe
from flywheel.observe import command_line, configure_logging
from flywheel_ingest.price_file import PriceFileBroken
from flywheel_ingest.settings import IngestSettings
from flywheel_ingest.wiring import run


def main() -> None:
    """Read the settings and serve."""
    settings = command_line(IngestSettings, "Takes batches of calls, feedback and evaluations into Kafka.")
    configure_logging(settings.service, settings.log_level)
    try:
        observe.run(run(settings))
    except PriceFileBroken as broken:
        raise SystemExit(f"ingest: {broken}") from None


if __name__ == "__main__":
    main()
