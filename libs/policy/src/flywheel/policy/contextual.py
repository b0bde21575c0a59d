"""Contextual kinds: from every arm's expected reward at a request's features to the probability of choosing it.

- ``lin_ts``: Thompson sampling for linear payoffs (Agrawal and Goyal, 2013). Arms are independent given the features,
  so the probability that an arm's draw is the largest is a one-dimensional integral (``flywheel.policy.contest``). The
  default: what is random keeps exploring while rewards are late, where LinUCB repeats one arm until they come.
- ``lin_ucb``: mean + alpha · standard deviation, the largest wins (Li, Chu, Langford and Schapire, 2010).
- ``squarecb``: inverse gap weighting, ``1 / (K + γ · gap)``, the rest to the best (Abe and Long, 1999; Foster and
  Rakhlin, 2020), ``γ = gamma · √outcomes``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from flywheel.policy.contest import CONTEST_ERROR, shares_of_best
from flywheel.policy.propensity import Array, Propensities, greedy, with_floor

ContextualKind = Literal["lin_ts", "lin_ucb", "squarecb"]


def contextual_probabilities(
    kind: ContextualKind,
    mean: Array,
    sd: Array,
    *,
    explore_floor: float = 0.0,
    scale: float = 1.0,
    gamma: float = 0.0,
) -> Propensities:
    """Return the probability of each eligible arm, from mean and standard deviation (K,) of its expected reward.

    ``scale``: LinTS's v and LinUCB's alpha; ``gamma``: SquareCB's γ, outcomes already in it. ``error`` says how far the
    probabilities lie from the kind's ideal; the arm is drawn from exactly the values given.
    Raises ``ValueError`` for an unknown kind.
    """
    error = 0.0
    if kind == "lin_ts":
        values = shares_of_best(mean, sd if scale == 1.0 else scale * sd)
        error = CONTEST_ERROR if len(values) > 1 else 0.0
    elif kind == "lin_ucb":
        values = list(greedy((mean + scale * sd).tolist()))
    elif kind == "squarecb":
        values = inverse_gap_weights(mean.tolist(), gamma)
    else:
        raise ValueError(f"unknown contextual policy kind {kind!r}")
    return Propensities(with_floor(values, explore_floor) if explore_floor else tuple(values), error)


def inverse_gap_weights(means: Sequence[float], gamma: float) -> list[float]:
    """Return SquareCB's probabilities: ``1 / (K + γ(best - mean))`` for all but the first best, which has the rest."""
    best = max(means)
    first = means.index(best)
    weights = [1.0 / (len(means) + gamma * (best - mean)) for mean in means]
    weights[first] = 0.0
    weights[first] = 1.0 - math.fsum(weights)
    return weights


def squarecb_gamma(gamma: float, outcomes: float) -> float:
    """Return the γ that balances a regression error falling as 1/n: ``gamma · √n`` (Foster and Rakhlin, 2020, theorem
    1, with the horizon replaced by the outcomes so far)."""
    return gamma * math.sqrt(max(outcomes, 1.0))
