"""Everything that is looked for in one series, in one pass: the default detector set."""

from __future__ import annotations

from math import isfinite
from typing import ClassVar, Final

from flywheel.detect.alarms import Alarm, Scored
from flywheel.detect.anomaly import REFRACTORY, TYPICAL_SURPRISE, AnomalyScorer
from flywheel.detect.edetector import RUN_LENGTH
from flywheel.detect.levels import WARM_UP, LevelDetector
from flywheel.detect.silence import SilenceDetector
from flywheel.detect.state import Stateful

SCORE_THRESHOLD: Final = 0.5
LARGEST: Final = 1e150
"""Values beyond it are cut to it: their squares would not fit a float."""


class SeriesDetector(Stateful):
    """Scores every observation and alarms on anomalies, level changes, drift of the spread, and silence.

    Online: ``update`` judges an observation by those before it and itself, then learns from it. An anomaly is told
    once: not again within 100 observations of a score that would have told it. Memory is bounded: some 300 KB as JSON.
    """

    __slots__ = ("levels", "quiet_until", "scorer", "seen", "silence")
    PARTS: ClassVar = {"levels": LevelDetector, "scorer": AnomalyScorer, "silence": SilenceDetector}

    def __init__(self, *, run_length: float = RUN_LENGTH, warm_up: int = WARM_UP, salt: str = "") -> None:
        self.scorer, self.silence = AnomalyScorer(), SilenceDetector()
        self.levels = LevelDetector(run_length=run_length, warm_up=warm_up, salt=salt)
        self.seen = 0
        self.quiet_until = 0

    def update(self, at_us: int, value: float) -> Scored:
        """Judge and learn an observation at a time (microseconds since the epoch); a late one is judged as it comes.

        Raises ``ValueError`` for a value that is not finite.
        """
        if not isfinite(value):
            raise ValueError("value: not a finite number")
        value = max(-LARGEST, min(LARGEST, value))
        level = self.levels.expected(at_us)
        usual = level if self.levels.season.known else None
        expected = value if level is None else level
        surprise, score = self.scorer.update(value, None if usual is None else value - usual)
        found = [*self._silence(at_us), *self._anomaly(at_us, value, expected, surprise, score)]
        change = self.levels.update(at_us, value)
        if change is not None:
            found.append(change)
        self.seen += 1
        return Scored(at_us, value, expected, score, surprise, tuple(found))

    def _silence(self, at_us: int) -> list[Alarm]:
        found = self.silence.update(at_us)
        if found is None:
            return []
        seconds = (found.typical_us / 1e6, found.gap_us / 1e6, found.gap_us / 1e6, found.limit_us / 1e6)
        method = "longer than chance explains by the last 64 intervals and the hour of the week"
        return [Alarm("silence", at_us, found.since_us, *seconds, method)]

    def _anomaly(self, at_us: int, value: float, expected: float, surprise: float, score: float) -> list[Alarm]:
        if score < SCORE_THRESHOLD:
            return []
        told, self.quiet_until = self.seen < self.quiet_until, self.seen + REFRACTORY
        if told:
            return []
        evidence = (expected, value, surprise, TYPICAL_SURPRISE)
        return [Alarm("anomaly", at_us, at_us, *evidence, "-log10 of the pooled tail probability")]
