"""Worlds in which arms with fixed rates of success are compared by an experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.policy import Charter, Summary, build_policy, nano, parse_charter


@dataclass(frozen=True, slots=True)
class Decided:
    """``winner``: place of the arm that was declared first, ``after`` so many outcomes; None where none was.
    ``won`` and ``tried``: successes and outcomes of each arm until then."""

    winner: int | None
    after: int
    won: tuple[int, ...]
    tried: tuple[int, ...]


def charter_of(arms: int, *, error: float = 0.05, policy: str = "") -> Charter:
    """Return a charter with an experiment over so many arms, all with the same share."""
    declared = ", ".join(f"{{name: a{place}, model: m}}" for place in range(arms))
    return parse_charter(
        f"feature: f\nquality: {{q: 1}}\nreward: {{min: 0, max: 1}}\narms: [{declared}]\n"
        f"policy: {{kind: experiment, error: {error}{policy}}}"
    )


def play(
    charter: Charter, rates: Callable[[int], Sequence[float]], *, seed: int, most: int, every: int = 20
) -> Decided:
    """Play an experiment until an arm is declared the winner, at most ``most`` outcomes: a policy is built from exact
    sums after each ``every`` outcomes and serves by the propensities that it publishes. ``rates``: of each arm, at an
    outcome's number."""
    random = np.random.default_rng(seed)
    names = [arm.name for arm in charter.arms]
    summary, won, tried = Summary(), np.zeros(len(names), int), np.zeros(len(names), int)
    for first in range(0, most + 1, every):
        event = build_policy(
            charter, charter_revision=1, charter_digest="d", policy_version=first + 1, occurred_at_us=0,
            summaries=[summary],
        )  # fmt: skip
        left = [place for place, trial in enumerate(event["trials"]) if not trial["out"]]
        if len(left) == 1:
            return Decided(left[0], first, tuple(won.tolist()), tuple(tried.tolist()))
        share = np.array([arm["propensity"] for arm in event["arms"]])
        drawn = random.choice(len(names), size=every, p=share / share.sum())
        luck = random.random(every)
        for at, place in enumerate(drawn.tolist(), first):
            success = bool(luck[at - first] < rates(at)[place])
            summary.add(at, names[place], nano(float(success)))
            won[place] += success
            tried[place] += 1
    return Decided(None, most, tuple(won.tolist()), tuple(tried.tolist()))
