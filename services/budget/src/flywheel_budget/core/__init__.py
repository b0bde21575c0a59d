"""The budget service's two stages, pure: facts to money spent, the ledger to leases."""

from flywheel_budget.core.entries import LEDGER, tick_entry
from flywheel_budget.core.guard import GuardFold, GuardSettings
from flywheel_budget.core.intake import INPUTS
from flywheel_budget.core.spend import SpendFold, SpendSettings

__all__ = ["INPUTS", "LEDGER", "GuardFold", "GuardSettings", "SpendFold", "SpendSettings", "tick_entry"]
