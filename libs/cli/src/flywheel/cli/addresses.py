"""Where the running system listens: the environment first, then what the local runtime wrote down, then the default
ports."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from flywheel.cli.output import fail
from flywheel.local import runtime
from flywheel.local.errors import LocalError

VARIABLES: Final = {
    "kafka": "FLYWHEEL_KAFKA_BOOTSTRAP",
    "ingest": "FLYWHEEL_INGEST_URL",
    "router": "FLYWHEEL_ROUTER_URL",
    "clickhouse": "FLYWHEEL_CLICKHOUSE_URL",
}
DEFAULTS: Final = {
    "kafka": "127.0.0.1:9092",
    "ingest": "http://127.0.0.1:8081",
    "router": "http://127.0.0.1:8082",
    "clickhouse": "http://127.0.0.1:8123",
}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Kafka as host:port, the rest as URLs."""

    kafka: str
    ingest: str
    router: str
    clickhouse: str


def choose_addresses(recorded: Mapping[str, str], environ: Mapping[str, str]) -> Addresses:
    """The addresses in force; ``recorded`` is what the local runtime says of itself."""
    chosen = {
        name: environ.get(variable) or recorded.get(name) or DEFAULTS[name] for name, variable in VARIABLES.items()
    }
    return Addresses(**{name: url.rstrip("/") for name, url in chosen.items()})


def current_addresses() -> Addresses:
    """The addresses of the system that runs now, as this process can know them."""
    try:
        return choose_addresses(runtime.addresses(), os.environ)
    except LocalError as error:
        fail(str(error))
