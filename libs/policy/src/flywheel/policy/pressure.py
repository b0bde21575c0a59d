"""Which arms are worth their money while money is short, and what choosing one is charged.

A budget under pressure publishes a price of money: the reward that a dollar must bring to be worth spending now. Every
arm is then charged what it costs at that price, and the policy's own rule chooses by reward less charge: the Lagrangian
of maximising reward under a cost constraint, as in bandits with knapsacks (Badanidiyuru, Kleinberg and Slivkins, 2013),
with Thompson sampling as Ferreira, Simchi-Levi and Wang (2018) do it. So features where money buys little go down
first, whoever came first. The propensities are those of the charged choice, and are logged as such.

An arm that even with luck brings less, charges taken off, than another is expected to goes altogether: no floor of
exploring has to be paid for it. It is given what it may well bring, not what it brought: one that was unlucky in its
first calls would be dropped for good otherwise, as nothing more is learned of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

OPTIMISM: Final = 4.0
"""Standard deviations of belief by which an arm's reward is hoped to be larger. That is far beyond what is likely: an
arm that is still drawn now and then, as one unlucky in its first ten calls is in one of 100, must not be lost."""


class Belief(NamedTuple):
    """What an arm is believed to earn: mean, and standard deviation of what is believed of the mean."""

    mean: float
    sd: float


class Charged(NamedTuple):
    """An arm under pressure: its bit, what it is believed to earn, and what its cost is worth in reward."""

    bit: int
    reward: Belief
    charge: float


def worth_it(arms: Sequence[Charged]) -> int:
    """Return the bits of the arms that may be worth their money: those of which with luck (``OPTIMISM``) as much is
    left, charge taken off, as is expected to be left of any. At least one is."""
    if not arms:
        return 0
    best = max(arm.reward.mean - arm.charge for arm in arms)
    return sum(arm.bit for arm in arms if arm.reward.mean + OPTIMISM * arm.reward.sd - arm.charge >= best)
