"""Worlds in which one parameter of an arm is tuned: a curve of mean rewards along the grid, played by policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.policy import Charter, Summary, build_policy, nano, parse_charter

Array = NDArray[np.float64]

UNIMODAL = (0.3, 0.48, 0.62, 0.72, 0.78, 0.8, 0.78)
"""A smooth curve of 7 points, the best the sixth."""
FLAT = (0.7,) * 7


@dataclass(frozen=True, slots=True)
class Played:
    """``shares`` (P, V): probability of each point by published policy; ``tried`` (V,): outcomes of each point;
    ``regret``: reward missed against the best point of its time."""

    shares: Array
    tried: Array
    regret: float

    def favourite(self, published: int) -> int:
        """Return the point with the largest share over the ten policies up to ``published``."""
        return int(self.shares[max(0, published - 10) : published].sum(axis=0).argmax())


def charter_of(values: int, *, start: int, min_outcomes: int = 100, policy: str = "") -> Charter:
    """Return a charter that tunes one arm over so many values, with a floor of 3 %."""
    tune = (
        f"{{arm: a, param: temperature, values: {list(range(values))}, start: {start}, min_outcomes: {min_outcomes}}}"
    )
    return parse_charter(
        "feature: f\nquality: {q: 1}\nreward: {min: 0, max: 1}\narms: [{name: a, model: m}]\n"
        f"policy: {{kind: thompson, explore_floor: 0.03{policy}}}\ntune: [{tune}]"
    )


def play(
    charter: Charter, curve: Callable[[int], Sequence[float]], *, seed: int, requests: int, every: int = 100
) -> Played:
    """Play a charter with one tuned arm: requests are served by the propensities of a policy built from exact sums
    after each ``every`` outcomes, and win with the probability that ``curve`` has for the point at that request."""
    random = np.random.default_rng(seed)
    (spec,) = charter.tune
    names = spec.names()
    summary, shares, tried, regret = Summary(), [], np.zeros(len(names)), 0.0
    for first in range(0, requests, every):
        event = build_policy(
            charter, charter_revision=1, charter_digest="d", policy_version=first + 1, occurred_at_us=0,
            summaries=[summary],
        )  # fmt: skip
        share = np.array([arm["propensity"] for arm in event["arms"]])
        shares.append(share)
        drawn = random.choice(len(names), size=every, p=share / share.sum())
        luck = random.random(every)
        for at, place in enumerate(drawn.tolist(), first):
            means = curve(at)
            summary.add(at, names[place], nano(float(luck[at - first] < means[place])))
            regret += max(means) - means[place]
        np.add.at(tried, drawn, 1.0)
    return Played(np.array(shares), tried, regret)
