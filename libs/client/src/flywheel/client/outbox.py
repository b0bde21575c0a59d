"""Getting events to a service without ever holding up who made them: memory first, then the spill file, then a counted
drop."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from flywheel.journal import Journal, JournalError, open_slot, orphans

_log = logging.getLogger("flywheel.client")
_OVERHEAD_BYTES: Final = 64
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Parcel:
    """One event on its way: the collection it belongs to (``calls``, ``feedback``, ``decisions``) and its JSON."""

    kind: str
    body: bytes

    def pack(self) -> bytes:
        """As one record of the spill file."""
        return self.kind.encode() + b"\n" + self.body

    @staticmethod
    def unpack(record: bytes) -> Parcel:
        """From one record of the spill file."""
        kind, _, body = record.partition(b"\n")
        return Parcel(kind.decode(), body)


class Away(Exception):
    """The service cannot take events now; ``retry_after_s`` is when it asks to be tried again, 0 if it did not say."""

    def __init__(self, detail: str, retry_after_s: float = 0.0) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Post(Protocol):
    """Sends events of one kind; returns how many were refused for what they are. Raises ``Away``."""

    def __call__(self, kind: str, bodies: Sequence[bytes]) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much may wait, and for how long."""

    events: int
    bytes: int
    spill_bytes: int
    batch: int
    linger_s: float


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """What became of the events, since the client was made."""

    offered: int
    sent: int
    rejected: int
    spilled: int
    dropped: int
    waiting: int
    waiting_spilled: int
    failures: int


class Outbox:
    """A bounded queue with a thread that empties it, started with the first event.

    The same event may be sent twice after a failure, with the same id; it is not lost while memory or the spill file
    have room. Safe to use from many threads, and after ``fork`` (the child starts empty: what waits is the parent's
    to send).
    """

    def __init__(self, name: str, post: Post, bounds: Bounds, spill_dir: Path | None) -> None:
        self._name = name
        self._post = post
        self._bounds = bounds
        self._spill_dir = spill_dir / name if spill_dir is not None else None
        self._journals: list[Journal] = []
        self._reset()

    def _reset(self) -> None:
        self._condition = threading.Condition()
        self._queue: deque[Parcel] = deque()
        self._queue_bytes = 0
        self._in_flight = 0
        self._thread: threading.Thread | None = None
        self._spill_opened = False
        self._closing = False
        self._flushing = 0
        self._away_until_s = 0.0
        self._pause_s = 0.0
        self._offered = self._sent = self._rejected = self._spilled = self._dropped = self._failures = 0

    # -- any thread ---------------------------------------------------------------------------------------------------

    def offer(self, parcel: Parcel) -> bool:
        """Take an event; False when it was dropped because nothing has room for it. Never blocks on the network."""
        size = len(parcel.body) + _OVERHEAD_BYTES
        with self._condition:
            self._offered += 1
            if self._closing:
                return self._spill_one(parcel)
            if len(self._queue) >= self._bounds.events or self._queue_bytes + size > self._bounds.bytes:
                self._start()
                return self._spill_one(parcel)
            self._queue.append(parcel)
            self._queue_bytes += size
            self._start()
            if len(self._queue) in (1, self._bounds.batch):
                self._condition.notify_all()
            return True

    def flush(self, deadline_s: float) -> bool:
        """Send what waits, the spill file too; True when nothing is left within ``deadline_s`` seconds."""
        end_s = time.monotonic() + deadline_s
        with self._condition:
            self._open_spill()
            if not self._empty():
                self._start()
            self._flushing += 1
            self._away_until_s = 0.0
            self._condition.notify_all()
            try:
                while not self._empty():
                    left_s = end_s - time.monotonic()
                    if left_s <= 0 or self._closing:
                        return False
                    self._condition.wait(left_s)
                return True
            finally:
                self._flushing -= 1

    def close(self, deadline_s: float) -> bool:
        """Flush, stop the thread, and spill what could not be sent; True when nothing is left anywhere."""
        done = self.flush(deadline_s)
        with self._condition:
            self._closing = True
            self._condition.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=max(0.5, deadline_s))
        with self._condition:
            while self._queue:
                self._spill_one(self._queue.popleft())
            self._queue_bytes = 0
            done = done and not any(journal.waiting for journal in self._journals)
            for journal in self._journals:
                journal.close()
            self._journals = []
        return done

    def forget_parent(self) -> None:
        """In a child after ``fork``: leave the parent's files and events alone and start afresh."""
        for journal in self._journals:
            journal.abandon()
        self._journals = []
        self._reset()

    def stats(self) -> OutboxStats:
        """Counters, and what waits now."""
        with self._condition:
            return OutboxStats(
                self._offered,
                self._sent,
                self._rejected,
                self._spilled,
                self._dropped,
                len(self._queue) + self._in_flight,
                sum(journal.waiting for journal in self._journals),
                self._failures,
            )

    # -- with the lock held -------------------------------------------------------------------------------------------

    def _empty(self) -> bool:
        return not self._queue and not self._in_flight and not any(journal.waiting for journal in self._journals)

    def _start(self) -> None:
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._run, name=f"flywheel-{self._name}", daemon=True)
            with contextlib.suppress(RuntimeError):  # the interpreter is ending; close() spills what waits
                self._thread.start()

    def _spill_one(self, parcel: Parcel) -> bool:
        self._open_spill()
        if self._journals:
            try:
                self._journals[0].append(parcel.pack())
            except (JournalError, OSError) as error:
                self._warn_first_drop(str(error))
            else:
                self._spilled += 1
                return True
        else:
            self._warn_first_drop("memory is full and there is no spill file")
        self._dropped += 1
        return False

    def _warn_first_drop(self, why: str) -> None:
        if self._dropped == 0:
            _log.warning("dropping events for %s: %s; further drops are only counted", self._name, why)

    def _open_spill(self) -> None:
        if self._spill_opened or self._spill_dir is None:
            return
        self._spill_opened = True
        segment_bytes = max(1, min(4 << 20, self._bounds.spill_bytes // 4))
        sizes = {"max_bytes": self._bounds.spill_bytes, "segment_bytes": segment_bytes}
        try:
            self._journals = [open_slot(self._spill_dir, **sizes)]
            self._journals += orphans(self._spill_dir, **sizes)
        except (OSError, ValueError, JournalError) as error:
            _log.warning("no spill file for %s: %s", self._name, error)

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with self._condition:
            self._open_spill()  # what an earlier process left is sent even if nothing more ever spills
        while True:
            try:
                if not self._turn():
                    return
            except Exception:
                _log.exception("sending events to %s", self._name)
                self._backed_off(Away("unexpected error"))

    def _turn(self) -> bool:
        """Wait for work and do a piece of it; False when the outbox closes."""
        with self._condition:
            while not self._closing:
                now_s = time.monotonic()
                if now_s < self._away_until_s:
                    self._make_room()
                    self._condition.wait(self._away_until_s - now_s)
                elif any(journal.waiting for journal in self._journals) or self._queue:
                    break
                else:
                    self._condition.wait()
            if self._closing:
                return False
            lingering = len(self._queue) < self._bounds.batch and not self._flushing
            if lingering and not any(journal.waiting for journal in self._journals):
                self._condition.wait(self._bounds.linger_s)
        spilled = next((journal for journal in self._journals if journal.waiting), None)
        try:
            if spilled is not None:
                self._send_spilled(spilled)
            else:
                self._send_queued()
        except Away as error:
            self._backed_off(error)
        return True

    def _make_room(self) -> None:
        """While the service is away, keep half of the memory free for what comes."""
        while self._journals and len(self._queue) > self._bounds.events // 2:
            parcel = self._queue.popleft()
            self._queue_bytes -= len(parcel.body) + _OVERHEAD_BYTES
            self._spill_one(parcel)

    def _send_spilled(self, journal: Journal) -> None:
        entries = journal.read(limit=self._bounds.batch)
        try:
            rejected = self._post_all(Parcel.unpack(entry.payload) for entry in entries)
        except BaseException:
            journal.rewind()
            raise
        with self._condition:
            journal.acknowledge(entries[-1].sequence)
            self._succeeded(len(entries), rejected)

    def _send_queued(self) -> None:
        with self._condition:
            batch = [self._queue.popleft() for _ in range(min(self._bounds.batch, len(self._queue)))]
            self._queue_bytes -= sum(len(parcel.body) + _OVERHEAD_BYTES for parcel in batch)
            self._in_flight = len(batch)
        sent = False
        rejected = 0
        try:
            rejected = self._post_all(batch)
            sent = True
        finally:
            with self._condition:
                self._in_flight = 0
                if sent:
                    self._succeeded(len(batch), rejected)
                else:
                    self._keep(batch)

    def _keep(self, batch: Sequence[Parcel]) -> None:
        """Hold on to a batch that could not be sent: in the spill file, or back at the front of the queue."""
        if self._journals:
            for parcel in batch:
                self._spill_one(parcel)
            return
        self._queue.extendleft(reversed(batch))
        self._queue_bytes += sum(len(parcel.body) + _OVERHEAD_BYTES for parcel in batch)
        while len(self._queue) > self._bounds.events or self._queue_bytes > self._bounds.bytes:
            self._queue_bytes -= len(self._queue[-1].body) + _OVERHEAD_BYTES
            self._spill_one(self._queue.pop())

    def _post_all(self, parcels: Iterable[Parcel]) -> int:
        by_kind: dict[str, list[bytes]] = {}
        for parcel in parcels:
            by_kind.setdefault(parcel.kind, []).append(parcel.body)
        return sum(self._post(kind, bodies) for kind, bodies in by_kind.items())

    def _succeeded(self, count: int, rejected: int) -> None:
        self._sent += count - rejected
        self._rejected += rejected
        self._pause_s = 0.0
        self._condition.notify_all()

    def _backed_off(self, error: Away) -> None:
        with self._condition:
            self._failures += 1
            if self._pause_s == 0:
                _log.warning("%s is away: %s; events wait", self._name, error)
            self._pause_s = min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, 2 * self._pause_s))
            pause_s = (
                _FIRST_PAUSE_S if self._flushing else max(self._pause_s, min(error.retry_after_s, _LONGEST_PAUSE_S))
            )
            self._away_until_s = time.monotonic() + pause_s
