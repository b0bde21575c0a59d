"""Off-policy evaluation and confidence sequences: what another policy would have earned, and how sure that is."""

from flywheel.stats.gate import Diagnosis
from flywheel.stats.logged import Log, Weighed
from flywheel.stats.offpolicy import Bounds, Estimate, Evaluation, better, evaluate

__all__ = ["Bounds", "Diagnosis", "Estimate", "Evaluation", "Log", "Weighed", "better", "evaluate"]
