"""How surprising is an observation, by everything before it: several views of a series, each calibrated, pooled."""

from __future__ import annotations

from typing import ClassVar, Final

from flywheel.detect.calibration import TailCalibrator
from flywheel.detect.state import Stateful
from flywheel.detect.windows import Delayed, Everything, Window

NEAR: Final = 100
FAR: Final = 1_000
LEAST: Final = 20
REFRACTORY: Final = 100
TYPICAL_SURPRISE: Final = 2.25
VIEWS: Final = ("near", "far", "ever", "five", "fifty", "step", "season")
TINY: Final = 1e-9


class AnomalyScorer(Stateful):
    """Surprise of each observation: −log10 of a pooled tail probability.

    Views, each a deviation in units of the spread of what came before: the value against the last 100, the last 1,000
    and all; the mean of the last 5 and of the last 50 against the 1,000 before them; the step against the typical
    step; the mean of the last ten deviations from the daily season. Each view is calibrated by its own past
    (``TailCalibrator``); pooled is the mean of their largest and their average rarity, which lies between the two
    classical mergers of dependent p-values, the minimum and the geometric mean (Vovk & Wang 2020).
    """

    __slots__ = (
        "calibrators",
        "ever",
        "far",
        "far_fifty",
        "far_five",
        "last_ten",
        "near",
        "off_season",
        "off_season_before",
        "previous",
        "recent",
        "recent_at",
        "steps",
    )
    PARTS: ClassVar = {
        "calibrators": TailCalibrator,
        "ever": Everything,
        "far": Window,
        "far_fifty": Delayed,
        "far_five": Delayed,
        "last_ten": Window,
        "near": Window,
        "off_season": Everything,
        "off_season_before": Delayed,
        "steps": Window,
    }

    def __init__(self) -> None:
        self.near, self.far, self.ever, self.steps = Window(NEAR), Window(FAR), Everything(), Window(FAR)
        self.far_five, self.far_fifty = Delayed(4), Delayed(49)
        self.last_ten, self.off_season, self.off_season_before = Window(10), Everything(), Delayed(9)
        self.calibrators = [TailCalibrator() for _ in VIEWS]
        self.previous: float | None = None
        self.recent: list[float] = []
        self.recent_at = 0

    def update(self, value: float, off_season: float | None) -> tuple[float, float]:
        """Surprise and score of a value; ``off_season`` is its difference from the season's, where that is known.

        The score, in [0, 1), is ``1 − 2^(−surprise / 2.25)``, and 0 unless no surprise of the last 100 was as large.
        """
        views = self._views(value, off_season)
        rarities = [each.update(view) for each, view in zip(self.calibrators, views, strict=True)]
        surprise = (max(rarities) + sum(rarities) / len(rarities)) / 2.0
        largest = max(self.recent, default=0.0)
        score = 1.0 - 2.0 ** (-surprise / TYPICAL_SURPRISE) if surprise > largest else 0.0
        if len(self.recent) < REFRACTORY:
            self.recent.append(surprise)
        else:
            self.recent[self.recent_at] = surprise
            self.recent_at = (self.recent_at + 1) % REFRACTORY
        return surprise, score

    def _views(self, value: float, off_season: float | None) -> tuple[float, ...]:
        near, far, ever = self.near, self.far, self.ever
        before = (far.mean, far.deviation, len(far.values))
        of_near = _deviation(value, near.mean, near.deviation, len(near.values))
        of_far = _deviation(value, *before)
        of_ever = _deviation(value, ever.mean, ever.deviation, ever.count)
        then = self.far_five.push(*before)
        of_five = _deviation(_last_mean(near, value, 5), then[0], then[1], then[2]) if then else 0.0
        then = self.far_fifty.push(*before)
        of_fifty = _deviation(_last_mean(near, value, 50), then[0], then[1], then[2]) if then else 0.0
        step = abs(value - self.previous) if self.previous is not None else 0.0
        of_step = step / (self.steps.mean + TINY) if len(self.steps.values) > LEAST else 0.0
        of_season = self._off_season(off_season)
        self.previous = value
        near.push(value)
        far.push(value)
        ever.push(value)
        self.steps.push(step)
        return of_near, of_far, of_ever, of_five, of_fifty, of_step, of_season

    def _off_season(self, off_season: float | None) -> float:
        if off_season is None:
            return 0.0
        ever = self.off_season
        before = self.off_season_before.push(ever.mean, ever.deviation, ever.count)
        self.last_ten.push(off_season)
        ever.push(off_season)
        return _deviation(self.last_ten.mean, before[0], before[1], before[2]) if before else 0.0


def _deviation(value: float, mean: float, deviation: float, count: float) -> float:
    """Distance in standard deviations; 0 where too little is known. A spread of nothing counts as a billionth."""
    return abs(value - mean) / (deviation + TINY * abs(mean) + TINY) if count > LEAST else 0.0


def _last_mean(window: Window, value: float, count: int) -> float:
    """Mean of a value and the ``count − 1`` before it (of as many as there are)."""
    held, place = window.values, window.place
    if len(held) < window.size or place >= count - 1:
        end = len(held) if len(held) < window.size else place
        some = held[max(0, end - count + 1) : end]
    else:
        some = held[place - count + 1 :] + held[:place]
    return (sum(some) + value) / (len(some) + 1)
