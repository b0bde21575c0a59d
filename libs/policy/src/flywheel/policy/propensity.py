"""True propensities: the probability that each arm is chosen, computed rather than assumed.

Thompson sampling chooses the arm whose posterior draw is the largest, so arm ``i`` has probability
``p_i = ∫ f_i(t) Π_{j≠i} F_j(t) dt``. The integral is taken on the real line (Beta posteriors through the logit,
where their density is smooth for any parameters) by adaptive Gauss-Kronrod 7-15 (Kronrod, 1965; Piessens et al.,
QUADPACK, 1983), for all arms at once on one set of panels. The error bound adds the Gauss-Kronrod differences, the
mass cut off in the tails, and how far the probabilities are from adding up to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

TOLERANCE = 1e-8
_TAIL = 1e-13
_LOG_TAIL = float(np.log(_TAIL))
_MAX_ROUNDS = 24
_MAX_PANELS = 4096
_OFFSETS = np.array([-9.0, -6.0, -4.0, -2.5, -1.2, 0.0, 1.2, 2.5, 4.0, 6.0, 9.0])

_NODES_HALF = np.array([
    0.991455371120812639206854697526329, 0.949107912342758524526189684047851, 0.864864423359769072789712788640926,
    0.741531185599394439863864773280788, 0.586087235467691130294144691693, 0.405845151377397166906606412076961,
    0.207784955007898467600689403773245, 0.0,
])  # fmt: skip
_KRONROD_HALF = np.array([
    0.022935322010529224963732008058970, 0.063092092629978553290700663189204, 0.104790010322250183839876322541518,
    0.140653259715525918745189590510238, 0.169004726639267902826583426598550, 0.190350578064785409913256402421014,
    0.204432940075298892414161999234649, 0.209482141084727828012999174891714,
])  # fmt: skip
_GAUSS_HALF = np.array([
    0.129484966168869693270611432679082, 0.279705391489276667901467771423780, 0.381830050505118944950369775488975,
    0.417959183673469387755102040816327,
])  # fmt: skip


class Propensities(NamedTuple):
    """``values``: probability of each arm, in order; ``error``: bound on the absolute error of any of them."""

    values: tuple[float, ...]
    error: float


class Posterior(Protocol):
    """Independent posteriors of the arms on the real line; row ``i`` belongs to arm ``i``."""

    def centre(self) -> Array: ...

    def spread(self) -> Array: ...

    def support(self) -> tuple[Array, Array]:
        """Return per arm the points below and above which at most 1e-13 of its mass lies."""
        ...

    def density_and_cdf(self, t: Array) -> tuple[Array, Array]:
        """Return density and distribution function at the points ``t``, shape (arms, points)."""
        ...


@dataclass(frozen=True, slots=True)
class BetaPosterior:
    """Beta(alpha, beta) posteriors seen through ``t = log(x / (1 - x))``."""

    alpha: Array
    beta: Array

    def centre(self) -> Array:
        return np.asarray(special.digamma(self.alpha) - special.digamma(self.beta))

    def spread(self) -> Array:
        return np.asarray(np.sqrt(special.polygamma(1, self.alpha) + special.polygamma(1, self.beta)))

    def support(self) -> tuple[Array, Array]:
        # F(t) <= exp(alpha t) / (alpha B(alpha, beta)): exact enough to bound the tail for any parameters.
        log_b = special.betaln(self.alpha, self.beta)
        centre, spread = self.centre(), self.spread()
        low = (_LOG_TAIL + np.log(self.alpha) + log_b) / self.alpha
        high = -(_LOG_TAIL + np.log(self.beta) + log_b) / self.beta
        return np.minimum(low, centre - 9 * spread), np.maximum(high, centre + 9 * spread)

    def density_and_cdf(self, t: Array) -> tuple[Array, Array]:
        a, b = self.alpha[:, None], self.beta[:, None]
        log_x, log_y = -np.logaddexp(0.0, -t)[None, :], -np.logaddexp(0.0, t)[None, :]
        density = np.exp(a * log_x + b * log_y - special.betaln(a, b))
        # Above the middle the complement keeps the digits that x itself loses near 1.
        below = t <= 0
        cdf = np.empty(density.shape)
        cdf[:, below] = special.betainc(a, b, np.exp(log_x[:, below]))
        cdf[:, ~below] = 1.0 - special.betainc(b, a, np.exp(log_y[:, ~below]))
        return density, cdf


@dataclass(frozen=True, slots=True)
class NormalPosterior:
    """Normal posteriors of the mean rewards."""

    mean: Array
    sd: Array

    def centre(self) -> Array:
        return self.mean

    def spread(self) -> Array:
        return self.sd

    def support(self) -> tuple[Array, Array]:
        return self.mean - 9 * self.sd, self.mean + 9 * self.sd

    def density_and_cdf(self, t: Array) -> tuple[Array, Array]:
        z = (t[None, :] - self.mean[:, None]) / self.sd[:, None]
        return np.exp(-0.5 * z * z) / (np.sqrt(2 * np.pi) * self.sd[:, None]), np.asarray(special.ndtr(z))


def probability_of_best(posterior: Posterior) -> Propensities:
    """Return the probability that each arm's draw is the largest, with a bound on the error (usually below 1e-8)."""
    low, high = posterior.support()
    if len(low) == 1:
        return Propensities((1.0,), 0.0)
    # Below the largest lower end the product of the other distribution functions is negligible.
    edges = _edges(posterior, float(low.max()), float(high.max()))
    total = np.zeros(len(low))
    error = np.zeros(len(low))
    left, right = edges[:-1], edges[1:]
    for _ in range(_MAX_ROUNDS):
        fine, difference = _panels(posterior, left, right)
        done = difference.max(axis=0) <= TOLERANCE / 100
        if len(left) * 2 > _MAX_PANELS:
            done[:] = True
        total += fine[:, done].sum(axis=1)
        error += difference[:, done].sum(axis=1)
        if done.all():
            break
        a, b = left[~done], right[~done]
        middle = (a + b) / 2
        left, right = np.concatenate([a, middle]), np.concatenate([middle, b])
    else:
        fine, difference = _panels(posterior, left, right)
        total += fine.sum(axis=1)
        error += difference.sum(axis=1)
    defect = abs(float(total.sum()) - 1.0)
    bound = float(error.max()) + len(low) * 2 * _TAIL + defect
    values = np.clip(total, 0.0, 1.0) / float(np.clip(total, 0.0, 1.0).sum())
    return Propensities(tuple(float(value) for value in values), bound)


def _edges(posterior: Posterior, low: float, high: float) -> Array:
    """Return panel borders: the ends, and points around the centre of every posterior, not closer than needed."""
    spread = posterior.spread()
    points = (posterior.centre()[:, None] + spread[:, None] * _OFFSETS[None, :]).ravel()
    gap = float(spread.min()) / 2
    kept = [low]
    for point in np.sort(points[(points > low) & (points < high)]):
        if point - kept[-1] >= gap:
            kept.append(float(point))
    return np.array([*kept, high])


def _panels(posterior: Posterior, left: Array, right: Array) -> tuple[Array, Array]:
    """Return the Kronrod integral per arm and panel, and its absolute difference from the Gauss one."""
    nodes = np.concatenate([-_NODES_HALF, _NODES_HALF[-2::-1]])
    kronrod = np.concatenate([_KRONROD_HALF, _KRONROD_HALF[-2::-1]])
    gauss = np.zeros(15)
    gauss[1::2] = np.concatenate([_GAUSS_HALF, _GAUSS_HALF[-2::-1]])
    half = (right - left) / 2
    t = ((left + right) / 2)[:, None] + half[:, None] * nodes[None, :]
    density, cdf = posterior.density_and_cdf(t.ravel())
    values = (density * _product_of_others(cdf)).reshape(len(density), len(left), 15)
    fine = values @ kronrod * half
    return fine, np.abs(fine - values @ gauss * half)


def _product_of_others(cdf: Array) -> Array:
    """Return for each arm the product of the other arms' distribution functions (without dividing: they may be 0)."""
    before = np.ones_like(cdf)
    after = np.ones_like(cdf)
    before[1:] = np.cumprod(cdf[:-1], axis=0)
    after[:-1] = np.cumprod(cdf[:0:-1], axis=0)[::-1]
    return np.asarray(before * after)


def greedy(scores: Sequence[float]) -> tuple[float, ...]:
    """Return 1 for the largest score; exact ties share it."""
    best = max(scores)
    winners = [score == best for score in scores]
    return tuple(won / sum(winners) for won in winners)


def with_floor(values: Sequence[float], floor: float) -> tuple[float, ...]:
    """Mix probabilities so that each is at least ``floor`` (at most one over their number)."""
    floor = min(floor, 1.0 / len(values))
    rest = 1.0 - floor * len(values)
    return tuple([floor + rest * value for value in values])
