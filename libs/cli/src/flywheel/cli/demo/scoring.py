"""The scores of the demo: what Flywheel got, beside what each fixed rule would have got on the same queries. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from flywheel.testkit import Answer, Experiment, Phase, Query

RewardOf = Callable[[Answer], float]


@dataclass(frozen=True, slots=True)
class Score:
    """Of one way to choose, over one phase: share answered right 0..1, total cost in USD, total reward."""

    accuracy: float
    cost_usd: float
    reward: float


@dataclass(frozen=True, slots=True)
class Served:
    """One request as it was served: the arm that was chosen, what came back, and how long deciding took."""

    phase: str
    request_id: str
    arm: str
    answer: Answer
    propensity: float
    fallback: bool
    decide_ms: float
    decision_id: str | None


@dataclass(frozen=True, slots=True)
class PhaseScores:
    """One phase: every way to choose on the same queries, and the share of requests each arm served."""

    name: str
    requests: int
    flywheel: Score
    fixed: Mapping[str, Score]
    random: Score
    best_arm: str
    shares: Mapping[str, float]

    @property
    def best(self) -> Score:
        return self.fixed[self.best_arm]


def score(answers: Sequence[Answer], reward_of: RewardOf) -> Score:
    """The score of a list of answers; an empty list scores 0."""
    if not answers:
        return Score(0.0, 0.0, 0.0)
    cost_usd = sum((answer.cost_usd for answer in answers), Decimal(0))
    right = sum(answer.correct for answer in answers)
    return Score(right / len(answers), float(cost_usd), sum(reward_of(answer) for answer in answers))


def mean(scores: Sequence[Score]) -> Score:
    """What choosing among these at random scores in expectation."""
    n = len(scores)
    return Score(
        sum(s.accuracy for s in scores) / n,
        sum(s.cost_usd for s in scores) / n,
        sum(s.reward for s in scores) / n,
    )


def score_phase(
    experiment: Experiment, phase: Phase, asked: Sequence[Query], served: Sequence[Served], reward_of: RewardOf
) -> PhaseScores:
    """Score one phase. The best arm is the fixed arm with the highest total reward on these queries."""
    fixed = {arm: score([experiment.answer(phase, arm, q) for q in asked], reward_of) for arm in experiment.arms}
    taken = Counter(s.arm for s in served)
    return PhaseScores(
        name=phase.name,
        requests=len(served),
        flywheel=score([s.answer for s in served], reward_of),
        fixed=fixed,
        random=mean(list(fixed.values())),
        best_arm=max(experiment.arms, key=lambda arm: fixed[arm].reward),
        shares={arm: taken[arm] / len(served) if served else 0.0 for arm in experiment.arms},
    )


def quantile(values: Sequence[float], q: float) -> float:
    """The nearest-rank quantile of a non-empty list."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(q * len(ordered) + 0.5) - 1))]


def last_share(served: Sequence[Served], arm: str, last: int) -> float:
    """The share that ``arm`` served of the ``last`` requests (of all, when there were fewer)."""
    tail = served[-last:]
    return sum(s.arm == arm for s in tail) / len(tail) if tail else 0.0


def as_json(scored: Score) -> dict[str, Any]:
    return {
        "accuracy": round(scored.accuracy, 6),
        "cost_usd": round(scored.cost_usd, 9),
        "reward": round(scored.reward, 6),
    }
