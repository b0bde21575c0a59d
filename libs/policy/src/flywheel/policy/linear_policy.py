"""The linear kinds end to end: from exact moments to a ``policy`` event, and from the event and a context to the
probability of each arm.

Rewards are learned as shares of the charter's range and features scaled by the mean and deviation that they had (of all
arms, after forgetting); the prior says that every arm earns its prior mean whatever the context, each coefficient worth
``prior.weight`` outcomes (the constant's may be worth more, where relatives speak for it), with a quarter of the
squared range as the variance of a reward. The event has the posteriors mapped back, in units of reward at raw features,
so whoever decides needs neither range nor scaling: the reward of an arm at ``x`` is normal with mean ``coefficients @
x`` and standard deviation ``|root @ x|``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import hadamard

from flywheel.policy.change import Change, keep_after_changes
from flywheel.policy.charter import LINEAR_KINDS, Charter
from flywheel.policy.contextual import ContextualKind, contextual_probabilities, squarecb_gamma
from flywheel.policy.eligibility import Value
from flywheel.policy.feature_spec import MOST_FEATURE_SLOTS, complete, encoder_of, encoding_of
from flywheel.policy.features import CLIP, ONE, Encoder
from flywheel.policy.linear import LinearArms, LinearBelief, LinearPrior, Moments
from flywheel.policy.moments import MomentSummary, believe_scaled, scaling, weigh_moments
from flywheel.policy.propensity import Array, Propensities
from flywheel.policy.relatives import ArmPrior

_KINDS: Mapping[str, ContextualKind] = {
    "linear_thompson": "lin_ts",
    "linear_ucb": "lin_ucb",
    "squarecb": "squarecb",
}


@dataclass(frozen=True, slots=True)
class LinearPolicy:
    """The part of a linear policy that looks at the context. ``arms``: beliefs in units of reward at features in units
    of 2⁻¹², in the order of the policy's arms."""

    kind: ContextualKind
    records: tuple[Mapping[str, Any], ...]
    encoder: Encoder
    encoding: str
    arms: LinearArms
    default_on_missing: bool
    explore_floor: float
    scale: float
    gamma: float

    def refuses(self, context: Mapping[str, Value]) -> bool:
        """Whether the default arm must serve this context, as a declared feature is missing."""
        return self.default_on_missing and not complete(self.records, context)

    def features(self, context: Mapping[str, Value]) -> tuple[int, ...]:
        """Return the encoded context (d,) in units of 2⁻¹²: what is logged, and decided at."""
        return self.encoder.encode(context)

    def scores(self, features: Sequence[float]) -> tuple[Array, Array]:
        """Return mean and standard deviation (K,) of every arm's expected reward, in units of reward."""
        return self.arms.scores(np.array(features, dtype=np.float64))

    def probabilities(
        self, features: Sequence[float], places: Sequence[int], charges: Sequence[float] = ()
    ) -> Propensities:
        """Return the probability of each of the arms at ``places``, all eligible, the floor mixed in; ``charges``: what
        choosing each of them is charged, in reward, where money has a price."""
        mean, sd = self.scores(features)
        if len(places) < len(mean):
            mean, sd = mean[list(places)], sd[list(places)]
        if charges:
            mean = mean - np.array(charges)
        return contextual_probabilities(
            self.kind, mean, sd, explore_floor=self.explore_floor, scale=self.scale, gamma=self.gamma
        )


def compile_linear(policy_event: Mapping[str, Any]) -> LinearPolicy | None:
    """Return the linear part of a ``policy`` event, None for a kind that has none.

    Raises ``ValueError`` naming the field that makes no sense.
    """
    if policy_event["kind"] not in LINEAR_KINDS:
        return None
    records = tuple(policy_event["features"])
    encoder = encoder_of(records)
    names = [arm["name"] for arm in policy_event["arms"]]
    if [arm["name"] for arm in policy_event["linear"]] != names:
        raise ValueError("linear: must have the arms of the policy, in their order")
    if policy_event["encoding"] != encoding_of(records):
        raise ValueError("encoding: is not that of the features")
    beliefs = [_unpacked(arm, len(encoder.slots)) for arm in policy_event["linear"]]
    return LinearPolicy(
        kind=_KINDS[policy_event["kind"]],
        records=records,
        encoder=encoder,
        encoding=policy_event["encoding"],
        arms=LinearArms.of(beliefs),
        default_on_missing=policy_event["on_missing"] == "default",
        explore_floor=policy_event["explore_floor"],
        scale=1.0 if policy_event["scale"] is None else policy_event["scale"],
        gamma=policy_event["gamma"] or 0.0,
    )


def _unpacked(arm: Mapping[str, Any], size: int) -> LinearBelief:
    packed = np.array(arm["root"], dtype=np.float64)
    coefficients = np.array(arm["coefficients"], dtype=np.float64)
    if len(coefficients) != size or len(packed) != size * (size + 1) // 2:
        raise ValueError(f"linear.{arm['name']}: needs {size} coefficients and their lower triangle")
    if not (np.isfinite(packed).all() and np.isfinite(coefficients).all()):
        raise ValueError(f"linear.{arm['name']}: must be finite")
    root = np.zeros((size, size))
    root[np.tril_indices(size)] = packed
    if not (np.diagonal(root) > 0).all():
        raise ValueError(f"linear.{arm['name']}.root: its diagonal must be positive")
    # A power of two: exact, and no decision has to divide its features.
    return LinearBelief(coefficients / ONE, root / ONE, 1.0)


def believe_linear(
    charter: Charter, changed: Mapping[str, Change], moments: MomentSummary, priors: Sequence[ArmPrior]
) -> dict[str, Any]:
    """Return the fields that a linear kind adds to its ``policy`` event.

    Args:
        changed: the last change of each arm that changed.
        moments: the sums with features; those with other features than the charter's must be left out.
        priors: what each arm is believed to earn at the mean context before its own outcomes.
    """
    spec = charter.policy
    records = spec.feature_records
    size = len(encoder_of(records).slots)
    low, high = charter.reward_range
    found = _believed_moments(charter, changed, moments)
    pooled = Moments.none(size)
    for name in sorted(found):
        pooled = pooled + found[name]
    mapped = scaling(pooled) if pooled.weight > 0 else np.eye(size)
    arms = []
    for arm, believed in zip(charter.policy_arms, priors, strict=True):
        centre, precision = np.zeros(size), np.full(size, spec.prior.weight)
        centre[0], precision[0] = (believed.mean - low) / (high - low), believed.weight
        prior = LinearPrior(precision, centre, 0.25, spec.prior.weight)
        belief = believe_scaled(found.get(arm.name, Moments.none(size)), prior, mapped)
        coefficients = belief.coefficients * (high - low)
        coefficients[0] += low
        root = belief.root[np.tril_indices(size)] * (belief.noise_sd * (high - low))
        arms.append({"name": arm.name, "coefficients": coefficients.tolist(), "root": root.tolist()})
    return {
        "features": records,
        "encoding": spec.encoding,
        "on_missing": spec.on_missing,
        "scale": None if spec.kind == "squarecb" else spec.scale,
        "gamma": squarecb_gamma(spec.gamma, pooled.weight) / (high - low) if spec.kind == "squarecb" else None,
        "linear": arms,
        "contexts": (pooled.features / pooled.weight)[np.tril_indices(size)].tolist() if pooled.weight > 0 else [],
    }


def mean_context(charter: Charter, moments: MomentSummary) -> tuple[int, ...]:
    """Return the mean of the encoded contexts learned from, forgetting aside; the empty context where none is."""
    total = _context_sums(moments)
    if total is None:
        return encoder_of(charter.policy.feature_records).encode({})
    return tuple(round(value * ONE / total[0, 0]) for value in total[0])


def typical_contexts(charter: Charter, moments: MomentSummary) -> list[Sequence[float]]:
    """Return some contexts that together have the mean and the covariance of those learned from, forgetting aside.

    They lie a deviation to either side of the mean in each direction, as the rows of a Hadamard matrix (Sylvester,
    1867) have it, of which any two columns are orthogonal: of a flag that is set half the time, set and not set.
    """
    total = _context_sums(moments)
    if total is None or len(total) < 2:
        return [mean_context(charter, moments)]
    products = np.array(total / total[0, 0], dtype=np.float64) * (ONE * ONE)
    mean = products[0] / ONE
    spread = products[1:, 1:] - np.outer(mean[1:], mean[1:])
    root = np.linalg.cholesky(spread + np.eye(len(spread)))  # a slot that never varied: by one 4096th
    signs = hadamard(1 << len(spread).bit_length())[:, 1 : len(mean)]
    return [(ONE, *row) for row in (mean[1:] + signs @ root.T).tolist()]


def _context_sums(moments: MomentSummary) -> NDArray[np.object_] | None:
    """Return ``Σ x x'`` of the encoded contexts of all arms, None without any."""
    total: NDArray[np.object_] | None = None
    for arms in moments.spans.values():
        for sums in arms.values():
            own = sums[:-1, :-1].astype(object)
            total = own if total is None else total + own
    return None if total is None or not total[0, 0] else total


def _believed_moments(charter: Charter, changed: Mapping[str, Change], moments: MomentSummary) -> Mapping[str, Moments]:
    """Return each arm's moments after forgetting and after changes."""
    spec = charter.policy

    def weighed(since: int) -> Mapping[str, Moments]:
        return weigh_moments(
            moments, half_life_outcomes=spec.half_life_outcomes, half_life_s=spec.half_life_s, since=since
        )

    return keep_after_changes(changed, weighed)


def unreadable(features: Sequence[int]) -> str | None:
    """Return what is wrong with a logged vector, None where it can be learned from."""
    if not 0 < len(features) <= MOST_FEATURE_SLOTS:
        return f"must have 1 to {MOST_FEATURE_SLOTS} slots"
    if features[0] != ONE:
        return "must begin with the constant"
    if max(features) > CLIP or min(features) < -CLIP:
        return f"must lie within {-CLIP} to {CLIP}"
    return None
