"""``python -m flywheel_router``: serve until SIGTERM, then finish what is under way."""

from __future__ import annotations

import asyncio

from flywheel import observe
from flywheel.observe import command_line, configure_logging, stop_on_signals
from flywheel_router.settings import RouterSettings
from flywheel_router.wiring import run


def main() -> None:
    """Read the settings and serve."""
    settings = command_line(RouterSettings, "Decides which arm serves a request, over HTTP and gRPC.")
    configure_logging(settings.service, settings.log_level)
    observe.run(_serve(settings))


async def _serve(settings: RouterSettings) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    await run(settings, stop)


if __name__ == "__main__":
    main()
