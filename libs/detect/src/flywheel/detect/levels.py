"""Level changes and drift of one series: the e-detectors on what the season leaves."""

from __future__ import annotations

from typing import ClassVar, Final

from flywheel.detect.alarms import Alarm
from flywheel.detect.edetector import RUN_LENGTH, ChangeDetector
from flywheel.detect.season import DailySeason
from flywheel.detect.state import Stateful

WARM_UP: Final = 256
"""Twice the change detector's own, so that a slow swing shows in the over-dispersion before bets begin."""
MOST_TIMES: Final = 2_048


class LevelDetector(Stateful):
    """Alarms when the level or the spread of a series is another than it was, at a stated rate of false alarms.

    Both are watched on what the daily season leaves, once it is known and predicts better than the level; when that
    turns, both start anew. The spread is that of the absolute normal scores of the level's ranks, which are
    independent while nothing changes, as deviations from an estimated mean are not. It is watched where a series
    has more than 12 different values: from when two days tell whether there is a season, as a day's swing is a
    drift until then, and of a seasonal one from the seventh day on, as deviations shrink while the season is
    learned. Each of the two errs at most as often as ``ChangeDetector`` says.
    """

    __slots__ = ("changes", "season", "seasonal", "spread", "times")
    PARTS: ClassVar = {"changes": ChangeDetector, "season": DailySeason, "spread": ChangeDetector}

    def __init__(self, *, run_length: float = RUN_LENGTH, warm_up: int = WARM_UP, salt: str = "") -> None:
        self.season = DailySeason()
        self.changes = ChangeDetector(run_length=run_length, warm_up=warm_up, salt=salt)
        self.spread = ChangeDetector(run_length=run_length, warm_up=warm_up, salt=f"{salt}/spread")
        self.seasonal = False
        self.times: list[int] = []

    def expected(self, at_us: int) -> float | None:
        """What is usual at a time: the season's value where it is of use, else the level; None at first."""
        usual = self.season.expected(at_us) if self.seasonal else None
        return usual if usual is not None else self.season.level if self.season.total else None

    def update(self, at_us: int, value: float) -> Alarm | None:
        """Take in an observation, a finite number, at a time (microseconds since the epoch)."""
        usual = self.season.expected(at_us)
        found = None if self.seasonal and usual is None else self._watch(at_us, value, usual)
        self.season.update(at_us, value)
        self._switch()
        return found

    def _watch(self, at_us: int, value: float, usual: float | None) -> Alarm | None:
        base = usual if self.seasonal and usual is not None else 0.0
        self._remember(at_us)
        change = self.changes.update(value - base)
        if change is not None:
            self.season.shift(change.since - change.before)
            self.spread.forget()
            since = self._time(change.length)
            evidence = (base + change.before, base + change.since, change.statistic, change.threshold)
            return Alarm("level_change", at_us, since, *evidence, "e-detector on sequential ranks")
        settled = self.season.mature(at_us) if self.seasonal else self.season.known
        if self.changes.few.holds or not settled:
            return None
        drift = self.spread.update(abs(self.changes.score))
        if drift is None:
            return None
        self.changes.forget()
        since = self._time(drift.length)
        evidence = (drift.before, drift.since, drift.statistic, drift.threshold)
        return Alarm("drift", at_us, since, *evidence, "e-detector on sequential ranks of absolute normal scores")

    def _switch(self) -> None:
        """Begin or end to take the season out; what was learned of levels is then of no use."""
        if self.season.useless if self.seasonal else self.season.useful:
            self.seasonal = not self.seasonal
            self.changes.forget()
            self.spread.forget()

    def _remember(self, at_us: int) -> None:
        self.times.append(max(at_us, self.times[-1]) if self.times else at_us)
        if len(self.times) > MOST_TIMES:
            del self.times[: MOST_TIMES // 2]

    def _time(self, ago: int) -> int:
        return self.times[-min(ago, len(self.times))]
