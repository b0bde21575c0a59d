"""How rare is a figure, judged by all the figures before it: ranks, and beyond the ranks a fitted tail."""

from __future__ import annotations

from bisect import bisect_left, insort
from math import log, log10
from typing import Final

from flywheel.detect.state import Stateful

TAIL_SHARE: Final = 0.02
LEAST_TAIL: Final = 20
MOST_TAIL: Final = 512
MOST_BODY: Final = 1_024
LEAST: Final = 50
MOST_RARITY: Final = 40.0
FLOOR: Final = 1e-3
LOG10_E: Final = 0.4342944819032518


class TailCalibrator(Stateful):
    """Turns a non-negative figure, larger is stranger, into −log10 of the share of the past that was stranger still.

    Within the past: its rank. Beyond its top 2 %: the mean of two tails fitted to the excesses, an exponential one
    (Pickands–Balkema–de Haan with shape 0) and a Pareto one (Hill 1975), as nobody knows a series' tail in advance.
    The largest 512 are kept exactly, the rest as an evenly thinned sample, so memory is bounded
    and nothing is forgotten.
    """

    __slots__ = ("body", "seen", "stride", "top")

    def __init__(self) -> None:
        self.top: list[float] = []
        self.body: list[float] = []
        self.seen = 0
        self.stride = 1

    def update(self, figure: float) -> float:
        """The rarity of a figure among those before it (0 while there are fewer than 50), which it then joins."""
        rarity = self._rarity(figure) if self.seen >= LEAST else 0.0
        self._learn(figure)
        return rarity

    def _rarity(self, figure: float) -> float:
        top, seen = self.top, self.seen
        tail = min(max(int(TAIL_SHARE * seen), min(LEAST_TAIL, seen // 4)), MOST_TAIL)
        edge = top[-tail]
        if figure > edge:
            return self._beyond(figure, tail, edge)
        if figure >= top[0]:
            stranger: float = len(top) - bisect_left(top, figure)
        else:
            share = 1.0 - bisect_left(self.body, figure) / max(len(self.body), 1)
            stranger = len(top) + share * (seen - len(top))
        return -log10((stranger + 1.0) / (seen + 1.0))

    def _beyond(self, figure: float, tail: int, edge: float) -> float:
        excesses = self.top[-tail:]
        mean_excess = max(sum(excesses) / tail - edge, 1e-9 * (abs(edge) + 1e-9))
        log_edge = log(edge + FLOOR)
        mean_log = max(sum(log(each + FLOOR) for each in excesses) / tail - log_edge, 1e-9)
        base = -log10(tail / self.seen)
        exponential = min((figure - edge) / mean_excess * LOG10_E, MOST_RARITY)
        pareto = min((log(figure + FLOOR) - log_edge) / mean_log * LOG10_E, MOST_RARITY)
        return min(base + (exponential + pareto) / 2.0, MOST_RARITY)

    def _learn(self, figure: float) -> None:
        self.seen += 1
        if len(self.top) < MOST_TAIL:
            insort(self.top, figure)
            return
        if figure > self.top[0]:
            figure, self.top[0] = self.top[0], figure
            insort(self.top, self.top.pop(0))
        if self.seen % self.stride == 0:
            insort(self.body, figure)
            if len(self.body) > MOST_BODY:
                self.body = self.body[::2]
                self.stride *= 2
