"""Charters, arms, policies and propensities: deciding in process."""

from flywheel.policy.arm_spec import ArmSpec
from flywheel.policy.charter import Charter, PolicySpec
from flywheel.policy.charter_yaml import CharterInvalid, Problem, parse_charter
from flywheel.policy.constrained import Constraint, constrain
from flywheel.policy.decide import (
    Arm,
    CompiledPolicy,
    DecideRequest,
    Decision,
    Outlook,
    compile_policy,
    decide,
    default_arm,
)
from flywheel.policy.decision_record import decision_event
from flywheel.policy.posterior import build_policy, choice_probabilities
from flywheel.policy.pressure import Belief, Charged, worth_it
from flywheel.policy.propensity import Propensities
from flywheel.policy.reward import Attempt, Composition, RewardRule, compose
from flywheel.policy.summary import Evidence, Summary, nano, span_bounds, unit_of, weigh

__all__ = [
    "Arm",
    "ArmSpec",
    "Attempt",
    "Belief",
    "Charged",
    "Charter",
    "CharterInvalid",
    "CompiledPolicy",
    "Composition",
    "Constraint",
    "DecideRequest",
    "Decision",
    "Evidence",
    "Outlook",
    "PolicySpec",
    "Problem",
    "Propensities",
    "RewardRule",
    "Summary",
    "build_policy",
    "choice_probabilities",
    "compile_policy",
    "compose",
    "constrain",
    "decide",
    "decision_event",
    "default_arm",
    "nano",
    "parse_charter",
    "span_bounds",
    "unit_of",
    "weigh",
    "worth_it",
]
