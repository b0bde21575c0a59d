"""The recorded change, played against the policy's mathematics alone: no broker, so five seeds take seconds.

Outcomes reach the policy late, as they do in the running system. The same claim about the running system is checked by
``tests/e2e/demo_seeds.py``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import pytest

from flywheel.cli.demo.staging import load_charter, reward_rule
from flywheel.policy import DecideRequest, Summary, build_policy, compile_policy, decide, nano, unit_of
from flywheel.testkit import Experiment, data_folder, recorded_prime, simulated_prime

LATE = 60
"""Requests between a decision and the moment its outcome counts."""
EVERY = 20
"""Requests between two versions of the policy."""
PER_S = 75
LAST = 300


@dataclass(frozen=True)
class Run:
    share_of_better: float
    reward: float
    fixed: dict[str, float]


def learn(experiment: Experiment, seed: int) -> Run:
    charter, _ = load_charter(experiment)
    reward_of = reward_rule(charter)
    summary, waiting, arms = Summary(), deque[tuple[int, str, float]](), []
    fixed = dict.fromkeys(experiment.arms, 0.0)
    reward, policy, number = 0.0, None, 0
    for phase in experiment.phases:
        in_phase = dict.fromkeys(experiment.arms, 0.0)
        for query in experiment.order(phase, seed=seed):
            now_us = 1_795_000_000_000_000 + number * 1_000_000 // PER_S
            while len(waiting) > LATE:
                unit, arm, earned = waiting.popleft()
                summary.add(unit, arm, nano(earned))
            if number % EVERY == 0:
                event = build_policy(
                    charter,
                    charter_revision=1,
                    charter_digest="",
                    policy_version=number + 1,
                    occurred_at_us=now_us,
                    summaries=[summary],
                )
                policy = compile_policy(event)
            request = DecideRequest(charter.project, charter.feature, f"{seed}-{phase.name}-{query.id}")
            decision = decide(policy, request, now_us)
            earned = reward_of(experiment.answer(phase, decision.arm, query))
            waiting.append((unit_of(now_us), decision.arm, earned))
            arms.append(decision.arm)
            reward += earned
            number += 1
            for arm in experiment.arms:
                in_phase[arm] += reward_of(experiment.answer(phase, arm, query))
        fixed = {arm: fixed[arm] + in_phase[arm] for arm in fixed}
    better = max(in_phase, key=lambda arm: in_phase[arm])
    return Run(arms[-LAST:].count(better) / LAST, reward, fixed)


def check(run: Run) -> None:
    assert run.share_of_better >= 0.8
    assert run.reward > max(run.fixed.values())


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_it_moves_to_the_better_model_after_the_simulated_change(seed: int) -> None:
    check(learn(simulated_prime(seed=seed), seed))


@pytest.mark.data
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_it_moves_to_the_better_model_after_the_recorded_change(seed: int) -> None:
    folder = data_folder()
    if folder is None:
        pytest.skip("the shared data folder is absent: the recorded change is not played")
    check(learn(recorded_prime(folder), seed))
