"""What is kept of the calls and decisions of a span of time: exact sums that merge.

Merging two windows gives the window of both, in any order and grouping, so windows of partitions and of minutes add up.
Values of a call (latency, time to first token) are counted in logarithmic bins, as DDSketch does (Masson, Rim and Lee,
2019): a quantile read from them is within 4.8 % of a true one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Count = Literal[
    "calls",  # attempts whose answer somebody waited for
    "failed",  # of them: ended in an error or a timeout
    "timeouts",  # of the failed
    "refused",  # filtered by the provider
    "cancelled",  # given up by the caller: neither good nor bad
    "unknown",  # nobody said how it ended: neither good nor bad
    "repeated",  # second and later attempts at a request
    "shadow",  # calls nobody saw the answer of; in no other count
    "input_tokens",
    "output_tokens",
    "cost_pico",  # trillionths of a US dollar
    "priced",  # calls whose cost is known
    "decisions",
    "fallbacks",  # of them: by the declared default, as no policy could decide
    "downgraded",  # of them: to another arm by a budget's pressure
    "controlled",  # of them: made under a control
]
GAMMA: Final = 1.1
"""Ratio of a bin's upper to its lower bound."""
_LOG_GAMMA: Final = math.log(GAMMA)
LEAST, MOST = -96, 200
"""Bins at the ends: below 0.0001, above 190 million; what lies outside is counted in them."""


def bin_of(value: float) -> int:
    """The bin of a finite value of at least 0: ``GAMMA ** (bin - 1) < value <= GAMMA ** bin``."""
    if value <= 0:
        return LEAST
    return min(MOST, max(LEAST, math.ceil(math.log(value) / _LOG_GAMMA)))


@dataclass(slots=True)
class Window:
    """The sums of a span. ``within``: by ``metric<below`` how many calls stayed below, and how many had a value."""

    counts: dict[str, int] = field(default_factory=dict)
    latency: dict[int, int] = field(default_factory=dict)
    ttft: dict[int, int] = field(default_factory=dict)
    within: dict[str, tuple[int, int]] = field(default_factory=dict)

    def count(self, name: Count) -> int:
        """One of the sums; 0 where nothing was counted."""
        return self.counts.get(name, 0)

    def add(self, other: Window) -> None:
        """Count in what another window holds."""
        _add(self.counts, other.counts)
        _add(self.latency, other.latency)
        _add(self.ttft, other.ttft)
        for name, (below, total) in other.within.items():
            known = self.within.get(name, (0, 0))
            self.within[name] = (known[0] + below, known[1] + total)

    def record(self) -> dict[str, Any]:
        """The window as JSON holds it."""
        found: dict[str, Any] = {"c": self.counts}
        if self.latency:
            found["l"] = {str(key): n for key, n in self.latency.items()}
        if self.ttft:
            found["t"] = {str(key): n for key, n in self.ttft.items()}
        if self.within:
            found["w"] = {name: list(pair) for name, pair in self.within.items()}
        return found

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Window:
        """Read what ``record`` wrote."""
        return cls(
            dict(record["c"]),
            {int(key): n for key, n in record.get("l", {}).items()},
            {int(key): n for key, n in record.get("t", {}).items()},
            {name: (pair[0], pair[1]) for name, pair in record.get("w", {}).items()},
        )


def merged(windows: Iterable[Window]) -> Window:
    """The window of all of them."""
    total = Window()
    for window in windows:
        total.add(window)
    return total


def quantile(bins: Mapping[int, int], share: float) -> float | None:
    """The value below which ``share`` of what was counted lies, within 4.8 %; None where nothing was."""
    total = sum(bins.values())
    if not total:
        return None
    rank, seen = share * (total - 1), 0
    for key in sorted(bins):
        seen += bins[key]
        if seen > rank:
            return 0.0 if key == LEAST else float(2 * GAMMA**key / (GAMMA + 1))
    raise AssertionError("a rank lies below the total")


def _add(into: dict[Any, int], other: Mapping[Any, int]) -> None:
    for key, n in other.items():
        into[key] = into.get(key, 0) + n
