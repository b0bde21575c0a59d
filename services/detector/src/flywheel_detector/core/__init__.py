"""The detector's two stages, pure: facts to observations in one order, observations to alerts."""

from flywheel_detector.core.alerting import AlertTerms
from flywheel_detector.core.detect import DetectFold, DetectSettings
from flywheel_detector.core.intake import INPUTS, IntakeFold, IntakeSettings
from flywheel_detector.core.ledger import LEDGER, tick_entry

__all__ = [
    "INPUTS",
    "LEDGER",
    "AlertTerms",
    "DetectFold",
    "DetectSettings",
    "IntakeFold",
    "IntakeSettings",
    "tick_entry",
]
