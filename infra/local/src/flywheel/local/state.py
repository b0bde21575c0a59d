"""What the runtime remembers of the processes it started: ``runtime.json`` in the folder of the system."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flywheel.local.errors import LocalError
from flywheel.local.processes import ProcessId

_FORMAT: Final = 1
_FILE: Final = "runtime.json"


@dataclass(frozen=True, slots=True)
class Started:
    """A part that was started: its process, the ports it listens on by name, and its log."""

    name: str
    process: ProcessId
    ports: Mapping[str, int]
    log: Path


def load(folder: Path) -> dict[str, Started]:
    """Every part that was started from ``folder``, by name, whether it still runs or not. Of what ran before the
    machine was last started nothing is left, so it is not told.

    Raises:
        LocalError: the file is not what this version writes.
    """
    path = folder / _FILE
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
        if found["format"] != _FORMAT:
            raise LocalError(f"{path} has format {found['format']}, known is {_FORMAT}: end its processes, remove it")
        if found["boot"] != _boot():
            return {}
        return {row["name"]: _started(row) for row in found["parts"]}
    except (ValueError, KeyError, TypeError) as error:
        raise LocalError(f"{path} cannot be read ({error}): end the processes it names, then remove it") from error


def save(folder: Path, parts: Mapping[str, Started]) -> None:
    """Replace the file, whole; it goes when there is nothing to remember."""
    path = folder / _FILE
    if not parts:
        path.unlink(missing_ok=True)
        return
    rows = [
        {
            "name": part.name,
            "pid": part.process.pid,
            "started": part.process.started,
            "ports": dict(part.ports),
            "log": str(part.log),
        }
        for part in parts.values()
    ]
    half = path.with_suffix(".half")
    half.write_text(json.dumps({"format": _FORMAT, "boot": _boot(), "parts": rows}, indent=1) + "\n")
    half.replace(path)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """One start or stop of a folder at a time, over all processes; the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "runtime.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _boot() -> str:
    """Which start of the machine this is, where Linux tells it: process ids and start times begin anew with each."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.is_file() else ""


def _started(row: Mapping[str, object]) -> Started:
    ports = row["ports"]
    if not isinstance(ports, dict):
        raise TypeError("ports: not an object")
    return Started(
        name=str(row["name"]),
        process=ProcessId(int(str(row["pid"])), float(str(row["started"]))),
        ports={str(name): int(port) for name, port in ports.items()},
        log=Path(str(row["log"])),
    )
