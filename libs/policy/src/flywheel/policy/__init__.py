"""Charters, arms, policies and propensities: deciding in process."""

from flywheel.policy.charter import ArmSpec, Charter, PolicySpec
from flywheel.policy.charter_yaml import CharterInvalid, Problem, parse_charter
from flywheel.policy.decide import CompiledPolicy, DecideRequest, Decision, compile_policy, decide, decision_event
from flywheel.policy.posterior import build_policy, choice_probabilities
from flywheel.policy.propensity import Propensities
from flywheel.policy.reward import Attempt, Composition, RewardRule, compose
from flywheel.policy.summary import Evidence, Summary, nano, span_bounds, unit_of, weigh

__all__ = [
    "ArmSpec",
    "Attempt",
    "Charter",
    "CharterInvalid",
    "CompiledPolicy",
    "Composition",
    "DecideRequest",
    "Decision",
    "Evidence",
    "PolicySpec",
    "Problem",
    "Propensities",
    "RewardRule",
    "Summary",
    "build_policy",
    "choice_probabilities",
    "compile_policy",
    "compose",
    "decide",
    "decision_event",
    "nano",
    "parse_charter",
    "span_bounds",
    "unit_of",
    "weigh",
]
