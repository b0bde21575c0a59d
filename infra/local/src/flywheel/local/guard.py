"""Ends child processes when the process that answers for them is gone, however it went (``kill -9`` included).

Run as ``python -m flywheel.local.guard PID STARTED``; each line ``PID STARTED`` on standard input names a process to
end. Not PR_SET_PDEATHSIG: that fires when the *thread* that started the child ends, and exists on Linux only.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path

import psutil

_POLL_S, _GRACE_S = 0.3, 3.0


def started_at(pid: int) -> float:
    """When a process started, in seconds: since boot where Linux tells it, so that setting the clock changes nothing.

    Raises:
        psutil.NoSuchProcess: there is none.
    """
    stat = Path(f"/proc/{pid}/stat")
    if not stat.parent.parent.joinpath("self", "stat").is_file():
        return psutil.Process(pid).create_time()
    try:
        # The program's name, in parentheses, may itself have spaces and parentheses.
        fields = stat.read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise psutil.NoSuchProcess(pid) from error
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def age_s(started: float) -> float:
    """Seconds since ``started``, by the clock of ``started_at``."""
    boot_clock = getattr(time, "CLOCK_BOOTTIME", None)
    return (time.time() if boot_clock is None else time.clock_gettime(boot_clock)) - started


def alive(pid: int, started: float) -> bool:
    """Whether process ``pid`` runs and is the one that started at ``started`` (a pid is used again)."""
    try:
        if started_at(pid) != started:
            return False
        # Of a killed process the first thread can be gone while others still hold its ports.
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
    except psutil.Error:
        return False


def end(targets: list[tuple[int, float]]) -> None:
    """SIGTERM to every target, SIGKILL to what is left after the grace period."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid, started in targets:
            if alive(pid, started):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        deadline = time.monotonic() + _GRACE_S
        while time.monotonic() < deadline and any(alive(*target) for target in targets):
            time.sleep(0.1)


def watch(pid: int, started: float) -> None:
    """Returns when the watched process is gone, after ending every target named on standard input."""
    named, open_input = bytearray(), True
    while True:
        # Looked at before the input is read: what a process wrote before it ended is then still taken into account.
        gone = not alive(pid, started)
        if open_input and select.select([sys.stdin.fileno()], [], [], 0 if gone else _POLL_S)[0]:
            chunk = os.read(sys.stdin.fileno(), 1 << 16)
            named += chunk
            open_input = bool(chunk)
        elif gone:
            break
        elif not open_input:
            time.sleep(_POLL_S)
    complete = named[: named.rfind(b"\n") + 1].decode()
    end([(int(line.split()[0]), float(line.split()[1])) for line in complete.splitlines()])


if __name__ == "__main__":
    # Ctrl-C in a terminal reaches every process of the group; the watched process decides what that means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch(int(sys.argv[1]), float(sys.argv[2]))
