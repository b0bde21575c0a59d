"""How the system is and where it listens, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from flywheel.local.parts import KAFKA, PARTS
from flywheel.local.ports import LOOPBACK
from flywheel.local.probes import Report, ask_kafka, ask_service
from flywheel.local.processes import tail
from flywheel.local.state import Started


@dataclass(frozen=True, slots=True)
class PartStatus:
    """How one part is. ``state`` is ``ready``, ``starting`` (alive, not ready), ``crashed`` (ended by itself) or
    ``stopped``; ``lag_records`` counts what it has not yet handled; None is unknown."""

    name: str
    state: str
    pid: int | None = None
    ports: Mapping[str, int] = field(default_factory=dict)
    live: bool | None = None
    ready: bool | None = None
    detail: str = ""
    lag_records: int | None = None
    rss_bytes: int | None = None
    uptime_s: float | None = None
    log: Path | None = None
    log_tail: str = ""


@dataclass(frozen=True, slots=True)
class SystemStatus:
    """How every part is, in the order in which they start. ``log_tail`` is filled for a part that crashed."""

    folder: Path
    parts: tuple[PartStatus, ...]

    @property
    def ready(self) -> bool:
        """Whether every part is ready."""
        return all(part.state == "ready" for part in self.parts)

    @property
    def running(self) -> bool:
        """Whether any part runs."""
        return any(part.pid is not None for part in self.parts)


@dataclass(frozen=True, slots=True)
class Stopped:
    """A part that ``down`` ended; ``clean`` is false when it had to be killed after the deadline."""

    name: str
    pid: int
    clean: bool


def system_status(folder: Path, started: Mapping[str, Started], names: Iterable[str]) -> SystemStatus:
    """Ask each named part that was started how it is."""
    parts = [_part_status(started[name]) if name in started else PartStatus(name, "stopped") for name in names]
    return SystemStatus(folder, tuple(parts))


def _part_status(part: Started) -> PartStatus:
    known = PartStatus(part.name, "crashed", ports=part.ports, log=part.log)
    if not part.process.alive():
        return replace(known, detail="ended by itself", log_tail=tail(part.log))
    report = _ask(part)
    return replace(
        known,
        state="ready" if report.ready else "starting",
        pid=part.process.pid,
        live=report.live,
        ready=report.ready,
        detail=report.detail,
        lag_records=report.lag_records,
        rss_bytes=part.process.rss_bytes(),
        uptime_s=part.process.age_s(),
    )


def _ask(part: Started) -> Report:
    if part.name == KAFKA:
        return ask_kafka(part.ports["kafka"])
    return ask_service(part.ports[PARTS[part.name].health])


def addresses_of(started: Mapping[str, Started]) -> dict[str, str]:
    """Where the parts listen; a part that was not started is absent."""
    places = {
        "kafka": (KAFKA, "kafka", ""),
        "ingest": ("ingest", "http", "http://"),
        "router": ("router", "http", "http://"),
        "router_grpc": ("router", "grpc", ""),
        "clickhouse": ("recorder", "http", "http://"),
        "registry": ("registry", "http", "http://"),
    }
    return {
        name: f"{scheme}{LOOPBACK}:{started[part].ports[port]}"
        for name, (part, port, scheme) in places.items()
        if part in started
    }
