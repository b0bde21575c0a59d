"""Budgets: what is declared, their windows and scopes, and money in whole picodollars."""

from flywheel.budget.declared import DIMENSIONS, Budget, BudgetInvalid, Mode, Per, changed_identity, check
from flywheel.budget.money import PICO_PER_USD, to_pico, to_usd
from flywheel.budget.scopes import (
    Dimensions,
    Instance,
    Matcher,
    budget_key_of,
    dimensions_of_call,
    dimensions_of_decision,
    instance_key,
    scope_of,
)
from flywheel.budget.windows import Window, Windows, slot_us, window_id, window_start, windows_of

__all__ = [
    "DIMENSIONS",
    "PICO_PER_USD",
    "Budget",
    "BudgetInvalid",
    "Dimensions",
    "Instance",
    "Matcher",
    "Mode",
    "Per",
    "Window",
    "Windows",
    "budget_key_of",
    "changed_identity",
    "check",
    "dimensions_of_call",
    "dimensions_of_decision",
    "instance_key",
    "scope_of",
    "slot_us",
    "to_pico",
    "to_usd",
    "window_id",
    "window_start",
    "windows_of",
]
