"""Two arms of which one regresses: labels served and learned in turn, and the share that the arm keeps."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from flywheel.policy import (
    Charter,
    CompiledPolicy,
    DecideRequest,
    Summary,
    build_policy,
    compile_policy,
    decide,
    nano,
    parse_charter,
)

Rates = tuple[float, float]
RECORDED: Final[tuple[Rates, Rates]] = ((0.84, 0.53), (0.51, 0.78))
"""Rates of GPT-4 and GPT-3.5 at telling primes, March and June 2023 (Chen, Zaharia and Zou, 2023)."""
LEFT: Final = 0.1
"""Of its share before, what an arm has left that lost its traffic."""


class Watched(NamedTuple):
    """``before``: the first arm's share when the watch began; ``shares``: at each label from then on."""

    before: float
    shares: tuple[float, ...]

    @property
    def lost_after(self) -> int | None:
        """After how many labels the arm had lost its traffic, None where it never had."""
        return next((n for n, share in enumerate(self.shares) if share <= LEFT * self.before), None)


def charter_of(policy: str = "") -> Charter:
    """Return a charter of arms ``a`` and ``b``, the default kind with a floor of 2 %, and what else its policy says."""
    return parse_charter(
        "feature: f\nquality: {q: 1.0}\nreward: {min: 0, max: 1}\narms: [{name: a, model: m}, {name: b, model: m}]\n"
        f"policy: {{kind: thompson, explore_floor: 0.02{policy}}}"
    )


def watch(
    before: Rates, after: Rates, seed: int, *, learned: int = 600, watched: int = 150, every: int = 10, policy: str = ""
) -> Watched:
    """Serve ``learned`` labels at the rates ``before``, a policy every 50, then ``watched`` at the rates ``after``, a
    policy after each ``every``."""
    random, charter, summary = np.random.default_rng(seed), charter_of(policy), Summary()
    shares = []
    held = _published(charter, summary, 0)
    for label in range(learned + watched + 1):
        if label % (every if label >= learned else 50) == 0:
            held = _published(charter, summary, label + 1)
        if label >= learned:
            shares.append(held.subset(0b11).propensities[0])
        arm = decide(held, DecideRequest("default", "f", f"{seed}-{label}"), 0).arm
        rates = before if label < learned else after
        summary.add(label, arm, nano(float(random.random() < rates["ab".index(arm)])))
    return Watched(shares[0], tuple(shares))


def _published(charter: Charter, summary: Summary, version: int) -> CompiledPolicy:
    event = build_policy(
        charter, charter_revision=1, charter_digest="d", policy_version=version, occurred_at_us=0, summaries=[summary]
    )
    return compile_policy(event)
