"""Which context features matter to a linear policy, read off its ``policy`` event alone.

What matters to a choice is not what moves rewards, but what moves the arms' rewards apart. With ``B_a`` the
coefficients of arm ``a`` less their mean over the arms, and ``Σ`` the covariance of the encoded contexts, the arms'
expected rewards vary about their mean by ``V = Σ_a B_a' Σ B_a`` over contexts (differences that are the same at every
context are no feature's). Of a feature's slots ``g``, and all others ``r``:

- ``alone``, what the feature explains by itself: ``(ΣB)_g' Σ_gg⁻ (ΣB)_g / V``, the first-order index of Sobol (1993);
- ``beyond``, what is lost without it, as no other feature tells it: ``B_g' (Σ_gg - Σ_gr Σ_rr⁻ Σ_rg) B_g / V``, the
  total index (Homma and Saltelli, 1996). Features that tell the same have much alone and nothing beyond.

Both are exact where rewards are linear in features, as the policy believes, and the best linear prediction stands for
the conditional mean. A share is ``M / (M + R)`` with ``M`` and ``R`` quadratic forms of coefficients that are known up
to their posterior. Noise makes such a form larger by its expectation, which is taken off. Its distribution is close to
a scaled noncentral chi-square (Satterthwaite, 1946; Patnaik, 1949), and the interval is that of the noncentrality
(Kent and Hainsworth, 1995); both forms share the error (Bonferroni), so an interval is rather too wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from flywheel.policy.feature_spec import feature_of
from flywheel.policy.features import ONE
from flywheel.policy.linear_policy import compile_linear
from flywheel.policy.propensity import Array

LEVEL: Final = 0.95
POINTS: Final = 1 << 12
"""Contexts at which favourites are compared: multiples of the roots of primes, modulo 1 (Niederreiter, 1978), made
normal."""
_PRIMES: Final = (
    2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127,
)  # fmt: skip
_LEAST_SHARE: Final = 1e-12
_RANK: Final = 1e-9
"""Eigenvalues of a covariance, as a share of the largest, below which slots are taken to tell the same."""


class NothingToTell(ValueError):
    """The event does not say which features matter; one line for a person."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the variance, 0 to 1, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Effect:
    """By how much a slot of a feature moves one arm's expected reward (``change``, ± ``sd`` of belief): per standard
    deviation of the slot over contexts, or, of a category, at that value against the mean context."""

    slot: str
    arm: str
    change: float
    sd: float


@dataclass(frozen=True, slots=True)
class FeatureImportance:
    """How much a declared feature matters. ``changes_favourite``: share of contexts at which the arm with the largest
    expected reward would be another if the feature were not known, contexts taken to be normal with the mean and
    covariance of those learned from."""

    name: str
    kind: str
    alone: Share
    beyond: Share
    changes_favourite: float
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class Importance:
    """``spread``: standard deviation over contexts of an arm's expected reward about the mean of the arms', noise taken
    off, in units of reward. ``arms`` are compared, ``left_out`` are switched off or have fewer outcomes than slots."""

    spread: float
    arms: tuple[str, ...]
    left_out: tuple[str, ...]
    features: tuple[FeatureImportance, ...]


def importance(policy_event: Mapping[str, Any]) -> Importance:
    """Return how much each declared feature matters, in declared order.

    Raises ``NothingToTell`` for a kind without features, before contexts are known, and with fewer than two arms that
    are known.
    """
    linear = compile_linear(policy_event)
    if linear is None:
        raise NothingToTell(f"a policy of kind {policy_event['kind']} looks at no features; linear_thompson does")
    size = len(linear.encoder.slots)
    packed = np.array(policy_event.get("contexts") or (), dtype=np.float64)
    if len(packed) != size * (size + 1) // 2:
        raise NothingToTell("the policy has no contexts yet; it learns them with its first outcomes")
    known = [arm["enabled"] and arm["weight"] >= size for arm in policy_event["arms"]]
    names = [arm["name"] for arm in policy_event["arms"]]
    places = [place for place, is_known in enumerate(known) if is_known]
    if len(places) < 2:
        raise NothingToTell(f"fewer than two arms are switched on and have {size} outcomes, one for each slot")
    contexts = _Contexts.of(packed, size)
    covariance = contexts.covariance
    arms = _Arms.of(policy_event["linear"], places, size)
    whole = _form(arms, covariance)
    slots = _slots(linear.records)
    features = []
    for record, (start, stop) in zip(linear.records, slots, strict=True):
        group = np.arange(start - 1, stop - 1)
        features.append(
            FeatureImportance(
                name=record["name"],
                kind=record["kind"],
                alone=_share(arms, _alone(covariance, group), covariance),
                beyond=_share(arms, _beyond(covariance, group), covariance),
                changes_favourite=_changes_favourite(arms, contexts, group),
                effects=tuple(
                    Effect(linear.encoder.slots[slot + 1], names[place], *_effect(arms, n, direction))
                    for slot, direction in _directions(record["kind"], contexts, group)
                    for n, place in enumerate(places)
                ),
            )
        )
    return Importance(
        spread=float(np.sqrt(max(0.0, whole.value - whole.noise) / len(places))),
        arms=tuple(names[place] for place in places),
        left_out=tuple(name for name, is_known in zip(names, known, strict=True) if not is_known),
        features=tuple(features),
    )


@dataclass(frozen=True, slots=True)
class _Arms:
    """Coefficients (K, d) and their posterior covariances (K, d, d), the constant first."""

    coefficients: Array
    covariances: Array

    @classmethod
    def of(cls, declared: Sequence[Mapping[str, Any]], places: Sequence[int], size: int) -> _Arms:
        roots = np.zeros((len(places), size, size))
        rows, columns = np.tril_indices(size)
        for n, place in enumerate(places):
            roots[n, rows, columns] = declared[place]["root"]
        coefficients = np.array([declared[place]["coefficients"] for place in places], dtype=np.float64)
        return cls(coefficients, np.swapaxes(roots, 1, 2) @ roots)

    @property
    def apart(self) -> Array:
        """The coefficients of features (K, d - 1), less their mean over the arms."""
        own = self.coefficients[:, 1:]
        return np.asarray(own - own.mean(axis=0))


@dataclass(frozen=True, slots=True)
class _Contexts:
    """Mean (d - 1,) and covariance (d - 1, d - 1) of the encoded contexts, the constant left out."""

    mean: Array
    covariance: Array

    @classmethod
    def of(cls, packed: Array, size: int) -> _Contexts:
        moments = np.zeros((size, size))
        moments[np.tril_indices(size)] = packed
        mean, lower = moments[1:, 0], moments[1:, 1:]
        return cls(mean, lower + np.tril(lower, -1).T - np.outer(mean, mean))


@dataclass(frozen=True, slots=True)
class _Form:
    """A quadratic form ``Σ_a B_a' M B_a`` at the posterior means: its ``value``, what noise adds to its expectation
    (``noise``, its trace), and the trace of its square."""

    value: float
    noise: float
    square: float

    def interval(self, miss: float) -> tuple[float, float]:
        """Return the interval of the form without noise, missed with probability ``miss``."""
        if self.noise <= 0 or self.square <= 0:
            return self.value, self.value
        unit, freedom = self.square / self.noise, self.noise**2 / self.square
        at = self.value / unit
        ends = []
        for below in (1.0 - miss / 2, miss / 2):
            inside = at > 0 and float(special.chdtr(freedom, at)) > below
            ends.append(unit * float(special.chndtrinc(at, freedom, below)) if inside else 0.0)
        return ends[0], ends[1]


def _form(arms: _Arms, matrix: Array) -> _Form:
    apart, count = arms.apart, len(arms.coefficients)
    through = matrix @ arms.covariances[:, 1:, 1:]
    centred = np.eye(count) - 1.0 / count
    traces = np.trace(through, axis1=1, axis2=2)
    pairs = np.einsum("aij,bji->ab", through, through)
    value = float(np.einsum("ai,ij,aj->", apart, matrix, apart))
    return _Form(max(0.0, value), float(np.diag(centred) @ traces), float((centred**2 * pairs).sum()))


def _share(arms: _Arms, matrix: Array, covariance: Array) -> Share:
    """Return the share of the variance that the form of ``matrix``, a part of ``covariance``, has."""
    part, rest = _form(arms, matrix), _form(arms, covariance - matrix)
    miss = (1.0 - LEVEL) / 2
    (low, high), (rest_low, rest_high) = part.interval(miss), rest.interval(miss)
    value = _of(max(0.0, part.value - part.noise), max(0.0, rest.value - rest.noise))
    return Share(value, min(value, _of(low, rest_high)), max(value, _of(high, rest_low)))


def _of(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest > _LEAST_SHARE else 0.0


def _alone(covariance: Array, group: NDArray[np.int64]) -> Array:
    """Return the matrix of what the slots of ``group`` explain by themselves."""
    columns = covariance[:, group]
    return np.asarray(
        columns @ np.linalg.pinv(covariance[np.ix_(group, group)], rcond=_RANK, hermitian=True) @ columns.T
    )


def _beyond(covariance: Array, group: NDArray[np.int64]) -> Array:
    """Return the matrix of what only the slots of ``group`` explain."""
    others = np.setdiff1d(np.arange(len(covariance)), group)
    found = np.zeros_like(covariance)
    inside = np.ix_(group, group)
    found[inside] = covariance[inside] - _told(covariance, group, others) @ covariance[np.ix_(others, group)]
    return found


def _told(covariance: Array, group: NDArray[np.int64], others: NDArray[np.int64]) -> Array:
    """Return the coefficients by which the slots of ``others`` foretell those of ``group``."""
    inverse = np.linalg.pinv(covariance[np.ix_(others, others)], rcond=_RANK, hermitian=True)
    return np.asarray(covariance[np.ix_(group, others)] @ inverse)


def _changes_favourite(arms: _Arms, contexts: _Contexts, group: NDArray[np.int64]) -> float:
    mean, covariance = contexts.mean, contexts.covariance
    size = len(mean)
    values, vectors = np.linalg.eigh(covariance)
    points = np.arange(1, POINTS + 1)[:, None] * np.sqrt(_PRIMES[:size]) % 1.0
    away = special.ndtri(points) * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    others = np.setdiff1d(np.arange(size), group)
    without = away.copy()
    without[:, group] = away[:, others] @ _told(covariance, group, others).T
    constant, slopes = arms.coefficients[:, 0], arms.coefficients[:, 1:]
    known, unknown = ((constant + (mean + each) @ slopes.T).argmax(axis=1) for each in (away, without))
    return float((known != unknown).mean())


def _directions(kind: str, contexts: _Contexts, group: NDArray[np.int64]) -> Iterator[tuple[int, Array]]:
    """Yield each slot of a feature that ever varied, with the change of context that its effect is about."""
    for slot in group:
        variance = float(contexts.covariance[slot, slot])
        if variance < 1.0 / ONE**2:
            continue
        direction = np.zeros(len(contexts.mean))
        if kind in ("category", "flag"):
            direction[group] = -contexts.mean[group]
            direction[slot] += 1.0
        else:
            direction[slot] = np.sqrt(variance)
        yield int(slot), direction


def _effect(arms: _Arms, place: int, direction: Array) -> tuple[float, float]:
    change = float(direction @ arms.coefficients[place, 1:])
    variance = float(direction @ arms.covariances[place, 1:, 1:] @ direction)
    return change, float(np.sqrt(max(0.0, variance)))


def _slots(records: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Return where each feature's slots begin and end in the encoded context, whose first is the constant."""
    ends, at = [], 1
    for record in records:
        count = len(feature_of(record).slots())
        ends.append((at, at + count))
        at += count
    return ends
