"""How much of the possible reward a budget buys while the arms are still being learned, beside spending as it comes.

A day of requests, eight arms; dear arms are mostly better, and the budget pays for a part of what the best one would
cost. As in the services: the guard's forecast and price of money, the router's choice of arms that are worth it, a
charter's default policy drawn from what stays, a hard budget of the same amount; policies are published and the guard
reads as the day goes by. The oracle knows every arm's mean reward and cost: the best mix of arms that keeps the budget
in the mean (the linear program that bounds every policy: Badanidiyuru, Kleinberg and Slivkins, 2013). The baseline is
the same without a price: the best arm until the money is gone.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

import numpy as np
from harness import Result, write
from scipy.optimize import linprog

from flywheel.budget.forecast import Forecaster
from flywheel.budget.pacing import PICO_PER_USD, Pressure
from flywheel.policy import (
    OPTIMISM,
    CompiledPolicy,
    DecideRequest,
    Priced,
    Summary,
    build_policy,
    compile_policy,
    decide,
    nano,
    parse_charter,
    unit_of,
    worth_it,
)

COMMAND = "python tests/bench/run.py knapsack"
ARMS, ROUNDS, SEEDS = 8, 10_000, 20
EVERY = 20
"""Requests between two policies."""
READINGS = 256
"""How often a day the guard reads what was spent, as it does."""
DAY_US = 86_400_000_000
START_US = 20_600 * DAY_US
BOUND = 1.5
"""A call costs at most so many times its arm's mean."""
SQUEEZES = (0.25, 0.5, 0.75)
"""The budget, as a share of what the arm with the largest mean reward would cost."""


@dataclass(frozen=True, slots=True)
class World:
    """``reward`` and ``cost`` (K,): means, the cost in US dollars; ``amount``: the budget, in US dollars."""

    reward: np.ndarray
    cost: np.ndarray
    amount: float

    @property
    def oracle(self) -> float:
        """Largest expected reward of a day within the budget; a request may also go unserved."""
        found = linprog(-self.reward, [self.cost, np.ones(ARMS)], [self.amount / ROUNDS, 1.0])
        return -float(found.fun) * ROUNDS


def world(seed: int, squeeze: float) -> World:
    """Arms from a tenth of a cent to ten cents; the dearer the better, more or less."""
    random = np.random.default_rng([seed, round(100 * squeeze)])
    cost = np.exp(np.sort(random.uniform(math.log(0.001), math.log(0.1), ARMS)))
    reward = np.clip(np.linspace(0.35, 0.9, ARMS) + random.normal(0.0, 0.08, ARMS), 0.05, 0.98)
    return World(reward, cost, squeeze * float(cost[reward.argmax()]) * ROUNDS)


class Learner:
    """A charter's default policy over exact summaries."""

    def __init__(self) -> None:
        arms = ", ".join(f"{{name: '{arm}', model: m}}" for arm in range(ARMS))
        self.charter = parse_charter(f"feature: f\nquality: {{q: 1}}\nreward: {{min: 0, max: 1}}\narms: [{arms}]")
        self.summary, self.version = Summary(), 0
        self.policy = self.published()

    def published(self) -> CompiledPolicy:
        """The policy of what was learned so far."""
        self.version += 1
        return compile_policy(
            build_policy(
                self.charter, charter_revision=1, charter_digest="d", policy_version=self.version, occurred_at_us=0,
                summaries=[self.summary],
            )
        )  # fmt: skip


def play(played: World, seed: int, *, paced: bool) -> tuple[float, float]:
    """Return the day's expected reward over the oracle's, and its spend over the budget."""
    random, learner, pressure = np.random.default_rng([seed, 7]), Learner(), Pressure()
    forecaster = Forecaster.for_window(DAY_US)
    forecaster.observe(START_US, START_US, 0)
    amount, spent, earned = round(played.amount * PICO_PER_USD), 0, 0.0
    bounds = [float(cost) * BOUND for cost in played.cost]
    for round_, share in enumerate(np.sort(random.uniform(0.0, 1.0, ROUNDS))):
        at_us = START_US + int(share * DAY_US)
        left = (amount - spent) / PICO_PER_USD
        payable = sum(1 << arm for arm, bound in enumerate(bounds) if bound <= left)
        if not payable:
            continue
        rewards = learner.policy.expected_rewards((), (1 << ARMS) - 1, optimism=OPTIMISM)
        price = pressure.price_of_money if paced else 0.0
        open_arms = [Priced(1 << arm, rewards[arm], bounds[arm], price) for arm in range(ARMS) if payable >> arm & 1]
        allowed = worth_it(open_arms) if price else payable
        request = DecideRequest("default", "f", f"{seed}/{round_}")
        arm = int(decide(learner.policy, request, at_us, allowed=allowed).arm)
        earned += float(played.reward[arm])
        spent += round(float(played.cost[arm]) * random.uniform(2 - BOUND, BOUND) * PICO_PER_USD)
        forecaster.observe(at_us, START_US, spent)
        learner.summary.add(unit_of(at_us), str(arm), nano(float(random.random() < played.reward[arm])))
        if round_ % EVERY == EVERY - 1:
            learner.policy = learner.published()
        if at_us - pressure.at_us >= DAY_US // READINGS:
            pressure = pressure.adjusted(
                forecaster.forecast(at_us, START_US, START_US + DAY_US, spent), at_us=at_us, end_us=START_US + DAY_US,
                window_us=DAY_US, amount_pico=amount, total_pico=spent, call_pico=spent // (round_ + 1),
            )  # fmt: skip
    return earned / played.oracle, spent / amount


def main() -> int:
    """Measure and write."""
    for squeeze in SQUEEZES:
        found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for seed in range(SEEDS):
            for paced, results in found.items():
                results.append(play(world(seed, squeeze), seed, paced=paced))
        rewards = [reward for reward, _ in found[True]]
        half = 1.96 * statistics.stdev(rewards) / math.sqrt(SEEDS)
        note = (
            f"{SEEDS} seeds, {ROUNDS} requests; 95 % interval of the mean ± {100 * half:.2f}; spent of the budget at "
            f"most {100 * max(used for _, used in found[True]):.2f} %, in the mean "
            f"{100 * statistics.fmean(used for _, used in found[True]):.1f} %"
        )
        write(
            Result(
                f"knapsack_{round(100 * squeeze)}", 100 * statistics.fmean(rewards), "% of the oracle",
                100 * statistics.fmean(reward for reward, _ in found[False]), "no price of money", COMMAND, note,
            )
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
