"""Everything that is looked for in one series, in one pass: the default detector set."""

from __future__ import annotations

from math import isfinite
from typing import ClassVar, Final

from flywheel.detect.alarms import Alarm, Scored
from flywheel.detect.anomaly import REFRACTORY, TYPICAL_SURPRISE, AnomalyScorer
from flywheel.detect.edetector import RUN_LENGTH, ChangeDetector
from flywheel.detect.season import DailySeason
from flywheel.detect.silence import SilenceDetector
from flywheel.detect.state import Stateful

WARM_UP: Final = 256
SCORE_THRESHOLD: Final = 0.5
LARGEST: Final = 1e150
"""Values beyond it are cut to it: their squares would not fit a float."""


class SeriesDetector(Stateful):
    """Scores every observation and alarms on anomalies, level changes, drift of the spread, and silence.

    An anomaly is told once: not again within 100 observations of a score that would have told it.

    Online: ``update`` judges an observation by those before it and itself, then learns from it. Levels and spreads are
    watched on what the daily season leaves, once it is known and predicts better than the level; when that turns, both
    detectors start anew. Memory is bounded: some 100 KB as JSON at most.
    """

    __slots__ = ("changes", "quiet_until", "scorer", "season", "seasonal", "seen", "silence", "spread", "times")
    PARTS: ClassVar = {
        "changes": ChangeDetector,
        "scorer": AnomalyScorer,
        "season": DailySeason,
        "silence": SilenceDetector,
        "spread": ChangeDetector,
    }

    def __init__(self, *, run_length: float = RUN_LENGTH, warm_up: int = WARM_UP, salt: str = "") -> None:
        self.scorer, self.season, self.silence = AnomalyScorer(), DailySeason(), SilenceDetector()
        self.changes = ChangeDetector(run_length=run_length, warm_up=warm_up, salt=salt)
        self.spread = ChangeDetector(run_length=run_length, warm_up=warm_up, salt=f"{salt}/spread")
        self.seasonal = False
        self.seen = 0
        self.quiet_until = 0
        self.times: list[int] = []

    def update(self, at_us: int, value: float) -> Scored:
        """Judge and learn an observation at a time (microseconds since the epoch); a late one is judged as it comes.

        Raises ``ValueError`` for a value that is not finite.
        """
        if not isfinite(value):
            raise ValueError("value: not a finite number")
        value = max(-LARGEST, min(LARGEST, value))
        usual = self.season.expected(at_us)
        surprise, score = self.scorer.update(value, None if usual is None else value - usual)
        expected = usual if usual is not None and self.seasonal else self.season.level if self.season.total else value
        found = [
            *self._silence(at_us),
            *self._anomaly(at_us, value, expected, surprise, score),
            *self._changes(at_us, value, usual),
        ]
        self.season.update(at_us, value)
        self.seen += 1
        self._switch()
        return Scored(at_us, value, expected, score, surprise, tuple(found))

    def _silence(self, at_us: int) -> list[Alarm]:
        found = self.silence.update(at_us)
        if found is None:
            return []
        seconds = (found.typical_us / 1e6, found.gap_us / 1e6, found.gap_us / 1e6, found.limit_us / 1e6)
        method = "longer than 10 medians and 3 maxima of the last 64 intervals"
        return [Alarm("silence", at_us, found.since_us, *seconds, method)]

    def _anomaly(self, at_us: int, value: float, expected: float, surprise: float, score: float) -> list[Alarm]:
        if score < SCORE_THRESHOLD:
            return []
        told, self.quiet_until = self.seen < self.quiet_until, self.seen + REFRACTORY
        if told:
            return []
        evidence = (expected, value, surprise, TYPICAL_SURPRISE)
        return [Alarm("anomaly", at_us, at_us, *evidence, "-log10 of the pooled tail probability")]

    def _changes(self, at_us: int, value: float, usual: float | None) -> list[Alarm]:
        if self.seasonal and usual is None:
            return []
        base = usual if self.seasonal and usual is not None else 0.0
        self._remember(at_us)
        whitener = self.changes.whitener
        off = abs(value - base - whitener.mean) if whitener.count else None
        change = self.changes.update(value - base)
        if change is not None:
            self.season.shift(change.since - change.before) if self.seasonal else None
            self.spread.forget()
            since = self._time(change.length)
            evidence = (base + change.before, base + change.since, change.statistic, change.threshold)
            return [Alarm("level_change", at_us, since, *evidence, "e-detector on sequential ranks")]
        if off is None or self.changes.few.holds:
            return []
        drift = self.spread.update(off)
        if drift is None:
            return []
        since = self._time(drift.length)
        evidence = (drift.before, drift.since, drift.statistic, drift.threshold)
        return [Alarm("drift", at_us, since, *evidence, "e-detector on sequential ranks of absolute deviations")]

    def _switch(self) -> None:
        """Begin or end to take the season out; what was learned of levels is then of no use."""
        if self.season.useless if self.seasonal else self.season.useful:
            self.seasonal = not self.seasonal
            self.changes.forget()
            self.spread.forget()

    def _remember(self, at_us: int) -> None:
        self.times.append(max(at_us, self.times[-1]) if self.times else at_us)
        if len(self.times) > 2_048:
            del self.times[:1_024]

    def _time(self, ago: int) -> int:
        return self.times[-min(ago, len(self.times))]
