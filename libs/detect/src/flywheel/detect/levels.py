"""Level changes and drift of one series: the e-detectors on what the day's swing leaves."""

from __future__ import annotations

from math import pi, sqrt
from typing import ClassVar, Final, Literal

from flywheel.detect.alarms import Alarm
from flywheel.detect.clipping import Clipper
from flywheel.detect.edetector import RUN_LENGTH, Change, ChangeDetector
from flywheel.detect.near import ALLOWANCE, NearLevel
from flywheel.detect.season import DailySeason
from flywheel.detect.state import Stateful

WARM_UP: Final = 256
"""Twice the change detector's own, so that a slow swing shows in the over-dispersion before bets begin."""
MOST_TIMES: Final = 2_048
MOST_LEVEL: Final = 1_000

Basis = Literal["plain", "near", "season"]


class LevelDetector(Stateful):
    """Alarms when the level or the spread of a series is another than it was, at a stated rate of false alarms.

    What is judged, the basis, is a value's difference from the shape of the day (``season``), which is 0 where there is
    none. Two days must have been seen to know it; until then a swing within the day is not to be told from a change
    that lasts, so it is the difference from the level a little while before (``near``), which tells jumps. A series
    of at most 12 different values (errors, grades) is judged as it is (``plain``), but for a season that is beyond
    doubt. When the basis turns, the one before is judged until the detector on the new one is warm.

    The shape is learned from values whose outliers are cut, where there are more than 12 of them.

    The spread is that of the absolute normal scores of the level's ranks, which are independent while nothing changes,
    as deviations from an estimated mean are not. It is watched where a series has more than 12 different values, from
    when two days tell that there is no season, and of a seasonal one from the seventh day on, as deviations shrink
    while the season is learned. Each of the two errs at most as often as ``ChangeDetector`` says.
    """

    __slots__ = (
        "basis",
        "changes",
        "clipper",
        "level",
        "many",
        "near",
        "season",
        "spread",
        "times",
        "turning",
        "turns_to",
    )
    PARTS: ClassVar = {
        "changes": ChangeDetector,
        "clipper": Clipper,
        "near": NearLevel,
        "season": DailySeason,
        "spread": ChangeDetector,
        "turning": ChangeDetector,
    }

    def __init__(self, *, run_length: float = RUN_LENGTH, warm_up: int = WARM_UP, salt: str = "") -> None:
        self.season, self.near = DailySeason(), NearLevel(f"{salt}/near")
        self.changes = ChangeDetector(run_length=run_length, warm_up=warm_up, salt=salt)
        self.spread = ChangeDetector(run_length=run_length, warm_up=warm_up, salt=f"{salt}/spread")
        self.clipper = Clipper()
        self.level = 0.0
        self.basis: Basis = "plain"
        self.turning: ChangeDetector | None = None
        self.turns_to: Basis = "plain"
        self.many = False
        self.times: list[int] = []

    @property
    def deviation(self) -> float:
        """Standard deviation from what is usual, outliers cut: √(π/2) mean absolute deviations, as of normal values."""
        return sqrt(pi / 2.0) * self.clipper.spread

    def expected(self, at_us: int) -> float | None:
        """What is usual at a time: the level and what the shape of the day adds to it, if that is of use; None at
        first."""
        if not self.season.total:
            return None
        return self.level + self.season.shape(at_us)

    def update(self, at_us: int, value: float) -> Alarm | None:
        """Take in an observation, a finite number, at a time (microseconds since the epoch)."""
        self._remember(at_us)
        near = self.near.update(at_us, value) if self.basis == "near" or not self.season.known else None
        shape = self.season.shape(at_us)
        judged: dict[Basis, float | None] = {"plain": value, "near": near, "season": value - shape}
        self._turn(judged)
        found = self._watch(at_us, judged[self.basis], value)
        kept = self.clipper.cut(value, shape)
        self.season.update(at_us, kept if self.many else value)
        self.level += (value - shape - self.level) / min(self.season.total, MOST_LEVEL)
        return found

    def forget(self) -> None:
        """What comes is the normal level; the shape of the day is still known."""
        self.changes.forget()
        self.spread.forget()
        self.near.begin()
        self.season.split()
        self.turning = None

    def _turn(self, judged: dict[Basis, float | None]) -> None:
        """Warm a detector on the basis that is now the right one, and judge by it once it is warm."""
        self.many = self.many or (self.basis == "plain" and not self.changes.few.holds)
        wanted: Basis = "near" if self.many else "plain"
        if self.season.useful or (self.many and self.season.known):
            wanted = "season"
        if wanted == self.basis:
            self.turning = None
            return
        if self.turning is None or self.turns_to != wanted:
            self.turning = ChangeDetector(
                run_length=self.changes.run_length, warm_up=self.changes.warm_up, salt=self.changes.salt,
                allowance=ALLOWANCE if wanted == "near" else 1.0,
            )  # fmt: skip
            self.turns_to = wanted
        figure = judged[wanted]
        if self.turning.count >= self.turning.warm_up:
            self.turning.run_length = self.changes.run_length
            self.changes, self.basis, self.turning = self.turning, wanted, None
            self.spread.forget()
        elif figure is not None:
            self.turning.update(figure)

    def _watch(self, at_us: int, figure: float | None, value: float) -> Alarm | None:
        change = None if figure is None else self.changes.update(figure)
        if change is not None:
            return self._changed(at_us, change, value - (figure or 0.0))
        settled = self.season.mature or not self.season.useful
        if self.basis != "season" or self.changes.few.holds or not settled:
            return None
        drift = self.spread.update(abs(self.changes.score))
        if drift is None:
            return None
        self.changes.forget()
        since = self._time(drift.length)
        evidence = (drift.before, drift.since, drift.statistic, drift.threshold)
        return Alarm("drift", at_us, since, *evidence, "e-detector on sequential ranks of absolute normal scores")

    def _changed(self, at_us: int, change: Change, base: float) -> Alarm:
        before, since = base + change.before, base + change.since
        if self.basis == "near":
            before, since = self.near.before(change.length), self.near.since(change.length)
        self.season.split()
        self.level += since - before
        self.clipper.centre += since - before
        self.spread.forget()
        self.near.begin()
        self.turning = None
        evidence = (before, since, change.statistic, change.threshold)
        return Alarm("level_change", at_us, self._time(change.length), *evidence, "e-detector on sequential ranks")

    def _remember(self, at_us: int) -> None:
        self.times.append(max(at_us, self.times[-1]) if self.times else at_us)
        if len(self.times) > MOST_TIMES:
            del self.times[: MOST_TIMES // 2]

    def _time(self, ago: int) -> int:
        return self.times[-min(ago, len(self.times))]
