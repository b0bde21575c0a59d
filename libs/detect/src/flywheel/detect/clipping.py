"""Values whose outliers are cut, for means that one of them must not move."""

from __future__ import annotations

from typing import Final

from flywheel.detect.state import Stateful

WIDTH: Final = 4.0
"""Mean absolute deviations, of cut values, that one may lie off: 3.2 standard deviations of normal values."""
MEMORY: Final = 1_000


class Clipper(Stateful):
    """Cuts a value to within four mean absolute deviations of the centre (Huber 1964), both of values cut alike: means
    of what is left are sound whatever tail the values have, and of near to normal ones the same."""

    __slots__ = ("centre", "count", "spread")

    def __init__(self) -> None:
        self.centre = 0.0
        self.count = 0
        self.spread = 0.0

    def cut(self, value: float, usual: float) -> float:
        """Learn from a value, and return it as near to the centre as it may lie; ``usual`` is what is known of it that
        comes on top of the centre."""
        self.count += 1
        if self.count == 1:
            self.centre = value - usual
        off = value - usual - self.centre
        if self.spread > 0.0:
            off = max(-WIDTH * self.spread, min(WIDTH * self.spread, off))
        share = 1.0 / min(self.count, MEMORY)
        kept = usual + self.centre + off
        self.spread += share * (abs(off) - self.spread)
        self.centre += share * off
        return kept
