"""Whether a score that stands for an outcome still does: an arm that games a judge gets better scores without better
outcomes (Goodhart's law; Manheim and Garrabrant, 2018).

Of requests that have both, each arm is held against all others together. The lift of the score is by how much its mean
is higher than theirs, in standard deviations that it has among all; likewise of the outcome. They diverge where the
score's lift exceeds the outcome's by more than ``margin``, proven by an e-process on the requests' own differences
(``flywheel.policy.difference``), which may be looked at after every request.

Another way to please a judge is to answer everything alike. Where the length of an arm's answers hardly varies while
that of the others' does, and the score likes the arm better, that is told too (``constant_arms``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from flywheel.policy.declared_values import Declared, Number
from flywheel.policy.difference import log_evidence
from flywheel.policy.features import ONE
from flywheel.policy.linear import Moments
from flywheel.policy.moments import outcome_vector
from flywheel.policy.summary import Evidence

FALSE_DIVERGENCE = 0.01
"""Probability of ever telling of any arm of a feature where none diverges; with a half-life, of about each of them."""
MOST_PROXIES = 4
LENGTH = "output_tokens"
"""What stands for the length of an answer among the names of scores."""
LEAST_KEPT = 200
"""Outcomes of all arms that forgetting must leave for anything to be told: of each of two twice ``FEWEST``."""
LENGTHS_KEY = f"{LENGTH}|{LENGTH}"
"""Key of the sums of answers' lengths alone."""
FEWEST = 50
"""Requests of an arm, and of the others, before anything is told."""
_MOST_AT = 200.0
_SPREAD = 4.0
"""Range of a difference of two standardised scores that its variance is shrunk to: the variance is 4 at most."""
_SHRUNK = 2.0
_LEAST_VARIANCE = 1e-6
_LONGEST = math.log1p(1e6)
_CONSTANT = 0.02
VARIED = 0.2
"""Spread of lengths, of all other arms together, from which on answers are expected to differ."""


class ProxySpec(Declared):
    """A ``score`` (an evaluator or kind of feedback) that stands for another, and by how many standard deviations its
    lift may exceed the other's (``margin``)."""

    score: str = Field(min_length=1, max_length=128)
    stands_for: str = Field(min_length=1, max_length=128)
    margin: Number = Field(0.5, ge=0.1, le=10)

    @model_validator(mode="after")
    def _differs(self) -> Self:
        if self.score == self.stands_for:
            raise ValueError(f"{self.score} cannot stand for itself")
        if LENGTH in (self.score, self.stands_for):
            raise ValueError(f"{LENGTH} is no score")
        return self

    @property
    def key(self) -> str:
        """Name of the two together."""
        return f"{self.score}|{self.stands_for}"


def proxy_problem(specs: Sequence[ProxySpec], most: float) -> str | None:
    """Return what is declared twice or can never be told, with its field; None where nothing is. ``most``: outcomes
    that are not forgotten."""
    if specs and most < LEAST_KEPT:
        return f"proxies: of all arms' outcomes policy.half_life leaves {most:.0f}, and {LEAST_KEPT} are needed"
    seen: set[str] = set()
    for index, spec in enumerate(specs):
        if spec.key in seen:
            return f"proxies.{index}.score: {spec.score} stands for {spec.stands_for} already"
        seen.add(spec.key)
    return None


def pair_vector(score: float, outcome: float) -> NDArray[np.int64]:
    """Return what a request adds to the sums of a pair: score and outcome, 0 to 1, as ``flywheel.policy.moments`` has
    a feature and a reward."""
    return outcome_vector((ONE, round(score * ONE)), outcome, (0.0, 1.0))


def length_vector(score: float, tokens: int) -> NDArray[np.int64]:
    """Return what a request adds to the sums of a score with the length of its answer, in tokens, of which the
    logarithm counts."""
    return pair_vector(score, math.log1p(max(0, tokens)) / _LONGEST)


def pair_vectors(
    specs: Sequence[ProxySpec], scores: Mapping[str, float], tokens: int | None, *, lengths: bool = False
) -> list[tuple[str, list[int]]]:
    """Return what a request adds to each sum, by its key: of scores that stand for others, where it has both, and of
    scores with the length of the answer, where that is known; with ``lengths`` also of that alone."""
    found = {
        spec.key: pair_vector(scores[spec.score], scores[spec.stands_for])
        for spec in specs
        if spec.score in scores and spec.stands_for in scores
    }
    if tokens is not None:
        found |= {
            f"{spec.score}|{LENGTH}": length_vector(scores[spec.score], tokens)
            for spec in specs
            if spec.score in scores
        }
    if lengths and tokens is not None:
        found[LENGTHS_KEY] = length_vector(0.0, tokens)
    return [(key, vector.tolist()) for key, vector in found.items()]


@dataclass(frozen=True, slots=True)
class ConstantArm:
    """An arm whose answers are all about as long. ``spread`` and ``others``: standard deviations of the logarithm of
    the length, its own and that of all other arms together; ``score_lift`` in the score's own unit."""

    arm: str
    requests: float
    spread: float
    others: float
    score_lift: float


def length_spread(lengths: Moments) -> float:
    """Return the standard deviation of the logarithm of answers' lengths, from sums of ``length_vector``."""
    return _LONGEST * math.sqrt(max(0.0, lengths.squares / lengths.weight - _means(lengths)[1] ** 2))


def constant_arms(found: Mapping[str, Moments]) -> list[ConstantArm]:
    """Return the arms that a score likes better than the others though their answers are all about as long, by name.

    Told where the length of the arm's answers varies by at most 2 % (a standard deviation of .02 of its logarithm) and
    that of the others' by 20 %, over 50 requests each: were the arm's lengths as spread as the others', and normal in
    their logarithm, that would have a probability below 1e-50 (chi-square).

    Args:
        found: sums of ``length_vector`` by arm, after forgetting.
    """
    pooled = sum((found[arm] for arm in sorted(found)), Moments.none(2))
    told = []
    for arm in sorted(found):
        own, others = found[arm], pooled + found[arm].times(-1.0)
        if min(own.weight, others.weight) < FEWEST:
            continue
        spreads = [length_spread(each) for each in (own, others)]
        lift = _means(own)[0] - _means(others)[0]
        if spreads[0] <= _CONSTANT and spreads[1] >= VARIED and lift > 0:
            told.append(ConstantArm(arm, own.weight, spreads[0], spreads[1], lift))
    return told


@dataclass(frozen=True, slots=True)
class Divergence:
    """One arm against all others. ``score_lift`` and ``outcome_lift`` in standard deviations; ``log_e``: evidence that
    they differ by more than the margin; ``told``: it passes ``threshold``."""

    arm: str
    requests: float
    score_lift: float
    outcome_lift: float
    log_e: float
    threshold: float

    @property
    def told(self) -> bool:
        """Whether it is proven."""
        return self.log_e >= self.threshold


def divergences(spec: ProxySpec, found: Mapping[str, Moments], *, pairs: int) -> list[Divergence]:
    """Return each arm with enough requests, others having as many, by name.

    Args:
        found: sums of ``pair_vector`` by arm, after forgetting.
        pairs: how many a charter declares; all share ``FALSE_DIVERGENCE``.
    """
    pooled = sum((found[arm] for arm in sorted(found)), Moments.none(2))
    deviations = _deviations(pooled)
    if deviations is None:
        return []
    threshold = math.log(pairs * len(found) / FALSE_DIVERGENCE)
    told = []
    for arm in sorted(found):
        own, others = found[arm], pooled + found[arm].times(-1.0)
        if min(own.weight, others.weight) < FEWEST:
            continue
        mine, theirs = _means(own), _means(others)
        log_e = log_evidence(
            _differences(own, deviations), _differences(others, deviations), by=spec.margin, most_at=_MOST_AT,
            width=_SPREAD, prior_weight=_SHRUNK,
        )  # fmt: skip
        lifts = [(a - b) / sd for a, b, sd in zip(mine, theirs, deviations, strict=True)]
        told.append(Divergence(arm, own.weight, lifts[0], lifts[1], log_e, threshold))
    return told


def _means(moments: Moments) -> tuple[float, float]:
    return float(moments.features[0, 1] / moments.weight), float(moments.products[0] / moments.weight)


def _deviations(pooled: Moments) -> tuple[float, float] | None:
    """Return the standard deviations of score and outcome; None where one of them never varied."""
    if pooled.weight < 2 * FEWEST:
        return None
    score, outcome = _means(pooled)
    variances = (pooled.features[1, 1] / pooled.weight - score**2, pooled.squares / pooled.weight - outcome**2)
    if min(variances) < _LEAST_VARIANCE:
        return None
    return math.sqrt(variances[0]), math.sqrt(variances[1])


def _differences(moments: Moments, deviations: tuple[float, float]) -> Evidence:
    """Return the sums of ``score / sd - outcome / sd`` over requests."""
    a, b = 1 / deviations[0], 1 / deviations[1]
    total = a * moments.features[0, 1] - b * moments.products[0]
    squares = a * a * moments.features[1, 1] - 2 * a * b * moments.products[1] + b * b * moments.squares
    return Evidence(moments.weight, float(total), float(squares))
