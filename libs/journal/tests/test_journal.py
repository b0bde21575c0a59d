"""The journal as its callers see it: append, read, acknowledge, crash, open again."""

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.journal import Journal, JournalError, JournalFull, JournalLocked, frame, open_slot, orphans


def payloads(journal: Journal) -> list[bytes]:
    return [entry.payload for entry in journal.read(limit=10_000, limit_bytes=1 << 30)]


def test_records_are_read_in_order_and_forgotten_when_acknowledged(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        assert [journal.append(word) for word in (b"a", b"b", b"c")] == [1, 2, 3]
        assert [(entry.sequence, entry.payload) for entry in journal.read(limit=2)] == [(1, b"a"), (2, b"b")]
        assert payloads(journal) == [b"c"]
        journal.acknowledge(2)
        journal.acknowledge(1)  # going back changes nothing
        journal.rewind()
        assert payloads(journal) == [b"c"]
    with Journal(tmp_path) as again:
        assert again.recovery.records == 1
        assert payloads(again) == [b"c"]
        assert again.append(b"d") == 4


def test_a_sequence_that_was_never_written_cannot_be_acknowledged(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append(b"a")
        with pytest.raises(ValueError, match="sequence 2 was never written"):
            journal.acknowledge(2)


def test_sequences_go_on_after_everything_was_acknowledged_and_deleted(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append(b"a")
        journal.acknowledge(1)
    assert list(tmp_path.glob("*.journal")) == []
    with Journal(tmp_path) as journal:
        assert journal.append(b"b") == 2


def test_at_the_bound_the_newest_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    with Journal(tmp_path, max_bytes=400, segment_bytes=100) as journal:
        kept = 0
        with pytest.raises(JournalFull, match="of 400 bytes"):
            while True:
                journal.append(bytes([kept]) * 20)
                kept += 1
        assert not journal.fits(20)
        assert journal.size_bytes <= 400
        read = payloads(journal)
        assert read == [bytes([number]) * 20 for number in range(kept)]
        journal.acknowledge(kept)
        assert journal.fits(20)
        journal.append(b"room again")
        assert payloads(journal) == [b"room again"]


def test_sizes_that_cannot_work_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least twice"):
        Journal(tmp_path, max_bytes=100, segment_bytes=80)


def test_a_record_larger_than_the_read_limit_is_still_read(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append(b"x" * 1_000_000)
        journal.append(b"y")
        assert [len(entry.payload) for entry in journal.read(limit=10, limit_bytes=100)] == [1_000_000]
        assert payloads(journal) == [b"y"]


def test_two_processes_cannot_have_the_same_journal(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(JournalLocked):
        Journal(tmp_path)


def test_slots_are_shared_out_and_what_a_dead_process_left_is_found(tmp_path: Path) -> None:
    first, second = open_slot(tmp_path), open_slot(tmp_path)
    assert [first.directory.name, second.directory.name] == ["0", "1"]
    second.append(b"left behind")
    second.close()
    found = orphans(tmp_path)
    assert [payloads(journal) for journal in found] == [[b"left behind"]]
    found[0].acknowledge(1)
    found[0].close()
    assert orphans(tmp_path) == []
    first.close()


def test_a_closed_journal_refuses(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.append(b"late")


def test_a_full_disk_refuses_and_leaves_whole_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path) as journal:
        journal.append(b"before")
        write = os.write

        def full(fd: int, data: bytes) -> int:
            write(fd, data[:5])
            raise OSError(errno.ENOSPC, "no space")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(JournalFull, match="no space"):
            journal.append(b"does not fit")
        monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
        with pytest.raises(JournalFull, match="no space"):
            journal.append(b"half")
        monkeypatch.undo()
        journal.append(b"after")
    with Journal(tmp_path) as journal:
        assert journal.recovery.torn_bytes == 0
        assert payloads(journal) == [b"before", b"after"]


def test_an_unknown_acknowledged_position_means_read_again_never_skip(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append(b"a")
        journal.append(b"b")
        journal.acknowledge(1)
    (tmp_path / "acknowledged").write_bytes(b"garbage12345")
    with Journal(tmp_path) as journal:
        assert payloads(journal) == [b"a", b"b"]


def test_a_damaged_middle_segment_loses_only_what_follows_in_it(tmp_path: Path) -> None:
    with Journal(tmp_path, max_bytes=1000, segment_bytes=30) as journal:
        for word in (b"one.......", b"two.......", b"three.....", b"four......"):
            journal.append(word)
    segments = sorted(tmp_path.glob("*.journal"))
    assert len(segments) == 2
    data = bytearray(segments[0].read_bytes())
    data[-1] ^= 1
    segments[0].write_bytes(data)
    with Journal(tmp_path) as journal:
        assert journal.recovery.torn_bytes == len(frame(b"two......."))
        assert payloads(journal) == [b"one.......", b"three.....", b"four......"]


def test_damage_while_open_is_an_error_not_a_silent_stop(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append(b"fine")
        next(iter(tmp_path.glob("*.journal"))).write_bytes(b"\x00" * 12)
        with pytest.raises(JournalError, match=r"record 1 .* is now damaged"):
            journal.read(limit=1)


def test_threads_share_one_journal(tmp_path: Path) -> None:
    with Journal(tmp_path, max_bytes=1 << 20, segment_bytes=1 << 10) as journal:

        def work(name: int) -> None:
            for number in range(200):
                journal.append(f"{name}:{number}".encode())

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        journal.sync()
        read = payloads(journal)
    assert sorted(read) == sorted(f"{name}:{number}".encode() for name in range(4) for number in range(200))
    for name in range(4):
        mine = [record for record in read if record.startswith(f"{name}:".encode())]
        assert mine == [f"{name}:{number}".encode() for number in range(200)]


@settings(max_examples=60, deadline=None)
@given(records=st.lists(st.binary(max_size=40), min_size=1, max_size=20), data=st.data())
def test_any_truncation_of_the_last_segment_recovers_exactly_the_whole_records(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("torn")
    with Journal(directory, max_bytes=10_000, segment_bytes=150) as journal:
        for record in records:
            journal.append(record)
    last = max(directory.glob("*.journal"))
    before = int(last.stem) - 1
    whole = last.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    last.write_bytes(whole[:cut])
    survivors, end = before, 0
    for record in records[before:]:
        end += len(frame(record))
        if end > cut:
            break
        survivors += 1
    with Journal(directory, max_bytes=10_000, segment_bytes=150) as journal:
        assert payloads(journal) == records[:survivors]
        assert journal.append(b"next") == survivors + 1
    with Journal(directory, max_bytes=10_000, segment_bytes=150) as journal:
        assert payloads(journal) == [*records[:survivors], b"next"]
