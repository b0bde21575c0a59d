"""Uniform boundaries: curves that a martingale's sum ``s``, at intrinsic time ``v``, crosses at any time at all with
probability at most ``alpha`` (Howard, Ramdas, McAuliffe and Sekhon, 2021, Annals of Statistics 49).

A mixture supermartingale is at most 1 on average at every time, so it exceeds ``1/alpha`` ever with probability at
most ``alpha`` (Ville, 1939); its boundary is the ``s`` where it reaches ``1/alpha``. ``v_opt`` is the intrinsic time at
which the boundary is tightest. ``s`` and ``v`` have the units of the observations and of their square.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from scipy import optimize, special, stats

LogMixture = Callable[[float, float], float]
"""Logarithm of a mixture supermartingale at ``(s, v)``."""

ALPHA_OPT: Final = 0.05
_DOUBLINGS: Final = 60


def best_rho(v_opt: float, alpha_opt: float = ALPHA_OPT, *, sides: int = 2) -> float:
    """Return the mixture precision that makes the boundary tightest at ``v_opt``; ``sides`` 1 or 2.

    Raises ``ValueError`` where ``v_opt`` is not positive or the level not below one over ``3 - sides``.
    """
    level = alpha_opt if sides == 2 else 2 * alpha_opt
    if v_opt <= 0 or not 0 < level < 1:
        raise ValueError("v_opt must be positive and the level between 0 and 1")
    return v_opt / (2 * math.log(1 / level) + math.log(1 + 2 * math.log(1 / level)))


def normal_log_mixture(v_opt: float, alpha_opt: float = ALPHA_OPT, *, sides: int = 2) -> LogMixture:
    """Return the normal mixture for sub-Gaussian sums, two-sided, or with the half-normal one-sided."""
    rho = best_rho(v_opt, alpha_opt, sides=sides)

    def two(s: float, v: float) -> float:
        return 0.5 * math.log(rho / (v + rho)) + s * s / (2 * (v + rho))

    def one(s: float, v: float) -> float:
        return math.log(2) + two(s, v) + float(stats.norm.logcdf(s / math.sqrt(v + rho)))

    return two if sides == 2 else one


def gamma_exponential_log_mixture(v_opt: float, c: float, alpha_opt: float = ALPHA_OPT) -> LogMixture:
    """Return the gamma-exponential mixture: one-sided, for increments bounded on one side with scale ``c``."""
    rho = best_rho(v_opt, alpha_opt, sides=1)
    r = rho / c**2
    lead = r * math.log(r) - special.gammaln(r) - math.log(special.gammainc(r, r))

    def log_mixture(s: float, v: float) -> float:
        x, shape = (c * s + v) / c**2, (v + rho) / c**2
        inside = math.log(special.gammainc(shape, x + r)) - shape * math.log(x + r)
        return float(lead + special.gammaln(shape) + inside + x)

    return log_mixture


def gamma_poisson_log_mixture(v_opt: float, c: float, alpha_opt: float = ALPHA_OPT) -> LogMixture:
    """Return the gamma-Poisson mixture: one-sided, for increments of at most ``c`` (Bennett's condition)."""
    rho = best_rho(v_opt, alpha_opt, sides=1)
    r = rho / c**2
    lead = r * math.log(r) - special.gammaln(r) - math.log(special.gammaincc(r, r))

    def log_mixture(s: float, v: float) -> float:
        scale = (v + rho) / c**2
        shape = s / c + scale
        inside = math.log(special.gammaincc(shape, scale)) - shape * math.log(scale)
        return float(lead + special.gammaln(shape) + inside + v / c**2)

    return log_mixture


def beta_binomial_log_mixture(
    v_opt: float, g: float, h: float, alpha_opt: float = ALPHA_OPT, *, sides: int = 2
) -> LogMixture:
    """Return the beta-binomial mixture for increments in ``[-g, h]`` (Bernoulli sums are its extreme case)."""
    r = max(best_rho(v_opt, alpha_opt, sides=sides) - g * h, 1e-3 * g * h)
    end = 1.0 if sides == 2 else h / (g + h)
    normal = _log_beta(r / (g * (g + h)), r / (h * (g + h)), end)

    def log_mixture(s: float, v: float) -> float:
        successes, failures = (v + h * s) / (h * (g + h)), (v - g * s) / (g * (g + h))
        shift = successes * math.log1p(h / g) + failures * math.log1p(g / h)
        prior = r / (g * h * (g + h))
        return shift + _log_beta(failures + h * prior, successes + g * prior, end) - normal

    return log_mixture


def mixture_bound(log_mixture: LogMixture, v: float, alpha: float, *, most: float = math.inf) -> float:
    """Return the boundary at intrinsic time ``v``: the ``s`` up to ``most`` where the mixture reaches ``1/alpha``."""
    threshold = math.log(1 / alpha)
    high = v if math.isinf(most) else most
    for _ in range(_DOUBLINGS if math.isinf(most) else 0):
        if log_mixture(high, v) > threshold:
            break
        high *= 2
    if log_mixture(high, v) <= threshold:
        return most
    return float(optimize.brentq(lambda s: log_mixture(s, v) - threshold, 0.0, high, xtol=1e-12))


def poly_stitching_bound(
    v: float, alpha: float, *, v_min: float, c: float = 0.0, s: float = 1.4, eta: float = 2.0
) -> float:
    """Return the polynomial stitched boundary (their equation 10); holds for all ``v``, tightest from ``v_min`` on."""
    used = max(v, v_min)
    k1, k2 = (eta**0.25 + eta**-0.25) / math.sqrt(2), (math.sqrt(eta) + 1) / 2
    level = s * math.log(math.log(eta * used / v_min) / math.log(eta)) + math.log(special.zeta(s) / alpha)
    return math.sqrt((k1**2) * used * level + (k2 * c * level) ** 2) + k2 * c * level


def bernoulli_interval(successes: float, trials: int, *, alpha: float, t_opt: float) -> tuple[float, float]:
    """Return the confidence sequence of a Bernoulli mean after ``trials``, tightest at ``t_opt`` trials."""
    share, threshold = successes / trials, math.log(1 / alpha)

    def excess(p: float) -> float:
        mixture = beta_binomial_log_mixture(p * (1 - p) * t_opt, p, 1 - p)
        return mixture((share - p) * trials, p * (1 - p) * trials) - threshold

    edge = 1e-12
    low = 0.0 if share <= 0 else float(optimize.brentq(excess, edge, min(share, 1 - edge), xtol=1e-13))
    high = 1.0 if share >= 1 else float(optimize.brentq(excess, max(share, edge), 1 - edge, xtol=1e-13))
    return low, high


def _log_beta(a: float, b: float, x: float) -> float:
    """Return the logarithm of the incomplete beta function, not regularised."""
    return float(special.betaln(a, b) + math.log(special.betainc(a, b, x)))
