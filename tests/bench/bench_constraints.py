"""How well a charter's `constraints` are kept while arms are still being learned, and what that costs in reward.

As in the services: exact sums of rewards and of what requests used, a policy of them every 50 requests with its prices,
arms drawn from its propensities. Four arms of random rewards, costs and shares of slow requests; dearer and slower ones
are mostly better, and nothing is known of them before. Requests come every three seconds in the mean, and half as often
again or half as rarely, in turns of an hour and a half. The bound lies half-way between what the best arm would use and
the least. The oracle knows every arm's means: the best mix that keeps the bound (the linear program that bounds every
policy: Badanidiyuru, Kleinberg and Slivkins, 2013). The baseline is the same charter without the constraint.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from harness import Result, write
from scipy.optimize import linprog

from flywheel.policy import (
    CompiledPolicy,
    DecideRequest,
    Summary,
    build_policy,
    compile_policy,
    decide,
    nano,
    parse_charter,
    unit_of,
)
from flywheel.policy.bounds import measures, uses_of
from flywheel.policy.moments import MomentSummary, outcome_vector
from flywheel.policy.reward import Composition
from flywheel.policy.uses import UseSummary

COMMAND = "python tests/bench/run.py constraints"
ARMS, ROUNDS, SEEDS, EVERY = 4, 4_000, 20, 50
START_US, GAP_S = 1_795_200_000_000_000, 3.0
SLOW_MS, FAST_MS, BOUND_MS = 4000.0, 900.0, 3000
FREE = "{error_rate: 0.5}"
"""A constraint that has no price."""


@dataclass(frozen=True, slots=True)
class World:
    """``reward`` (contexts, K), ``cost`` (K,) in US dollars and ``slow`` (K,), a share: means. ``dollars`` and
    ``share``: what a request may use in the mean."""

    reward: np.ndarray
    cost: np.ndarray
    slow: np.ndarray
    dollars: float
    share: float

    def oracle(self, limits: Sequence[tuple[np.ndarray, float]]) -> float:
        """Largest expected reward of a request within the limits."""
        contexts = len(self.reward)
        found = linprog(
            -self.reward.ravel() / contexts,
            A_ub=[np.tile(use, contexts) / contexts for use, _ in limits],
            b_ub=[most for _, most in limits],
            A_eq=np.kron(np.eye(contexts), np.ones(ARMS)),
            b_eq=np.ones(contexts),
        )
        return -float(found.fun)


def world(seed: int, contexts: int) -> World:
    """Arms from a tenth of a cent to five cents, slow in 1 to 30 % of requests."""
    random = np.random.default_rng([seed, 3])
    cost = np.exp(np.sort(random.uniform(math.log(0.001), math.log(0.05), ARMS)))
    slow = np.sort(random.uniform(0.01, 0.3, ARMS)) * random.uniform(0.7, 1.0, ARMS)
    reward = np.linspace(0.45, 0.85, ARMS) + random.normal(0.0, 0.05, (contexts, ARMS))
    reward = np.clip(reward + 0.15 * random.normal(0.0, 1.0, (contexts, ARMS)) * (contexts > 1), 0.05, 0.97)
    best = reward.argmax(axis=1)
    return World(
        reward,
        cost,
        slow,
        dollars=float((cost[best].mean() + cost.min()) / 2),
        share=float((slow[best].mean() + slow.min()) / 2),
    )


class Learner:
    """A charter over exact sums."""

    def __init__(self, constraints: str, kind: str) -> None:
        arms = ", ".join(f"{{name: '{arm}', model: m}}" for arm in range(ARMS))
        features = ", features: [{name: long, kind: flag}]" if kind == "linear_thompson" else ""
        self.charter = parse_charter(
            f"feature: f\nquality: {{q: 1}}\nreward: {{min: 0, max: 1}}\nconstraints: {constraints}\narms: [{arms}]\n"
            f"policy: {{kind: {kind}, explore_floor: 0.01{features}}}"
        )
        self.names = measures(self.charter.constraints)
        self.summary, self.uses, self.moments, self.version = Summary(), UseSummary(), MomentSummary(), 0

    def published(self) -> CompiledPolicy:
        """The policy of what was learned so far."""
        self.version += 1
        return compile_policy(
            build_policy(
                self.charter, charter_revision=1, charter_digest="d", policy_version=self.version, occurred_at_us=0,
                summaries=[self.summary], moments=[self.moments], uses=[self.uses],
            )
        )  # fmt: skip


def play(played: World, constraints: str, kind: str, seed: int) -> tuple[float, float, float, float]:
    """Return the expected reward, the cost and the share of slow requests of a request, and the requests an hour, from
    the first one on."""
    random, learner = np.random.default_rng([seed, 7]), Learner(constraints, kind)
    policy, at_s = learner.published(), 0.0
    earned = spent = slow = 0.0
    for number in range(ROUNDS):
        at_s += random.exponential(GAP_S / (1.5 if at_s % 10_800 < 5_400 else 0.5))
        context = int(random.integers(len(played.reward)))
        at_us = START_US + int(at_s * 1e6)
        made = decide(policy, DecideRequest("default", "f", f"{seed}/{number}", {"long": bool(context)}), at_us)
        arm = int(made.arm)
        cost, late = float(played.cost[arm]) * random.uniform(0.5, 1.5), random.random() < played.slow[arm]
        reward = float(random.random() < played.reward[context, arm])
        earned, spent, slow = earned + float(played.reward[context, arm]), spent + cost, slow + late
        used = Composition(True, 0, reward, Decimal(f"{cost:.9f}"), SLOW_MS if late else FAST_MS, {}, ())
        learner.summary.add(unit_of(at_us), made.arm, nano(reward))
        learner.uses.add(unit_of(at_us), made.arm, uses_of(learner.names, used, {}))
        if made.features:
            learner.moments.add(unit_of(at_us), made.arm, outcome_vector(made.features, reward, (0.0, 1.0)))
        if number % EVERY == EVERY - 1:
            policy = learner.published()
    return earned / ROUNDS, spent / ROUNDS, slow / ROUNDS, ROUNDS * 3600 / at_s


def measure(name: str, kind: str, *, money: bool) -> None:
    """Play every seed and write reward and use."""
    rewards, uses, free = [], [], []
    for seed in range(SEEDS):
        played = world(seed, 2 if kind == "linear_thompson" else 1)
        if money:
            bound, use, constraints = played.dollars, played.cost, f"{{cost_usd: {played.dollars:.6f}}}"
            if name == "usd_per_hour":
                constraints = f"{{usd_per_hour: {played.dollars * 3600 / GAP_S:.6f}}}"
        else:
            # Shares are scaled so that the bound, half-way between the best arm and the least, is the 5 % of a p95.
            bound, use, constraints = 0.05, played.slow * (0.05 / played.share), f"{{p95_latency_ms: {BOUND_MS}}}"
            played = World(played.reward, played.cost, use, played.dollars, 0.05)
        found = [play(played, each, kind, seed) for each in (constraints, FREE)]
        if name == "usd_per_hour":
            bound *= 3600 / GAP_S / found[0][3]
        rewards.append(100 * found[0][0] / played.oracle([(use, bound)]))
        uses.append(100 * found[0][1 if money else 2] / bound)
        free.append(100 * found[1][1 if money else 2] / bound)
    half = 1.96 * statistics.stdev(rewards) / math.sqrt(SEEDS)
    spread = 1.96 * statistics.stdev(uses) / math.sqrt(SEEDS)
    note = (
        f"{SEEDS} seeds, {ROUNDS} requests from nothing; ± {spread:.1f} (95 %), at most {max(uses):.0f}; reward "
        f"{statistics.fmean(rewards):.1f} ± {half:.1f} % of the oracle's, worst seed {min(rewards):.1f}"
    )
    write(
        Result(
            f"constraints_{name}", statistics.fmean(uses), "% of bound", statistics.fmean(free), "no constraint",
            COMMAND, note,
        )
    )  # fmt: skip
    print(f"  {note}", flush=True)


def main() -> int:
    """Measure and write."""
    measure("p95", "thompson", money=False)
    measure("usd_per_hour", "thompson", money=True)
    measure("cost_usd", "thompson", money=True)
    measure("p95_by_context", "linear_thompson", money=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
