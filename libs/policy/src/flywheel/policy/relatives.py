"""What a thin arm is believed to earn because of its relatives: partial pooling of arms (Efron and Morris, 1975; Gelman
et al., Bayesian Data Analysis, 2013, chapter 5), which replaces the declared prior of each arm.

Before any outcome the mean rewards of the arms are jointly normal, each with the declared mean and variance. Arms that
have provider, model family and prompt (by name, so versions of one prompt are relatives) in common have correlation
``near``, arms that have nothing in common ``far``, and others lie between by the share of the three; without ``prior:
shared`` both are 0. The points of a tuned arm share its level, half of the variance; the other half is a smooth curve
along the grid, with a squared exponential kernel of so many places (``LENGTHS``). How alike relatives and how smooth
curves are is read off the arms: the likelihood over all combinations, all alike at first, weighs what each implies, so
arms that turn out unlike their relatives stop speaking for one another.

An arm's prior is what the *others'* outcomes imply of it (leave-one-out, Rasmussen and Williams, 2006, 5.4.2), so its
own outcomes are counted once. It is never worth less than the declared prior and never more than ``MOST_SHARED``
outcomes, so an arm unlike its family is found out after a few more outcomes than without relatives. All is computed
from exact sums, without state: the same outcomes give the same priors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flywheel.policy.arm_spec import ArmSpec
from flywheel.policy.charter import Charter
from flywheel.policy.propensity import Array
from flywheel.policy.summary import Evidence

_STEPS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98)
CORRELATIONS = tuple((near, far) for near in _STEPS for far in _STEPS if far <= near)
"""Candidates for the correlation of arms with everything in common, and of arms with nothing in common."""
LENGTHS = (1.0, 2.0, 4.0, 8.0)
"""Candidates for the length of a tuned arm's curve, in places of its grid."""
_LEVEL = 0.5
_ROUGH = 0.02
MOST_SHARED = 8.0
"""Outcomes that a prior from relatives is worth at most, where less is declared."""
_TRIED = 0.01
_LEAST_TOLD = 0.005
_INSIDE = 0.01


@dataclass(frozen=True, slots=True)
class ArmPrior:
    """Belief about an arm before its own outcomes: ``mean`` reward worth ``weight`` outcomes. ``relatives``: by how
    much the mean moves with that of each other arm."""

    mean: float
    weight: float
    relatives: Mapping[str, float] = field(default_factory=dict)


def arm_priors(charter: Charter, evidence: Sequence[Evidence]) -> list[ArmPrior]:
    """Return the prior of each arm of a charter, in its order: the declared one, or that which its relatives imply.

    Args:
        evidence: what is known of each arm, after forgetting, in units of reward.
    """
    low, high = charter.reward_range
    declared = charter.policy.prior
    mean = (low + high) / 2 if declared.mean is None else declared.mean
    if not declared.shared and not charter.tune:
        return [ArmPrior(mean, declared.weight)] * len(charter.arms)
    centre = (mean - low) / (high - low)
    known = _known(charter, evidence, centre)
    fits = [_Fit.of(covariance, known) for covariance in _covariances(charter)]
    shares = np.exp([fit.log_likelihood for fit in fits] - np.max([fit.log_likelihood for fit in fits]))
    shares /= shares.sum()
    implied = shares @ np.array([fit.mean for fit in fits])
    spread = shares @ np.array([fit.variance + fit.mean**2 for fit in fits]) - implied**2
    told = np.tensordot(shares, np.array([fit.told for fit in fits]), axes=1)
    most = max(MOST_SHARED, declared.weight)
    names = [arm.name for arm in charter.policy_arms]
    return [
        ArmPrior(
            mean=low + (high - low) * min(1 - _INSIDE, max(_INSIDE, centre + float(implied[place]))),
            weight=min(most, max(declared.weight, 0.25 / float(spread[place]))),
            relatives={
                names[other]: float(told[place, other])
                for other in range(len(names))
                if abs(told[place, other]) >= _LEAST_TOLD
            },
        )
        for place in range(len(names))
    ]


def similarity(one: ArmSpec, other: ArmSpec) -> float:
    """Return how many of provider, model family and prompt two arms have in common, as a share of the three."""
    alike = (
        one.provider == other.provider,
        one.model_family == other.model_family,
        one.prompt_name == other.prompt_name,
    )
    return sum(alike) / len(alike)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of K arms, as shares of the range: those tried (T,), how far the mean of each lies above the
    prior's and the variance of that mean."""

    tried: np.ndarray[tuple[int], np.dtype[np.intp]]
    above: Array
    noise: Array


def _known(charter: Charter, evidence: Sequence[Evidence], centre: float) -> _Known:
    low, high = charter.reward_range
    width, weight = high - low, charter.policy.prior.weight
    tried = [place for place, found in enumerate(evidence) if found.weight >= _TRIED]
    above, noise = [], []
    for found in (evidence[place] for place in tried):
        mean = found.total / found.weight
        # Shrunk as a posterior's variance is: the largest that rewards in the range can have, until they tell.
        deviations = max(0.0, found.squares - mean * found.total) / width**2
        above.append((mean - low) / width - centre)
        noise.append((weight / 4 + deviations) / (weight + found.weight) / found.weight)
    return _Known(np.array(tried, dtype=np.intp), np.array(above), np.array(noise))


def _covariances(charter: Charter) -> list[Array]:
    """Return the prior covariance (K, K) of the arms' means under each combination, as shares of the range."""
    arms, variance = charter.arms, 0.25 / charter.policy.prior.weight
    alone = np.eye(len(arms))
    alike = np.array([[similarity(one, other) for other in arms] for one in arms])
    pairs = CORRELATIONS if charter.policy.prior.shared else ((0.0, 0.0),)
    levels = [(1 - near) * alone + (near - far) * alike + far for near, far in pairs]
    tuned = {spec.arm: len(spec.values) for spec in charter.tune}
    sizes = [tuned.get(arm.name, 1) for arm in arms]
    owner = np.repeat(np.arange(len(arms)), sizes)
    level = np.sqrt(np.array([_LEVEL if arm.name in tuned else 1.0 for arm in arms]))[owner]
    curves = [_curves(sizes, length) for length in (LENGTHS if tuned else LENGTHS[:1])]
    return [
        variance * (np.outer(level, level) * found[np.ix_(owner, owner)] + (1 - _LEVEL) * curve)
        for found in levels
        for curve in curves
    ]


def _curves(sizes: Sequence[int], length: float) -> Array:
    """Return the correlation (K, K) along the curve of each tuned arm; an arm of size 1 has none."""
    found = np.zeros((sum(sizes), sum(sizes)))
    first = 0
    for size in sizes:
        if size > 1:
            places = np.arange(size)
            smooth = np.exp(-((places[:, None] - places) ** 2) / (2 * length * length))
            found[first : first + size, first : first + size] = (1 - _ROUGH) * smooth + _ROUGH * np.eye(size)
        first += size
    return found


@dataclass(frozen=True, slots=True)
class _Fit:
    """What one covariance implies: how likely the outcomes are, and of each arm (K,), its own outcomes left out, mean
    above the prior's and variance; ``told`` (K, K): by how much the mean of a row's arm moves with a column's."""

    log_likelihood: float
    mean: Array
    variance: Array
    told: Array

    @classmethod
    def of(cls, covariance: Array, known: _Known) -> _Fit:
        tried, size = known.tried, len(covariance)
        told = np.zeros((size, size))
        if not len(tried):
            return cls(0.0, np.zeros(size), np.diag(covariance).copy(), told)
        observed = covariance[np.ix_(tried, tried)] + np.diag(known.noise)
        precision = np.linalg.inv(observed)
        log_likelihood = -0.5 * float(known.above @ precision @ known.above) - 0.5 * float(
            np.linalg.slogdet(observed)[1]
        )
        told[:, tried] = covariance[:, tried] @ precision
        variance = np.diag(covariance) - np.einsum("ij,ij->i", told[:, tried], covariance[:, tried])
        own = np.diag(precision)
        left_out = -precision / own[:, None]
        np.fill_diagonal(left_out, 0.0)
        told[np.ix_(tried, tried)] = left_out
        variance[tried] = 1.0 / own - known.noise
        floor = np.diag(covariance) * 1e-6
        return cls(log_likelihood, told[:, tried] @ known.above, np.maximum(variance, floor), told)
