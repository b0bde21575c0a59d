"""The bandit's two stages, pure: facts to outcomes and sums, sums to policies."""

from flywheel_bandit.core.charters import CharterBook, charter_problem
from flywheel_bandit.core.intake import INPUTS
from flywheel_bandit.core.outcomes import JoinSettings, OutcomeFold
from flywheel_bandit.core.policies import PolicyFold

__all__ = ["INPUTS", "CharterBook", "JoinSettings", "OutcomeFold", "PolicyFold", "charter_problem"]
