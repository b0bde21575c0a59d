"""A bounded memory of what was seen last. Pure."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Keeps at least the last ``least`` entries and at most twice as many, each operation in constant time.

    Two generations: when the young one is full it becomes the old one, and the old one is forgotten whole. (Deleting
    the oldest key of one dict is not constant in time: finding it walks over the places of those deleted before.)
    """

    def __init__(self, least: int) -> None:
        self._least = least
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """The value, or None when it was never seen or is forgotten."""
        found = self._young.get(key)
        return found if found is not None else self._old.get(key)

    def __setitem__(self, key: K, value: V) -> None:
        if len(self._young) >= self._least:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
