"""Sequential ranks: each observation's place among those before it, exactly uniform while nothing changes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from hashlib import blake2b
from typing import Final

from flywheel.detect.state import Stateful

EXACT: Final = 512
BINS: Final = 256


class GrowingReference(Stateful):
    """All observations so far as counts: exact until 512, then of up to 256 bins cut at their quantiles.

    ``place`` gives ``(below + V·(equal + 1)) / (count + 1)`` with V uniform: the randomised sequential rank. Of
    exchangeable observations these are independent and uniform (Vovk, Gammerman & Shafer 2005, "smoothed conformal
    p-values"), so what bets on them needs no baseline: the baseline may be estimated for ever without breaking a
    guarantee. V is a hash of the observation's number and ``salt``: a replay gives the same alarms.
    """

    __slots__ = ("count", "counts", "edges", "held", "salt")

    def __init__(self, salt: str = "") -> None:
        self.salt = salt
        self.count = 0
        self.held: list[float] = []
        self.edges: list[float] = []
        self.counts: list[int] = []

    def place(self, value: float) -> float:
        """Where a value stands among those so far, in (0, 1); it does not join them."""
        if not self.edges:
            below = bisect_left(self.held, value)
            equal = bisect_right(self.held, value) - below
        else:
            found = bisect_left(self.edges, value)
            below, equal = sum(self.counts[:found]), self.counts[found]
        return (below + self._uniform() * (equal + 1)) / (self.count + 1)

    def learn(self, value: float) -> None:
        """A value joins the reference."""
        self.count += 1
        if self.edges:
            self.counts[bisect_left(self.edges, value)] += 1
            return
        insort(self.held, value)
        if self.count == EXACT:
            self._cut()

    def _cut(self) -> None:
        """A bin ends at an edge (inclusive); the last has no end."""
        step = EXACT // BINS
        self.edges = sorted({self.held[place] for place in range(step - 1, EXACT - 1, step)})
        self.counts = [0] * (len(self.edges) + 1)
        for value in self.held:
            self.counts[bisect_left(self.edges, value)] += 1
        self.held = []

    def _uniform(self) -> float:
        digest = blake2b(f"{self.salt}:{self.count}".encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "big") + 0.5) / 2**64
