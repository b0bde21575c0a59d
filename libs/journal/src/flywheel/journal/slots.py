"""One folder of journals, shared by processes that come and go."""

from __future__ import annotations

import contextlib
from pathlib import Path

from flywheel.journal.journal import SUFFIX, Journal, JournalLocked


def open_slot(parent: Path, *, max_bytes: int = 256 << 20, segment_bytes: int = 8 << 20) -> Journal:
    """Open the first journal below ``parent`` that no living process has: ``parent/0``, ``parent/1`` and so on.

    So several processes share one folder without a name of their own, and what a dead one left is taken over by the
    next that starts.
    """
    slot = 0
    while True:
        with contextlib.suppress(JournalLocked):
            return Journal(parent / str(slot), max_bytes=max_bytes, segment_bytes=segment_bytes)
        slot += 1


def orphans(parent: Path, *, max_bytes: int = 256 << 20, segment_bytes: int = 8 << 20) -> list[Journal]:
    """Open every other journal below ``parent`` that no living process has and in which records wait."""
    found: list[Journal] = []
    for directory in sorted(path for path in parent.glob("*") if path.name.isdigit() and any(path.glob(f"*{SUFFIX}"))):
        with contextlib.suppress(JournalLocked):
            journal = Journal(directory, max_bytes=max_bytes, segment_bytes=segment_bytes)
            if journal.waiting:
                found.append(journal)
            else:
                journal.close()
    return found
