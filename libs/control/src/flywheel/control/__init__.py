"""What is in force beside the policies, and the rules by which the controller changes it."""

from flywheel.control.board import ControlBoard
from flywheel.control.records import ControlInvalid, Item, Record, in_force
from flywheel.control.rules import Rule, RulesInvalid, Signal, Step, Tree, parse_rules
from flywheel.control.silences import Silence, silenced_by

__all__ = [
    "ControlBoard",
    "ControlInvalid",
    "Item",
    "Record",
    "Rule",
    "RulesInvalid",
    "Signal",
    "Silence",
    "Step",
    "Tree",
    "in_force",
    "parse_rules",
    "silenced_by",
]
