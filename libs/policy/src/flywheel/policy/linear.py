"""What is believed of arms whose reward is linear in features: exact posteriors, one per arm.

Arm ``a`` earns ``θ_a'x`` plus noise of variance ``σ_a²``. With the prior ``θ_a ~ N(θ_0, σ_a² D⁻¹)``, ``D`` diagonal,
the posterior after rewards ``y`` at ``X`` is ``N(θ̂, σ_a² A⁻¹)``, ``A = D + X'X``, ``θ̂ = A⁻¹(Dθ_0 + X'y)``, so the
reward to be expected at ``x`` is normal with mean ``θ̂'x`` and variance ``σ_a² x'A⁻¹x``: the disjoint model of LinUCB
(Li, Chu, Langford and Schapire, 2010) and of Thompson sampling for linear payoffs (Agrawal and Goyal, 2013). Only these
marginals are ever needed, so nothing is drawn from a matrix and no decomposition with free signs is used: Cholesky,
which is unique.

``σ_a²`` is estimated from the posterior's residual sum ``y'y + θ_0'Dθ_0 - θ̂'Aθ̂``, shrunk to a prior as in
``flywheel.policy.posterior``: an arm that began 10 of 10 is never believed to be without noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.policy.propensity import Array


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over an arm's rewards, forgotten or not: weight, ``X'X`` (d, d), ``X'y`` (d,) and ``y'y``."""

    weight: float
    features: Array
    products: Array
    squares: float

    @classmethod
    def none(cls, size: int) -> Moments:
        """Return the sums of no rewards at ``size`` features."""
        return cls(0.0, np.zeros((size, size)), np.zeros(size), 0.0)

    @classmethod
    def of(cls, x: Array, y: Array) -> Moments:
        """Return the sums of rewards ``y`` (n,) at ``x`` (n, d)."""
        return cls(float(len(y)), x.T @ x, x.T @ y, float(y @ y))

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.weight + other.weight,
            self.features + other.features,
            self.products + other.products,
            self.squares + other.squares,
        )

    def times(self, share: float) -> Moments:
        """Return the sums of the same rewards, each weighing ``share`` of what it did."""
        return Moments(share * self.weight, share * self.features, share * self.products, share * self.squares)


@dataclass(frozen=True, slots=True)
class LinearPrior:
    """Belief before any reward. ``precision`` (d,): the diagonal of ``D``, in outcomes; ``centre`` (d,): ``θ_0``;
    ``noise``: variance of a reward about its mean, worth ``noise_weight`` outcomes (0: it is taken as known)."""

    precision: Array
    centre: Array
    noise: float
    noise_weight: float

    @classmethod
    def ridge(cls, size: int, *, precision: float = 1.0, noise: float = 1.0, noise_weight: float = 0.0) -> LinearPrior:
        """Return the prior of ridge regression: centred at 0, every feature alike."""
        return cls(np.full(size, precision), np.zeros(size), noise, noise_weight)


@dataclass(frozen=True, slots=True)
class LinearBelief:
    """One arm: the mean is ``coefficients @ x``, its standard deviation ``noise_sd · |root @ x|``."""

    coefficients: Array
    root: Array
    noise_sd: float


def believe(found: Moments, prior: LinearPrior) -> LinearBelief:
    """Return the posterior of one arm.

    Raises ``ValueError`` when the precision is not positive.
    """
    if not (prior.precision > 0).all():
        raise ValueError("precision: must be positive")
    lower = np.linalg.cholesky(found.features + np.diag(prior.precision))
    root = np.linalg.solve(lower, np.eye(len(lower)))
    half = root @ (prior.precision * prior.centre + found.products)
    coefficients = root.T @ half
    residuals = found.squares + float(prior.precision @ prior.centre**2) - float(half @ half)
    return LinearBelief(coefficients, root, float(_noise_sd(prior, found.weight, max(0.0, residuals))))


def _noise_sd(prior: LinearPrior, weight: float | Array, residuals: float | Array) -> Array:
    """Return the standard deviation of a reward about its mean: residuals, shrunk to the prior's variance."""
    if prior.noise_weight <= 0:
        return np.sqrt(prior.noise + 0.0 * np.asarray(weight))
    return np.asarray(np.sqrt((prior.noise_weight * prior.noise + residuals) / (prior.noise_weight + weight)))


@dataclass(frozen=True, slots=True)
class LinearArms:
    """Beliefs of several arms, stacked so that one product serves them all. ``rows`` (K·d + K, d): the roots of all,
    each times its arm's noise, then their coefficients; ``count``: K."""

    rows: Array
    count: int

    @classmethod
    def of(cls, beliefs: Sequence[LinearBelief]) -> LinearArms:
        """Return the beliefs of one policy, in the order of its arms."""
        roots = [belief.root * belief.noise_sd for belief in beliefs]
        coefficients = np.stack([belief.coefficients for belief in beliefs])
        return cls(np.concatenate([*roots, coefficients]), len(beliefs))

    def scores(self, x: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation (K,) of the expected reward of every arm at ``x`` (d,)."""
        product = self.rows @ x
        spread = product[: -self.count].reshape(self.count, -1)
        return product[-self.count :], np.sqrt(np.vecdot(spread, spread))


class OnlineLinear:
    """The same posteriors kept up to date reward by reward, by the rank-one update of Sherman and Morrison (1950).

    For simulations and for learners inside one process. Rounding grows with the rewards (about 1e-9 relative after a
    million); what is published is computed from exact sums by `believe`.
    """

    def __init__(self, arms: int, prior: LinearPrior) -> None:
        size = len(prior.precision)
        self.inverses = np.tile(np.diag(1.0 / prior.precision), (arms, 1, 1))
        self.coefficients = np.tile(prior.centre, (arms, 1)).astype(float)
        self.weights = np.zeros(arms)
        self._residuals = np.zeros(arms)
        self._prior = prior
        self._outer = np.empty((size, size))

    def update(self, arm: int, x: Array, reward: float) -> None:
        """Learn one reward of ``arm`` (its index) at ``x`` (d,)."""
        inverse, coefficients = self.inverses[arm], self.coefficients[arm]
        gain = inverse @ x
        scale = 1.0 + float(gain @ x)
        surprise = reward - float(coefficients @ x)
        coefficients += gain * (surprise / scale)
        np.multiply(gain[:, None], gain * (1.0 / scale), out=self._outer)
        inverse -= self._outer
        # The recursive residual (Brown, Durbin and Evans, 1975): their squares add up to the penalised residual sum.
        self._residuals[arm] += surprise * surprise / scale
        self.weights[arm] += 1.0

    def scores(self, x: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation (K,) of the expected reward of every arm at ``x`` (d,)."""
        spread = np.sqrt((self.inverses @ x) @ x)
        return self.coefficients @ x, spread * _noise_sd(self._prior, self.weights, self._residuals)
