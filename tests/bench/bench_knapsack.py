"""How much of the possible reward a budget buys while the arms are still being learned, beside spending as it comes.

A day of requests, eight arms; dear arms are mostly better, and the budget pays for a part of what the best one would
cost. As in the services: the guard's forecast of calls and price of money, the router's choice of arms that are worth
it, a charter's default policy drawn from what stays with each arm charged its bound at that price, a hard budget of the
same amount; policies are published and the guard reads as the day goes by. It is the first day: nothing is known of
arms, calls or price before it. The oracle knows every arm's mean reward and cost: the best mix of arms that keeps the
budget in the mean (the linear program that bounds every policy: Badanidiyuru, Kleinberg and Slivkins, 2013). So what is
missed holds what learning eight arms costs, and a longer day misses less. The baseline is the same without a price: the
best arm until the money is gone.
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
    Charged,
    CompiledPolicy,
    DecideRequest,
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
DAYS = ((0.25, ROUNDS), (0.5, ROUNDS), (0.75, ROUNDS), (0.25, 2_500), (0.25, 20_000))
"""The budget, as a share of what the arm with the largest mean reward would cost, and the day's requests."""


@dataclass(frozen=True, slots=True)
class World:
    """``reward`` and ``cost`` (K,): means, the cost in US dollars; ``amount``: the budget of a day of ``rounds``
    requests, in US dollars."""

    reward: np.ndarray
    cost: np.ndarray
    amount: float
    rounds: int

    @property
    def oracle(self) -> float:
        """Largest expected reward of a day within the budget; a request may also go unserved."""
        found = linprog(-self.reward, [self.cost, np.ones(ARMS)], [self.amount / self.rounds, 1.0])
        return -float(found.fun) * self.rounds


def world(seed: int, squeeze: float, rounds: int = ROUNDS) -> World:
    """Arms from a tenth of a cent to ten cents; the dearer the better, more or less."""
    random = np.random.default_rng([seed, round(100 * squeeze)])
    cost = np.exp(np.sort(random.uniform(math.log(0.001), math.log(0.1), ARMS)))
    reward = np.clip(np.linspace(0.35, 0.9, ARMS) + random.normal(0.0, 0.08, ARMS), 0.05, 0.98)
    return World(reward, cost, squeeze * float(cost[reward.argmax()]) * rounds, rounds)


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
    calls = Forecaster.for_window(DAY_US)
    calls.observe(START_US, START_US, 0)
    amount, spent, served, earned = round(played.amount * PICO_PER_USD), 0, 0, 0.0
    bounds = [float(cost) * BOUND for cost in played.cost]
    for round_, share in enumerate(np.sort(random.uniform(0.0, 1.0, played.rounds))):
        at_us = START_US + int(share * DAY_US)
        left = (amount - spent) / PICO_PER_USD
        payable = sum(1 << arm for arm, bound in enumerate(bounds) if bound <= left)
        if not payable:
            continue
        open_arms, charges = payable, tuple[float, ...]()
        if paced and (price := pressure.price_of_money):
            beliefs = learner.policy.beliefs((), (1 << ARMS) - 1)
            charged = [
                Charged(1 << arm, beliefs[arm], price * bounds[arm]) for arm in range(ARMS) if payable >> arm & 1
            ]
            open_arms = worth_it(charged)
            charges = tuple(arm.charge for arm in charged if arm.bit & open_arms)
        request = DecideRequest("default", "f", f"{seed}/{round_}")
        arm = int(decide(learner.policy, request, at_us, allowed=open_arms, charges=charges).arm)
        earned += float(played.reward[arm])
        spent += round(float(played.cost[arm]) * random.uniform(2 - BOUND, BOUND) * PICO_PER_USD)
        served += 1
        calls.observe(at_us, START_US, served)
        learner.summary.add(unit_of(at_us), str(arm), nano(float(random.random() < played.reward[arm])))
        if round_ % EVERY == EVERY - 1:
            learner.policy = learner.published()
        if at_us - max(pressure.at_us, START_US) >= DAY_US // READINGS:
            expected = calls.forecast(at_us, START_US, START_US + DAY_US, 0)
            in_proportion = served * (START_US + DAY_US - at_us) / (at_us - START_US)
            pressure = pressure.adjusted(
                at_us=at_us, window_us=DAY_US, left_pico=amount - spent, total_pico=spent, calls=served,
                calls_to_come=in_proportion if expected is None else expected.mean_pico,
            )  # fmt: skip
    return earned / played.oracle, spent / amount


def main() -> int:
    """Measure and write."""
    for squeeze, rounds in DAYS:
        found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for seed in range(SEEDS):
            for paced, results in found.items():
                results.append(play(world(seed, squeeze, rounds), seed, paced=paced))
        rewards = [reward for reward, _ in found[True]]
        half = 1.96 * statistics.stdev(rewards) / math.sqrt(SEEDS)
        spent = [100 * used for _, used in found[True]]
        note = (
            f"{SEEDS} seeds, {rounds} requests; 95 % interval of the mean ± {100 * half:.2f}, worst seed "
            f"{100 * min(rewards):.1f}; spent of the budget at most {max(spent):.2f} %, "
            f"in the mean {statistics.fmean(spent):.1f} %"
        )
        name = f"knapsack_{round(100 * squeeze)}" + ("" if rounds == ROUNDS else f"_of_{rounds}")
        write(
            Result(
                name, 100 * statistics.fmean(rewards), "% of the oracle",
                100 * statistics.fmean(reward for reward, _ in found[False]), "no price of money", COMMAND, note,
            )
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
