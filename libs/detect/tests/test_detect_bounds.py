"""A bound that is kept is hardly ever said to be broken; one that is broken is, and a handful of calls is nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.detect import BoundDetector
from flywheel.detect.bounds import BETS, LEAST_SEEN


def alarms(figures, bound, run_length):
    """Places of all alarms, and the breaches."""
    detector, found = BoundDetector(bound), []
    for place, figure in enumerate(figures):
        breach = detector.update(place * 1_000_000, float(figure), run_length)
        if breach is not None:
            found.append((place, breach))
    return found


def at_the_bound(kind, rng, count):
    """Figures whose mean is exactly 1 % (errors), 5 % (calls above a p95), 1 (costs in units of the bound), 0.3."""
    if kind in (0.01, 0.05):
        return (rng.random(count) < kind).astype(float)
    if kind == "cost":
        return rng.lognormal(-0.5, 1.0, count)
    return np.clip(rng.beta(3.0, 7.0, count), 0.0, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "bound"), [(0.01, 0.01), (0.05, 0.05), ("cost", 1.0), ("score", 0.3)])
def test_a_bound_that_is_just_kept_is_said_to_be_broken_as_rarely_as_stated(kind, bound):
    """200 streams of 500 at the bound, A = 10,000: at most 5 % (n / A) alarm; 3.3 standard errors above it are 10 %."""
    alarmed = sum(
        bool(alarms(at_the_bound(kind, np.random.default_rng([7, run]), 500), bound, 10_000.0)) for run in range(200)
    )
    assert alarmed / 200 <= 0.10


@given(st.floats(1e-3, 0.5), st.integers(1, LEAST_SEEN - 1))
def test_a_handful_of_calls_says_nothing_however_bad(bound: float, few: int):
    assert alarms([1.0] * few, bound, 100.0) == []


@given(st.floats(1e-4, 10.0), st.floats(0.0, 1.0), st.integers(1, 300))
def test_figures_that_never_pass_the_bound_never_alarm(bound: float, share: float, count: int):
    """Surely, not only probably: no bet gains, so M stays at most the number of figures."""
    assert alarms([bound * share] * count, bound, count + 1.0) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "bound", "within"), [(0.05, 0.01, 3.0), (0.2, 0.05, 3.0), (0.9, 0.01, 8.0), (0.01, 0.001, 3.0)]
)
def test_a_broken_bound_is_found_within_a_small_multiple_of_the_least_time(share, bound, within):
    """Median of 15 runs against ln(A) / KL (Lorden 1971), beside the 20 figures below which nothing is said."""
    least = math.log(1e5) / (share * math.log(share / bound) + (1 - share) * math.log((1 - share) / (1 - bound)))
    delays = []
    for run in range(15):
        rng = np.random.default_rng([8, run])
        figures = np.concatenate([np.zeros(300), rng.random(int(30 * least) + 500) < share])
        delays.append(next(place for place, _ in alarms(figures, bound, 1e5)) - 300)
    assert np.median(delays) <= max(within * least, LEAST_SEEN)


def test_a_breach_tells_how_bad_it_is_and_since_when():
    rng = np.random.default_rng(9)
    figures = np.concatenate([rng.random(2_000) < 0.005, rng.random(400) < 0.1])
    place, breach = alarms(figures, 0.01, 1e5)[0]
    assert 2_000 <= place < 2_200
    assert abs(breach.since_us / 1e6 - 2_000) < 100 and breach.length == place + 1 - breach.since_us // 1_000_000
    assert breach.mean == pytest.approx(0.1, abs=0.08) and breach.statistic >= breach.threshold


def test_a_bound_of_nothing_is_broken_by_what_should_not_be():
    assert alarms([0.0] * 500, 0.0, 1e5) == []
    assert [place for place, _ in alarms([0.0] * 50 + [1.0], 0.0, 1e5)] == [50]


@given(st.lists(st.floats(0, 1e6), max_size=60), st.integers(0, 60), st.floats(0, 100))
def test_a_stored_state_goes_on_as_it_was(figures: list[float], cut: int, bound: float):
    whole, first = BoundDetector(bound), BoundDetector(bound)
    told = [whole.update(n, figure, 50.0) for n, figure in enumerate(figures)]
    before = [first.update(n, figure, 50.0) for n, figure in enumerate(figures[:cut])]
    second = BoundDetector.from_json(first.to_json())
    assert before + [second.update(cut + n, figure, 50.0) for n, figure in enumerate(figures[cut:])] == told
    assert len(second.wealth) == BETS


@pytest.mark.parametrize("bad", [-1.0, math.nan])
def test_what_cannot_be_bet_on_is_refused(bad):
    with pytest.raises(ValueError, match="figure"):
        BoundDetector(0.1).update(0, bad, 1e5)
    with pytest.raises(ValueError, match="bound"):
        BoundDetector(bad)
