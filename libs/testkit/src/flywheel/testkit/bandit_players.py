"""A charter's policy as a player in the worlds of `flywheel.testkit.bandit_worlds`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flywheel.policy import CompiledPolicy, DecideRequest, Summary, build_policy, compile_policy, decide, nano
from flywheel.policy.charter_yaml import parse_charter
from flywheel.policy.moments import MomentSummary, outcome_vector

Array = NDArray[np.float64]


class Chartered:
    """Decides by the policy of a charter, built from exact sums of what was learned; an outcome is a unit of time.

    Of ``arms`` arms, arm ``i`` has ``i + 1`` shares where the policy declares shares; the features of a request are
    numbers ``x0``, ``x1`` and so on, for the kinds that look at them.
    """

    def __init__(self, arms: int, seed: int, *, policy: str = "kind: thompson", features: int = 0) -> None:
        declared = ", ".join(f"{{name: arm-{arm}, model: m, share: {arm + 1}}}" for arm in range(arms))
        numbers = ", ".join(f"{{name: x{place}, kind: number, low: 0, high: 1}}" for place in range(features))
        looked_at = f", features: [{numbers}]" if features else ""
        self.charter = parse_charter(
            f"feature: f\nquality: {{q: 1}}\nreward: {{min: 0, max: 1}}\narms: [{declared}]\n"
            f"policy: {{{policy}{looked_at}}}"
        )
        self.summary, self.moments = Summary(), MomentSummary()
        self.seed, self.learned = seed, 0
        self.policy = self._published()

    def choose(self, round_: int, x: Array) -> int:
        """Return the arm for features ``x`` (d,) in a round."""
        request = DecideRequest("default", "f", f"{self.seed}/{round_}", self._context(x))
        return int(decide(self.policy, request, 0).arm.removeprefix("arm-"))

    def learn(self, batch: list[tuple[Array, int, float]]) -> None:
        """Learn features, arm and reward of each outcome, then publish the next policy."""
        for x, arm, reward in batch:
            name = f"arm-{arm}"
            self.summary.add(self.learned, name, nano(reward))
            if self.policy.linear is not None:
                vector = outcome_vector(self.policy.linear.features(self._context(x)), reward, (0.0, 1.0))
                self.moments.add(self.learned, name, vector)
            self.learned += 1
        self.policy = self._published()

    def _context(self, x: Array) -> dict[str, float]:
        return {f"x{place}": value for place, value in enumerate(x.tolist())}

    def _published(self) -> CompiledPolicy:
        event = build_policy(
            self.charter, charter_revision=1, charter_digest="d", policy_version=self.learned + 1, occurred_at_us=0,
            summaries=[self.summary], moments=[self.moments],
        )  # fmt: skip
        return compile_policy(event)
