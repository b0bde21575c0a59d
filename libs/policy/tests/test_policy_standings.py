"""Where arms stand: intervals that hold at any time, floors, the Pareto front."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.policy.bounds import Floor
from flywheel.policy.standings import Known, known_measures, mean_interval, share_interval, standings
from flywheel.policy.summary import Evidence

LEAST = Floor("quality", "quality", 0.7, 1.0, strict=False)
STRICT = LEAST._replace(strict=True)
SAFE = Floor("safety.leak", "score:safety.leak", 0.0, 0.01, strict=False)


def test_an_interval_of_shares_by_hand():
    # Ten of ten: the mixture is B(11, 1) = 1/11 against p¹⁰, so what is excluded is p¹⁰ ≤ .05/11.
    low, high = share_interval(10.0, 10.0)
    assert (low, high) == (pytest.approx((0.05 / 11) ** 0.1, abs=1e-9), 1.0)
    assert share_interval(0.0, 10.0) == pytest.approx((0.0, 1 - low))


def test_both_intervals_hold_at_every_number_of_requests_at_once():
    random = np.random.default_rng(7)
    runs, rounds = 200, 400
    left_out = {"share": 0, "mean": 0}
    for _ in range(runs):
        values, money = random.beta(2.0, 5.0, rounds), random.gamma(2.0, 0.01, rounds)
        sums, paid, squares = values.cumsum(), money.cumsum(), (money * money).cumsum()
        looks = [n for n in range(2, rounds) if n < 20 or n % 10 == 0]
        shares = [share_interval(float(sums[n]), n + 1.0) for n in looks]
        means = [mean_interval(Evidence(n + 1.0, float(paid[n]), float(squares[n]))) for n in looks]
        left_out["share"] += any(not low <= 2 / 7 <= high for low, high in shares)
        left_out["mean"] += any(not low <= 0.02 <= high for low, high in means)
    # At most 5 % ever, and the standard error of a share of 200 runs is 1.5 points; that of money only asymptotically.
    assert left_out["share"] <= 0.05 * runs and left_out["mean"] <= (0.05 + 3 * 0.015) * runs
    low, high = shares[-1]
    assert high - low < 0.2 and means[-1][1] - means[-1][0] < 0.01


@given(st.floats(0, 1), st.floats(2, 1e6))
@settings(max_examples=80, deadline=None)
def test_an_interval_has_its_mean_inside_and_narrows(share, count):
    low, high = share_interval(share * count, count)
    assert 0 <= low <= share <= high <= 1
    wider = share_interval(share * count / 2, count / 2)
    assert wider[0] <= low + 1e-9 and high <= wider[1] + 1e-9


def known(**measures):
    """Means with a half width, or a mean known exactly."""
    pairs = {name: each if isinstance(each, tuple) else (each, 0.0) for name, each in measures.items()}
    return {
        name.replace("__", ":"): Known(100.0, mean, mean - half, mean + half) for name, (mean, half) in pairs.items()
    }


def stand(*arms, floors=(), serving=None, default="a"):
    names = "abcdef"[: len(arms)]
    return standings(list(names), serving or [True] * len(arms), list(arms), floors, default)


def test_an_arm_proven_below_the_floor_does_not_serve_and_one_that_may_be_above_does():
    found = stand(
        known(quality=(0.8, 0.05)), known(quality=(0.65, 0.04)), known(quality=(0.65, 0.06)), {}, floors=[LEAST]
    )
    assert [one.breaks for one in found] == [None, "quality", None, None]
    leaking = Known(500.0, 0.05, 0.02, 0.1)
    found = stand({}, {"score:safety.leak": leaking}, floors=[SAFE])
    assert [one.breaks for one in found] == [None, "safety.leak"]


def test_the_arm_nearest_to_a_floor_serves_where_all_break_it():
    found = stand(
        known(quality=0.3), known(quality=0.6), known(quality=0.69), floors=[LEAST], serving=[True, True, False]
    )
    assert [one.breaks for one in found] == ["quality", None, "quality"]


def test_a_strict_floor_holds_what_is_not_proven_to_exploring():
    sure, perhaps, low = known(quality=(0.9, 0.1)), known(quality=(0.8, 0.2)), known(quality=(0.3, 0.1))
    found = stand(perhaps, sure, perhaps, low, floors=[STRICT])
    # The default arm, a, is trusted until it is proven to break it.
    assert [one.unproven for one in found] == [None, None, "quality", "quality"] and found[3].breaks == "quality"
    # Where the default is proven to break it, and nothing is proven to keep it, all that is left serves alike.
    found = stand(low, perhaps, {}, floors=[STRICT])
    assert [one.breaks for one in found] == ["quality", None, None] and not any(one.unproven for one in found)


def test_the_front_by_means_and_what_intervals_prove():
    good, cheap = (
        known(quality=(0.9, 0.02), cost_usd=(0.02, 0.001)),
        known(quality=(0.7, 0.02), cost_usd=(0.001, 0.0001)),
    )
    worse = known(quality=(0.6, 0.02), cost_usd=(0.015, 0.001))
    perhaps = known(quality=(0.69, 0.02), cost_usd=(0.0011, 0.0002))
    found = stand(good, cheap, worse, perhaps, {})
    assert [one.efficient for one in found] == [True, True, False, False, True]
    assert [one.dominated_by for one in found] == [(), (), ("b", "d"), (), ()]
    # An arm that does not serve beats nobody.
    found = stand(good, cheap, worse, serving=[True, False, True])
    assert found[2].efficient and not found[2].dominated_by


arms = st.lists(
    st.fixed_dictionaries({"quality": st.floats(0, 1), "cost_usd": st.floats(0, 1), "latency_ms": st.floats(0, 9e3)}),
    min_size=1, max_size=6,
)  # fmt: skip


@given(arms, st.floats(0, 0.3))
@settings(max_examples=80, deadline=None)
def test_some_arm_is_efficient_and_what_is_proven_is_also_seen(measured, half):
    found = stand(*(known(**{name: (mean, half * max(mean, 1e-9)) for name, mean in arm.items()}) for arm in measured))
    assert any(one.efficient for one in found)
    by_name = {one.arm: one for one in found}
    for one in found:
        assert not (one.dominated_by and one.efficient)
        for better in one.dominated_by:
            assert by_name[better].known["quality"].mean >= one.known["quality"].mean
            assert by_name[better].known["cost_usd"].mean <= one.known["cost_usd"].mean


@given(arms, st.floats(0, 1), st.booleans(), st.lists(st.booleans(), min_size=6, max_size=6))
@settings(max_examples=80, deadline=None)
def test_an_arm_always_serves(measured, floor, strict, serving):
    serving = serving[: len(measured)]
    held = Floor("quality", "quality", floor, 1.0, strict)
    found = stand(*(known(**arm) for arm in measured), floors=[held], serving=serving)
    if any(serving):
        left = [one for one, able in zip(found, serving, strict=True) if able and one.breaks is None]
        assert left and any(one.unproven is None for one in left)


def test_a_measure_with_a_single_request_says_nothing():
    assert known_measures(["quality", "cost_usd"], [Evidence(1.0, 1.0, 1.0), Evidence()]) == {}
    found = known_measures(["quality", "cost_usd"], [Evidence(2.0, 1.0, 1.0), Evidence(2.0, 0.02, 0.0002)])
    assert found["quality"].mean == 0.5 and math.isfinite(found["cost_usd"].high)
