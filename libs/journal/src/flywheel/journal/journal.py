"""The journal: segments of framed records, an acknowledged position, a bound."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from zlib import crc32

from flywheel.journal.framing import FRAME_OVERHEAD_BYTES, frame, unframe

SUFFIX = ".journal"
_ACKNOWLEDGED = "acknowledged"
_LOCK = "lock"
_READ_BYTES = 256 * 1024


class JournalError(Exception):
    """Anything the journal refuses to do."""


class JournalFull(JournalError):
    """Nothing was written: the bound, or the disk, is reached. What was accepted before is untouched."""


class JournalLocked(JournalError):
    """Another process has this directory open."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record and its place: sequences count up by one from 1 and are never used twice."""

    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found on opening."""

    records: int
    """Records that were not acknowledged and can be read."""
    torn_bytes: int
    """Bytes after the last whole record of a segment: a write cut short by a crash, or damage."""


@dataclass(slots=True)
class _Segment:
    path: Path
    first: int
    records: int
    size_bytes: int
    torn_bytes: int = 0

    @property
    def next(self) -> int:
        return self.first + self.records


class Journal:
    """An append-only file that outlives its process.

    ``append`` hands the record to the operating system before it returns, so that a process killed with -9 loses
    nothing that was appended; ``sync`` also survives a power cut. Records are read back in order with ``read`` and
    forgotten with ``acknowledge``; whole segments are deleted once all their records are acknowledged. A record may be
    read again after a crash, never skipped: readers must be idempotent.

    **Bound.** The files hold at most ``max_bytes``. At the bound ``append`` raises ``JournalFull`` and writes nothing:
    the newest record is refused, the oldest are kept, and the caller says what that means. As only whole segments are
    deleted, at least ``max_bytes - segment_bytes`` (less one record) are free for records that wait.

    One process at a time (``JournalLocked`` otherwise); threads may share it. POSIX only.
    """

    def __init__(self, directory: Path, *, max_bytes: int = 256 << 20, segment_bytes: int = 8 << 20) -> None:
        """Open or create the journal in ``directory``.

        Raises:
            ValueError: the sizes do not fit each other.
            JournalLocked: another process, or another object of this one, has it open.
        """
        if segment_bytes <= 0 or max_bytes < 2 * segment_bytes:
            raise ValueError(
                f"max_bytes ({max_bytes}) must be at least twice segment_bytes ({segment_bytes}), both positive"
            )
        self._directory = directory
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._mutex = threading.Lock()
        directory.mkdir(parents=True, exist_ok=True)
        self._lock_fd = _lock(directory / _LOCK)
        self._acknowledged_fd = os.open(directory / _ACKNOWLEDGED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._acknowledged = _read_position(self._acknowledged_fd)
        self._segments = [_scan(path) for path in sorted(directory.glob(f"*{SUFFIX}"))]
        self._next = max([self._acknowledged + 1, *(segment.next for segment in self._segments)])
        self._size_bytes = sum(segment.size_bytes + segment.torn_bytes for segment in self._segments)
        self._active_fd: int | None = None
        self._reader_fd: tuple[Path, int] | None = None
        self._cursor = (self._acknowledged + 1, 0)  # sequence of the next record to read, its offset if known
        self._closed = False
        self._trim()
        self.recovery = Recovery(
            records=self.waiting,
            torn_bytes=sum(segment.torn_bytes for segment in self._segments),
        )

    # -- writing ------------------------------------------------------------------------------------------------------

    def append(self, payload: bytes) -> int:
        """Write one record and return its sequence.

        Raises:
            JournalFull: the bound or the disk is reached; nothing was written.
            JournalError: the journal is closed.
        """
        data = frame(payload)
        with self._mutex:
            if self._size_bytes + len(data) > self._max_bytes:
                raise JournalFull(
                    f"the journal holds {self._size_bytes} of {self._max_bytes} bytes; {len(data)} more do not fit"
                )
            fd = self._writable()
            segment = self._segments[-1]
            self._write(fd, data, segment.size_bytes)
            segment.records += 1
            segment.size_bytes += len(data)
            self._size_bytes += len(data)
            self._next += 1
            return self._next - 1

    def fits(self, payload_bytes: int) -> bool:
        """Say whether a record of that size would be accepted now, as far as the bound goes."""
        return self._size_bytes + payload_bytes + FRAME_OVERHEAD_BYTES <= self._max_bytes

    def sync(self) -> None:
        """Wait until what was appended is on the disk itself."""
        with self._mutex:
            if self._active_fd is not None:
                os.fsync(self._active_fd)

    def _writable(self) -> int:
        if self._closed:
            raise JournalError("the journal is closed")
        if self._active_fd is not None and self._segments[-1].size_bytes < self._segment_bytes:
            return self._active_fd
        if self._active_fd is not None:
            os.close(self._active_fd)
            self._active_fd = None
        # A segment found on opening is never appended to: its tail may be torn.
        path = self._directory / f"{self._next:020d}{SUFFIX}"
        if self._segments and self._segments[-1].path == path:  # one that was created and never got a whole record
            self._size_bytes -= self._segments.pop().torn_bytes
        self._active_fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._segments.append(_Segment(path, self._next, 0, 0))
        self._trim()
        return self._active_fd

    @staticmethod
    def _write(fd: int, data: bytes, size_before: int) -> None:
        """Write all of ``data`` or leave the file as it was."""
        try:
            if os.write(fd, data) == len(data):
                return
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
        os.ftruncate(fd, size_before)
        os.lseek(fd, size_before, os.SEEK_SET)
        raise JournalFull("no space left on the device")

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, *, limit: int, limit_bytes: int = 1 << 20) -> Sequence[Entry]:
        """Return the next records in order and move the cursor past them; empty when there are none yet.

        At most ``limit`` records, and about ``limit_bytes`` of payload but at least one record. On opening, and after
        ``rewind``, the cursor stands at the oldest record that is not acknowledged.

        Raises:
            JournalError: a record that was whole when it was written, or when the journal was opened, no longer is.
        """
        entries: list[Entry] = []
        with self._mutex:
            size = 0
            while len(entries) < limit and size < limit_bytes:
                found = self._read_chunk(limit - len(entries), limit_bytes - size)
                if not found:
                    break
                entries += found
                size += sum(len(entry.payload) for entry in found)
        return entries

    def rewind(self) -> None:
        """Move the cursor back to the oldest record that is not acknowledged."""
        with self._mutex:
            self._cursor = (self._acknowledged + 1, 0)

    def _read_chunk(self, limit: int, limit_bytes: int) -> list[Entry]:
        wanted, offset = self._cursor
        segment = next((each for each in self._segments if each.next > wanted), None)
        if segment is None:
            return []
        if wanted <= segment.first:  # the next segment; damaged records between the two are passed over
            wanted, offset = segment.first, 0
        elif offset == 0:
            offset = self._offset_of(segment, wanted)
        buffer = self._pread(segment, offset, min(limit_bytes, _READ_BYTES))
        entries: list[Entry] = []
        reached = 0
        for payload, end in unframe(buffer):
            entries.append(Entry(wanted + len(entries), payload))
            reached = end
            if len(entries) == limit:
                break
        if not entries:
            raise JournalError(f"record {wanted} in {segment.path} was whole and is now damaged")
        self._cursor = (wanted + len(entries), offset + reached)
        return entries

    def _pread(self, segment: _Segment, offset: int, wish_bytes: int) -> bytes:
        """Read whole records from ``offset``, at least one even where it is larger than ``wish_bytes``."""
        fd = self._readable(segment.path)
        left = segment.size_bytes - offset
        buffer = os.pread(fd, min(wish_bytes + FRAME_OVERHEAD_BYTES, left), offset)
        if len(buffer) < left:
            first = FRAME_OVERHEAD_BYTES + int.from_bytes(buffer[:4], "little")
            if len(buffer) < first:
                buffer = os.pread(fd, first, offset)
        return buffer

    def _readable(self, path: Path) -> int:
        if self._reader_fd is not None:
            if self._reader_fd[0] == path:
                return self._reader_fd[1]
            os.close(self._reader_fd[1])
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._reader_fd = (path, fd)
        return fd

    def _offset_of(self, segment: _Segment, sequence: int) -> int:
        buffer = segment.path.read_bytes()[: segment.size_bytes]
        ends = (end for _, end in unframe(buffer))
        for _ in range(sequence - segment.first - 1):
            next(ends)
        return next(ends)

    # -- forgetting ---------------------------------------------------------------------------------------------------

    def acknowledge(self, sequence: int) -> None:
        """Forget every record up to and with ``sequence``; going backwards does nothing.

        Raises:
            ValueError: that record was never written.
        """
        with self._mutex:
            if sequence >= self._next:
                raise ValueError(f"sequence {sequence} was never written; the newest is {self._next - 1}")
            if sequence <= self._acknowledged:
                return
            self._acknowledged = sequence
            _write_position(self._acknowledged_fd, sequence)
            if self._cursor[0] <= sequence:
                self._cursor = (sequence + 1, 0)
            self._trim()

    def _trim(self) -> None:
        active = self._segments[-1] if self._active_fd is not None else None
        while self._segments and self._segments[0] is not active and self._segments[0].next <= self._acknowledged + 1:
            gone = self._segments.pop(0)
            self._size_bytes -= gone.size_bytes + gone.torn_bytes
            gone.path.unlink(missing_ok=True)

    # -- state --------------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Records that are not acknowledged."""
        return sum(
            segment.next - max(segment.first, self._acknowledged + 1)
            for segment in self._segments
            if segment.next > self._acknowledged + 1
        )

    @property
    def unread(self) -> int:
        """Records after the cursor."""
        cursor = self._cursor[0]
        return sum(segment.next - max(segment.first, cursor) for segment in self._segments if segment.next > cursor)

    @property
    def size_bytes(self) -> int:
        """Bytes on disk, acknowledged records of the oldest segment included."""
        return self._size_bytes

    @property
    def max_bytes(self) -> int:
        """The bound."""
        return self._max_bytes

    @property
    def directory(self) -> Path:
        """Where it lives."""
        return self._directory

    def close(self) -> None:
        """Close the files; delete segments that hold nothing that is waiting. May be called twice."""
        with self._mutex:
            if self._closed:
                return
            if self._active_fd is not None:
                os.close(self._active_fd)
                self._active_fd = None
            self._trim()
            self._release()

    def abandon(self) -> None:
        """Let go of the files without touching them: for a child process after ``fork``, which must not write here.

        Takes no lock, as another thread of the parent may have held it at the fork.
        """
        if not self._closed:
            if self._active_fd is not None:
                os.close(self._active_fd)
                self._active_fd = None
            self._release()

    def _release(self) -> None:
        self._closed = True
        if self._reader_fd is not None:
            os.close(self._reader_fd[1])
            self._reader_fd = None
        os.close(self._acknowledged_fd)
        os.close(self._lock_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise JournalLocked(f"{path.parent} is open in another process") from error
    return fd


def _scan(path: Path) -> _Segment:
    buffer = path.read_bytes()
    ends = [end for _, end in unframe(buffer)]
    whole = ends[-1] if ends else 0
    return _Segment(path, int(path.stem), len(ends), whole, len(buffer) - whole)


def _read_position(fd: int) -> int:
    data = os.pread(fd, 12, 0)
    number = data[:8]
    if len(data) < 12 or crc32(number) != int.from_bytes(data[8:], "little"):
        return 0  # unknown: reading everything again is harmless, skipping is not
    return int.from_bytes(number, "little")


def _write_position(fd: int, sequence: int) -> None:
    number = sequence.to_bytes(8, "little")
    os.pwrite(fd, number + crc32(number).to_bytes(4, "little"), 0)
