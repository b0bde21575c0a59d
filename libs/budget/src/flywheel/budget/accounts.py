"""What each account of a process has reserved, in a file that outlives the process (not the machine).

The number is written before a decision is logged or answered, with one aligned store of 8 bytes into a shared mapping,
so that ``kill -9`` at any moment leaves a number that is at least what was answered. The next process that shares the
folder closes the accounts with it, and what was leased and not reserved comes back.

A file is a row of cells: capacity, length (0: free), reserved, start of its window (8 bytes each), then the account and
its instance as JSON. The length, which makes a cell one, is written last.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from flywheel.budget.leases import Left
from flywheel.budget.windows import window_id

_WORD: Final = 8
_HEAD_WORDS: Final = 4
_SMALLEST_WORDS: Final = 32
_FIRST_BYTES: Final = 1 << 16


class AccountsLocked(Exception):
    """Another process has the file open."""


class AccountsFile:
    """The accounts of one process; ``left`` are those that were in the file when it was opened."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            AccountsLocked: it is open elsewhere.
            OSError: it cannot be used.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._fd)
            raise AccountsLocked(str(path)) from error
        self._places: dict[str, int] = {}
        self._free: dict[int, list[int]] = {}
        self._end = 0
        self._map(max(_FIRST_BYTES, os.fstat(self._fd).st_size))
        self.left = self._scan()

    def open(self, account: str, instance: str) -> None:
        """Make a cell for an account, before the guard hears of it; one that is there is kept.

        Raises:
            OSError: the disk is full.
        """
        if account in self._places:
            return
        data = json.dumps([account, instance]).encode()
        wanted = _HEAD_WORDS * _WORD + len(data)
        words = _SMALLEST_WORDS
        while words * _WORD < wanted:
            words *= 2
        place = self._take(words)
        start = (place + _HEAD_WORDS) * _WORD
        self._bytes[start : start + len(data)] = data
        self._words[place + 2] = self._words[place + 3] = 0
        self._words[place + 1] = len(data)
        self._places[account] = place

    def write(self, account: str, reserved_pico: int) -> None:
        """Note what an account has reserved; as soon as this returns it survives the process."""
        self._words[self._places[account] + 2] = reserved_pico

    def place(self, account: str, window_start_us: int) -> None:
        """Note the window an account belongs to, once the guard has said it; an account that is not here is ignored."""
        place = self._places.get(account)
        if place is not None:
            self._words[place + 3] = window_start_us

    def drop(self, account: str) -> None:
        """Forget an account: the guard knows that it is closed."""
        place = self._places.pop(account, None)
        if place is not None:
            self._words[place + 1] = 0
            self._free.setdefault(self._words[place], []).append(place)

    def __contains__(self, account: str) -> bool:
        return account in self._places

    def __len__(self) -> int:
        return len(self._places)

    def close(self) -> None:
        """Close the file; what is in it stays."""
        self._words.release()
        self._bytes.close()
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _map(self, size_bytes: int) -> None:
        size_bytes = -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        # Allocated, not only lengthened: a store into a hole of a full disk would be a signal, not an error.
        os.posix_fallocate(self._fd, 0, size_bytes)
        self._bytes = mmap.mmap(self._fd, size_bytes)
        self._words = memoryview(self._bytes).cast("q")

    def _scan(self) -> list[Left]:
        found = []
        place = 0
        while place < len(self._words) and (words := self._words[place]) > 0:
            length = self._words[place + 1]
            start = (place + _HEAD_WORDS) * _WORD
            if length:
                account, instance = json.loads(self._bytes[start : start + length])
                self._places[account] = place
                start_us = self._words[place + 3]
                window = window_id(start_us) if start_us else ""
                found.append(Left(account, instance, self._words[place + 2], window))
            else:
                self._free.setdefault(words, []).append(place)
            place += words
        self._end = place
        return found

    def _take(self, words: int) -> int:
        free = self._free.get(words)
        if free:
            return free.pop()
        if (self._end + words) > len(self._words):
            size_bytes = max(2 * len(self._bytes), (self._end + words) * _WORD)
            self._words.release()
            self._bytes.close()
            self._map(size_bytes)
        place = self._end
        self._words[place] = words
        self._end += words
        return place


def open_accounts(folder: Path) -> AccountsFile:
    """Open the first file of the folder that no living process has: ``0``, ``1`` and so on."""
    slot = 0
    while True:
        try:
            return AccountsFile(folder / str(slot))
        except AccountsLocked:
            slot += 1


def dead_accounts(folder: Path) -> list[AccountsFile]:
    """Open every other file of the folder that no living process has and that holds accounts."""
    found = []
    for path in sorted(path for path in folder.glob("*") if path.name.isdigit()):
        try:
            accounts = AccountsFile(path)
        except AccountsLocked:
            continue
        if accounts.left:
            found.append(accounts)
        else:
            accounts.close()
    return found
