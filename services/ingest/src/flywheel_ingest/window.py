"""The newest event ids with a digest of what was posted under them."""

from __future__ import annotations

from typing import Final

_ABSENT: Final[tuple[None, bool]] = (None, False)
_UNDER_WAY: Final = b"\x00"
_ACKNOWLEDGED: Final = b"\x01"


class RecentIds:
    """Remembers at least the newest ``size`` ids, at most twice as many, in two generations: O(1), no ageing thread.

    An id is claimed when its item is admitted and settled when Kafka acknowledged it. One that was claimed but never
    settled may or may not have reached Kafka, so the same content is sent again, and another content is refused.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[str, bytes] = {}
        self._old: dict[str, bytes] = {}

    def find(self, kind: str, event_id: str) -> tuple[bytes | None, bool]:
        """The digest posted under an id and whether Kafka acknowledged it; ``(None, False)`` when not remembered."""
        key = kind + event_id
        entry = self._young.get(key) or self._old.get(key)
        return _ABSENT if entry is None else (entry[:-1], entry[-1:] == _ACKNOWLEDGED)

    def claim(self, kind: str, event_id: str, digest: bytes) -> None:
        """Remember that this content is on its way under this id."""
        self._put(kind + event_id, digest + _UNDER_WAY)

    def settle(self, kind: str, event_id: str, digest: bytes) -> None:
        """Remember that Kafka acknowledged this content under this id."""
        self._put(kind + event_id, digest + _ACKNOWLEDGED)

    def _put(self, key: str, entry: bytes) -> None:
        if len(self._young) >= self._size and key not in self._young:
            if self._size == 0:
                return
            self._old, self._young = self._young, {}
        self._young[key] = entry

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
