"""Which arms are worth their money while money is short.

A budget under pressure publishes a price of money: the reward that a dollar must bring to be worth spending now. An arm
stays where what it is expected to bring beyond the cheapest one, per dollar it costs beyond the cheapest one, is at
least that price: the Lagrangian of maximising reward under a cost constraint, as in bandits with knapsacks
(Badanidiyuru, Kleinberg and Slivkins, 2013), applied to the choice of one call. So features where money buys little go
down first, whoever came first. The propensities are those of the arms that stay, and are logged as such.

An arm is given what it may well bring, not what it brought: one that was unlucky in its first calls would be dropped
for good otherwise, as nothing more is learned of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

OPTIMISM: Final = 1.645
"""Standard deviations of belief by which an arm's reward is hoped to be larger: it is so in one of 20 cases."""


class Priced(NamedTuple):
    """An arm under pressure: its bit, the reward it may well bring, cost in US dollars and the price of money that
    holds for it."""

    bit: int
    reward: float
    cost_usd: float
    price: float


def worth_it(arms: Sequence[Priced]) -> int:
    """Return the bits of the arms that are worth their money; the cheapest always is (of several, the best).

    Costs need only be right up to a common factor: the price is raised until spending fits and takes it up.
    """
    if not arms:
        return 0
    base = min(arms, key=lambda arm: (arm.cost_usd, -arm.reward))
    kept = base.bit
    for arm in arms:
        if arm.reward - base.reward >= arm.price * (arm.cost_usd - base.cost_usd):
            kept |= arm.bit
    return kept
