"""An append-only file that outlives kill -9: framed, bounded, trimmed as it is acknowledged."""

from flywheel.journal.framing import frame, unframe
from flywheel.journal.journal import (
    Entry,
    Journal,
    JournalError,
    JournalFull,
    JournalLocked,
    Recovery,
)
from flywheel.journal.slots import open_slot, orphans

__all__ = [
    "Entry",
    "Journal",
    "JournalError",
    "JournalFull",
    "JournalLocked",
    "Recovery",
    "frame",
    "open_slot",
    "orphans",
    "unframe",
]
