"""What a detector says: a score for every observation, and now and then an alarm with its evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["anomaly", "level_change", "drift", "silence"]


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something to look at.

    ``expected`` and ``observed`` are in the units of the series (for silence: seconds between observations; for drift:
    mean absolute normal score of ranks, 0.8 where nothing changed); ``statistic`` and ``threshold`` are the detector's
    own, and ``statistic >= threshold``. ``since_us`` says when it is likely to have begun (microseconds since the
    epoch).
    """

    kind: Kind
    at_us: int
    since_us: int
    expected: float
    observed: float
    statistic: float
    threshold: float
    method: str


@dataclass(frozen=True, slots=True)
class Scored:
    """One observation judged by what came before it.

    ``score`` lies in [0, 1] and is 0 where one of the last 100 observations was more surprising; 0.5 is the default
    threshold. ``surprise`` is the same without that suppression.
    """

    at_us: int
    value: float
    expected: float
    score: float
    surprise: float
    alarms: tuple[Alarm, ...] = ()
