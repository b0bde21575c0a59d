"""The controller's two stages, pure: facts to one ledger, the ledger to actions."""

from flywheel_controller.core.act import ActFold
from flywheel_controller.core.intake import INPUTS, IntakeFold
from flywheel_controller.core.ledger import LEDGER

__all__ = ["INPUTS", "LEDGER", "ActFold", "IntakeFold"]
