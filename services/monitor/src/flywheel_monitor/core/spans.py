"""Which spans of time are kept, and which of them a window of some length is read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MINUTE_US: Final = 60_000_000
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US


@dataclass(frozen=True, slots=True)
class Grain:
    """Buckets of one width, kept for a while; a bucket begins at a multiple of its width since the epoch (UTC)."""

    name: str
    width_us: int
    kept_us: int

    def start_of(self, at_us: int) -> int:
        """The start of the bucket of a time."""
        return at_us - at_us % self.width_us

    def keeps(self, start_us: int, now_us: int) -> bool:
        """Whether a bucket that begins at ``start_us`` is still kept."""
        return start_us + self.kept_us > now_us

    def starts(self, length_us: int, now_us: int) -> range:
        """The starts of the buckets of the window that ends now: the present one and whole ones before it, as many as
        the length holds. So the window is up to one bucket shorter than its length."""
        present = self.start_of(now_us)
        buckets = max(1, length_us // self.width_us)
        return range(present - (buckets - 1) * self.width_us, present + 1, self.width_us)


GRAINS: Final = (
    Grain("minutes", MINUTE_US, HOUR_US + 10 * MINUTE_US),
    Grain("fives", 5 * MINUTE_US, 6 * HOUR_US + 10 * MINUTE_US),
    Grain("hours", HOUR_US, 3 * DAY_US + 2 * HOUR_US),
    Grain("days", DAY_US, 93 * DAY_US),
)
"""Finest first. Windows of 5 m to 1 h are read from minutes, to 6 h from fives, to 3 d from hours, longer from days."""


def grain_for(length_us: int) -> Grain:
    """The finest grain that is kept long enough for a window of this length.

    Raises:
        ValueError: none is.
    """
    for grain in GRAINS:
        if length_us <= grain.kept_us - grain.width_us:
            return grain
    raise ValueError(f"no window is as long as {length_us} us")
