"""Remembers the ids of recent events in eight bytes each, to notice an event that comes twice.

A fingerprint that is not here was not among the newest ``capacity`` events; one that is here *may* have been, and the
caller asks the store before it believes it. Fingerprints are kept as a few sorted arrays of growing age and size, as in
a log-structured merge tree (O'Neil et al., 1996): adding is a merge now and then, asking a binary search in each.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Fingerprints = NDArray[np.int64]
_PARTS: Final = 8
"""The oldest eighth is forgotten at a time."""


class Window:
    """The newest fingerprints, at least ``capacity - capacity / 8`` and at most ``capacity`` of them."""

    def __init__(self, capacity: int) -> None:
        if capacity < _PARTS:
            raise ValueError(f"capacity must be at least {_PARTS}, not {capacity}")
        self._capacity = capacity
        self._largest = capacity // _PARTS
        self._ages: list[Fingerprints] = []

    def __len__(self) -> int:
        return sum(len(age) for age in self._ages)

    def seen(self, fingerprints: Fingerprints) -> NDArray[np.bool_]:
        """For each fingerprint, whether it is among those remembered."""
        found = np.zeros(len(fingerprints), dtype=np.bool_)
        for age in self._ages:
            at = np.searchsorted(age, fingerprints)
            np.minimum(at, len(age) - 1, out=at)
            found |= age[at] == fingerprints
        return found

    def add(self, fingerprints: Fingerprints) -> None:
        """Remember these as the newest."""
        for start in range(0, len(fingerprints), self._largest):
            self._ages.append(np.sort(fingerprints[start : start + self._largest]))
            self._compact()
        while len(self) > self._capacity:
            del self._ages[0]

    def _compact(self) -> None:
        while len(self._ages) > 1:
            older, newer = self._ages[-2], self._ages[-1]
            if len(older) > 2 * len(newer) or len(older) + len(newer) > self._largest:
                return
            self._ages[-2:] = [np.sort(np.concatenate((older, newer)))]
