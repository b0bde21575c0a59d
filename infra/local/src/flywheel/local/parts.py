"""The parts of the local system: what each is, its default ports, and the environment it is started with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

KAFKA: Final = "kafka"
_PREFIX: Final = "FLYWHEEL"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the system that runs as a process of its own.

    ``ports`` are its listeners and their default ports; the one named ``health`` answers ``/live``, ``/ready`` and
    ``/metrics``. ``folders`` are settings that name a folder, below the folder of the whole system; ``secrets`` are
    settings read from a file that the runtime makes at first use, the same for every part that names it.
    """

    name: str
    module: str
    ports: Mapping[str, int]
    health: str
    port_settings: Mapping[str, str]
    folders: Mapping[str, str]
    secrets: Mapping[str, str]

    def environment(self, root: Path, ports: Mapping[str, int]) -> dict[str, str]:
        """The settings that tell it where to listen, where its data is and in which files its secrets are."""
        listening = {variable: str(ports[name]) for name, variable in self.port_settings.items()}
        data = {variable: str(root / folder) for variable, folder in self.folders.items()}
        secrets = {f"{variable}_FILE": str(root / "secrets" / name) for variable, name in self.secrets.items()}
        return listening | data | secrets


def _service(
    name: str,
    *,
    health: str = "http",
    folders: Mapping[str, str] | None = None,
    secrets: tuple[str, ...] = (),
    **ports: int,
) -> Part:
    settings = {"http": f"{_PREFIX}_PORT", "grpc": f"{_PREFIX}_GRPC_PORT", "ops": f"{_PREFIX}_OPS_PORT"}
    own = {f"{_PREFIX}_STATE_DIR": f"state/{name}"} | dict(folders or {})
    return Part(
        name=name,
        module=f"flywheel_{name}",
        ports=MappingProxyType(ports),
        health=health,
        port_settings=MappingProxyType({port: settings[port] for port in ports}),
        folders=MappingProxyType(own),
        secrets=MappingProxyType({f"{_PREFIX}_{secret.upper()}": secret for secret in secrets}),
    )


REGISTRY: Final = Part(
    name="registry",
    module="flywheel.local.registry",
    ports=MappingProxyType({"http": 8086}),
    health="http",
    port_settings=MappingProxyType({"http": f"{_PREFIX}_PORT"}),
    folders=MappingProxyType({}),
    secrets=MappingProxyType({}),
)

SERVICES: Final = (
    _service("ingest", secrets=("user_hash_key",), http=8081),
    _service("router", secrets=("user_hash_key",), http=8082, grpc=8083),
    _service("bandit", health="ops", ops=8085),
    _service("budget", health="ops", ops=8087),
    _service("controller", health="ops", ops=8091),
    _service("detector", health="ops", ops=8092),
    _service("monitor", health="ops", http=8093, ops=8094),
    _service("notifier", health="ops", ops=8095),
    _service("recorder", health="ops", http=8123, ops=8124, folders={f"{_PREFIX}_CLICKHOUSE_PATH": "clickhouse"}),
)

# Kafka comes first and goes last; it is no Python module, so it is not in this list.
PARTS: Final[Mapping[str, Part]] = MappingProxyType({part.name: part for part in (REGISTRY, *SERVICES)})
