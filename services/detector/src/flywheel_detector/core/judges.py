"""Is a score lower because answers are worse, or because who judges them judges otherwise?

A golden probe is an answer whose score is known, judged again and again: what its score deviates from the known one
says something about the evaluator only. Where probes moved when a score did, the part they moved by is the judge's.
"""

from __future__ import annotations

from math import hypot, sqrt
from statistics import fmean, pstdev
from typing import Final, NamedTuple

from flywheel_detector.core.off_level import LEAST_TO_RESOLVE, SURE, Off
from flywheel_detector.core.series import RECENT, Series

LEAST_PROBES: Final = 4
"""Probes since a change below which they say nothing of it."""
LEAST_BEFORE: Final = 32
"""And before it."""


class Moved(NamedTuple):
    """By how much a mean changed, with its standard error."""

    by: float
    error: float


def verdict_of(score: Moved, judge: Moved | None) -> str:
    """What explains a score that fell: ``judge``: the probes fell too, and what is left of the fall is none for sure;
    ``both``: the probes fell, and the score by more; ``quality``: it fell by more than the probes can have; empty where
    probes are missing, or too few to say. Sure is three standard errors."""
    if judge is None:
        return ""
    rest = score.by - judge.by
    judged = judge.by < -SURE * judge.error
    fell = rest < -SURE * hypot(score.error, judge.error)
    if judged:
        return "both" if fell else "judge"
    return "quality" if fell else ""


def moved_score(off: Off, span_us: int) -> Moved:
    """How far a score is off its level: lately, or when that was found."""
    count, mean = off.lately(span_us)
    if count < LEAST_TO_RESOLVE:
        count, mean = RECENT, off.observed
    return Moved(mean - off.expected, off.scale / sqrt(count))


def moved_probes(probes: Series, since_us: int) -> Moved | None:
    """How far the newest probes since a time lie from the usual; None where they are too few to say."""
    since = [each.value for each in probes.recent if each.at_us >= since_us]
    before = probes.levels.changes
    if len(since) < LEAST_PROBES or before.count < LEAST_BEFORE:
        return None
    off = probes.off
    usual = off.expected if off is not None and off.kind == "level_change" else probes.levels.level
    spread = max(probes.levels.deviation, pstdev(since))
    return Moved(fmean(since) - usual, spread * sqrt(1.0 / len(since) + 1.0 / before.count))
