"""Any order of calls, held against the simplest thing that could be right: a list and two numbers."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flywheel.journal import Journal, JournalFull, frame

MAX_BYTES, SEGMENT_BYTES, LARGEST = 600, 100, 50


class JournalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.written: list[bytes] = []
        self.acknowledged = self.cursor = 0
        self.journal = Journal(self.directory, max_bytes=MAX_BYTES, segment_bytes=SEGMENT_BYTES)

    @rule(payload=st.binary(max_size=LARGEST))
    def append(self, payload: bytes) -> None:
        if self.journal.fits(len(payload)):
            self.written.append(payload)
            assert self.journal.append(payload) == len(self.written)
            return
        with pytest.raises(JournalFull):
            self.journal.append(payload)
        waiting = sum(len(frame(record)) for record in self.written[self.acknowledged :])
        assert waiting + len(frame(payload)) > MAX_BYTES - SEGMENT_BYTES - len(frame(bytes(LARGEST)))

    @rule(limit=st.integers(1, 5), limit_bytes=st.integers(1, 200))
    def read(self, limit: int, limit_bytes: int) -> None:
        got = self.journal.read(limit=limit, limit_bytes=limit_bytes)
        expected = self.written[self.cursor : self.cursor + len(got)]
        assert [(entry.sequence, entry.payload) for entry in got] == list(enumerate(expected, self.cursor + 1))
        assert got or self.cursor == len(self.written)
        self.cursor += len(got)

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        sequence = data.draw(st.integers(0, len(self.written)))
        self.journal.acknowledge(sequence)
        self.acknowledged = max(self.acknowledged, sequence)
        self.cursor = max(self.cursor, self.acknowledged)

    @rule()
    def rewind(self) -> None:
        self.journal.rewind()
        self.cursor = self.acknowledged

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.journal = Journal(self.directory, max_bytes=MAX_BYTES, segment_bytes=SEGMENT_BYTES)
        self.cursor = self.acknowledged

    @invariant()
    def counts_agree(self) -> None:
        assert self.journal.waiting == len(self.written) - self.acknowledged
        assert self.journal.unread == len(self.written) - self.cursor
        on_disk = sum(path.stat().st_size for path in self.directory.glob("*.journal"))
        assert self.journal.size_bytes == on_disk <= MAX_BYTES

    def teardown(self) -> None:
        self.journal.close()
        shutil.rmtree(self.directory)


JournalMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestJournalAgainstAList = JournalMachine.TestCase
