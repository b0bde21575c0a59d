"""Child processes: started apart from the terminal, watched by a guard, ended by pid and start time, never by name."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from flywheel.local.guard import age_s, alive, started_at

_TAIL_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process by pid and start time (``guard.started_at``), so that a pid used again is never mistaken for it."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """The process that has this pid now. Raises ``psutil.NoSuchProcess``."""
        return cls(pid, started_at(pid))

    def alive(self) -> bool:
        """Whether it still runs."""
        return alive(self.pid, self.started)

    def rss_bytes(self) -> int | None:
        """Resident memory; None when it is gone."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss) if self.alive() else None
        except psutil.Error:
            return None

    def age_s(self) -> float:
        """Seconds since it started."""
        return max(0.0, age_s(self.started))

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait_gone(self, timeout_s: float) -> bool:
        """Whether it was gone within the time."""
        deadline = time.monotonic() + timeout_s
        while self.alive():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        return True


def end(process: ProcessId, *, deadline_s: float) -> bool:
    """SIGTERM, then SIGKILL after the deadline. Returns whether it ended by itself, in time."""
    process.send(signal.SIGTERM)
    if process.wait_gone(deadline_s):
        return True
    process.send(signal.SIGKILL)
    process.wait_gone(10.0)
    return False


def spawn(
    command: Sequence[str], *, log: Path, cwd: Path | None = None, environ: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own (a Ctrl-C in the terminal is ours to pass on), its output appended to
    ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=None if environ is None else dict(environ),
            start_new_session=True,
        )


def rotate(log: Path, above_bytes: int = 16 << 20) -> None:
    """Put a log that has grown large aside, as ``<name>.1``, in place of the one before; call before its process
    starts."""
    if log.is_file() and log.stat().st_size > above_bytes:
        log.replace(log.with_name(f"{log.name}.1"))


def tail(path: Path, lines: int = 20, since: int = 0) -> str:
    """The last lines of a text file, of what was written after byte ``since``; empty when there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as source:
        size = source.seek(0, os.SEEK_END)
        source.seek(max(since, size - _TAIL_BYTES))
        text = source.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:])


class Guard:
    """A small process that ends what was named to it once ``owner`` is gone. Started at the first name."""

    def __init__(self, owner: ProcessId | None = None) -> None:
        self._owner = owner or ProcessId.of(os.getpid())
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(
        self, command: Sequence[str], *, log: Path, cwd: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """``spawn`` a process that is covered; it does not stay when it can't be."""
        child = spawn(command, log=log, cwd=cwd, environ=environ)
        try:
            self.cover(ProcessId.of(child.pid))
        except BaseException:
            child.kill()
            child.wait()
            raise
        return child

    def cover(self, target: ProcessId) -> None:
        """End ``target`` when the owner is gone."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flywheel.local.guard", str(self._owner.pid), repr(self._owner.started)],
                stdin=subprocess.PIPE,
                # Not ours: a pipe that reads our output would stay open until the guard ends.
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        self._process.stdin.write(f"{target.pid} {target.started!r}\n".encode())
        self._process.stdin.flush()

    def close(self) -> None:
        """End the guard itself; its targets are no longer covered."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.kill()
            self._process.wait()
            self._process = None


class Detached(Guard):
    """Covers nothing: what was started goes on running when its program ends."""

    def cover(self, target: ProcessId) -> None:
        """Nothing."""
