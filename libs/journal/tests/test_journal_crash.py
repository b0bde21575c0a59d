"""Real processes: killed with -9 while they write, and forked while they hold a journal."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flywheel.journal import Journal, JournalLocked

WRITER = """
import sys
from pathlib import Path
from flywheel.journal import Journal
journal = Journal(Path(sys.argv[1]), max_bytes=64 << 20, segment_bytes=4096)
number = journal.waiting
out = sys.stdout.buffer
while True:
    number += 1
    sequence = journal.append(b"%d:" % number + b"x" * (number % 97))
    out.write(b"%d\\n" % sequence)
    out.flush()
"""


@pytest.mark.parametrize("after_ms", [5, 40, 150])
def test_every_answered_record_survives_kill_9(tmp_path: Path, after_ms: int) -> None:
    answered = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(after_ms / 1000)
        process.send_signal(signal.SIGKILL)
        lines = (first + process.stdout.read()).split(b"\n")
        process.wait()
        process.stdout.close()
        answered = max(int(line) for line in lines[:-1])  # the last may be cut
        with Journal(tmp_path, max_bytes=64 << 20) as journal:
            entries = journal.read(limit=10_000_000, limit_bytes=1 << 30)
            assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
            assert all(entry.payload == b"%d:" % entry.sequence + b"x" * (entry.sequence % 97) for entry in entries)
            assert len(entries) >= answered


def test_a_forked_child_lets_go_without_hurting_its_parent(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(b"parent")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            journal.abandon()
            Journal(tmp_path)
        except JournalLocked:
            code = 0  # the parent still has it
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    journal.append(b"still here")
    assert [entry.payload for entry in journal.read(limit=10)] == [b"parent", b"still here"]
    journal.close()
