"""Uniform boundaries against the reference values of the confseq project (MIT), and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flywheel.stats import boundaries as b

V, ALPHA = 100.0, 0.05


def test_the_best_precision_is_the_published_one() -> None:
    assert b.best_rho(V, ALPHA) == pytest.approx(12.60056, abs=1e-5)
    with pytest.raises(ValueError, match="positive"):
        b.best_rho(0.0)
    with pytest.raises(ValueError, match="level"):
        b.best_rho(1.0, 0.5, sides=1)


@pytest.mark.parametrize(
    ("mixture", "at_10", "bound", "most"),
    [
        (b.normal_log_mixture(V), -0.6510052, 30.35209, math.inf),
        (b.normal_log_mixture(V, sides=1), -0.06502391, 27.66071, math.inf),
        (b.gamma_exponential_log_mixture(V, 2), -0.2490165, 33.02017, math.inf),
        (b.gamma_poisson_log_mixture(V, 2), -0.06991219, 30.1949, math.inf),
        (b.beta_binomial_log_mixture(V, 0.2, 0.8), -0.6941012, 31.4308, V / 0.2),
        (b.beta_binomial_log_mixture(V, 0.2, 0.8, sides=1), -0.07134019, 28.41238, V / 0.2),
    ],
)
def test_mixtures_and_their_bounds(mixture: b.LogMixture, at_10: float, bound: float, most: float) -> None:
    assert mixture(10, V) == pytest.approx(at_10, abs=1e-5)
    assert b.mixture_bound(mixture, V, ALPHA, most=most) == pytest.approx(bound, abs=1e-5)


def test_stitching() -> None:
    assert b.poly_stitching_bound(V, ALPHA, v_min=10, c=3) == pytest.approx(64.48755, abs=1e-5)
    assert b.poly_stitching_bound(V, ALPHA, v_min=10, c=-1) == pytest.approx(28.99389, abs=1e-5)


@pytest.mark.parametrize(
    ("successes", "trials", "t_opt", "low", "high"),
    [(700, 1000, 100, 0.651629, 0.745949), (15, 50, 50, 0.129556, 0.511896), (100, 200, 1, 0.328923, 0.671076)],
)
def test_bernoulli(successes: int, trials: int, t_opt: float, low: float, high: float) -> None:
    assert b.bernoulli_interval(successes, trials, alpha=ALPHA, t_opt=t_opt) == pytest.approx((low, high), abs=1e-5)


def test_bernoulli_at_the_ends_and_a_bound_that_cannot_be_crossed() -> None:
    assert b.bernoulli_interval(0, 20, alpha=ALPHA, t_opt=20)[0] == 0
    assert b.bernoulli_interval(20, 20, alpha=ALPHA, t_opt=20)[1] == 1
    assert b.mixture_bound(b.beta_binomial_log_mixture(1, 0.5, 0.5), 1.0, 1e-9, most=2.0) == 2.0


def test_a_walk_crosses_the_normal_boundary_as_seldom_as_promised() -> None:
    runs, steps = 1_000, 1_000
    walks = np.cumsum(np.random.default_rng(20_261_121).normal(size=(runs, steps)), axis=1)
    mixture = b.normal_log_mixture(150)
    bound = np.interp(
        np.arange(1, steps + 1), grid := np.linspace(1, steps, 60), [b.mixture_bound(mixture, v, ALPHA) for v in grid]
    )
    crossed = float((np.abs(walks) > bound).any(axis=1).mean())
    # Below 0.05 for ever; standard error 0.007. Until step 1,000 it is less, but not nothing.
    assert 0.01 < crossed < 0.05 + 3 * 0.007
