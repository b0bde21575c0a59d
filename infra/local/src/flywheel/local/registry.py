"""Serves the Schema Registry's REST read API over the schemas pinned in this repository: ``python -m
flywheel.local.registry``."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from pydantic import Field

from flywheel.events import LocalRegistry
from flywheel.events.rest import registry_app
from flywheel.observe import Health, Metrics, ServiceSettings, command_line, configure_logging, operations_routes, serve


class RegistrySettings(ServiceSettings):
    """The registry has no settings of its own but its port."""

    service: ClassVar[str] = "registry"

    port: int = Field(8086, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")


def main() -> None:
    """Serve until SIGTERM."""
    settings = command_line(RegistrySettings, "Serves the pinned schemas to Confluent-compatible clients, read-only.")
    configure_logging("registry", settings.log_level)
    health = Health()
    app = registry_app(LocalRegistry.load())
    app.router.routes.extend(operations_routes(health, Metrics()))
    health.set_ready("schemas", True)
    asyncio.run(serve(app, settings.host, settings.port))


if __name__ == "__main__":
    main()
