"""Noticing that a series changed: scores for every observation, and alarms whose rate of false ones is stated.

What needs River or scipy is imported by name: ``river_detectors``, ``two_samples``, ``label_shift``.
"""

from flywheel.detect.alarms import Alarm, Kind, Scored
from flywheel.detect.anomaly import AnomalyScorer
from flywheel.detect.bounds import BoundDetector, Breach
from flywheel.detect.edetector import Change, ChangeDetector
from flywheel.detect.levels import LevelDetector
from flywheel.detect.season import DailySeason
from flywheel.detect.series import SeriesDetector
from flywheel.detect.silence import Silence, SilenceDetector
from flywheel.detect.state import StateInvalid
from flywheel.detect.traffic import TrafficChange, TrafficDetector

__all__ = [
    "Alarm",
    "AnomalyScorer",
    "BoundDetector",
    "Breach",
    "Change",
    "ChangeDetector",
    "DailySeason",
    "Kind",
    "LevelDetector",
    "Scored",
    "SeriesDetector",
    "Silence",
    "SilenceDetector",
    "StateInvalid",
    "TrafficChange",
    "TrafficDetector",
]
