"""Metrics against published numbers, RouteLLM's own counts, and laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.routing.metrics import (
    Frontier,
    NoGain,
    aiq,
    aiq_as_in_repository,
    apgr,
    cpt,
    curve,
    curve_in_bins,
    frontier,
    gap_closed,
    pgr,
    weighted_apgr,
    zero_router,
)

COUNTS = {
    # RouteLLM's recorded answers after decontamination: both right, strong alone, weak alone, neither.
    "mmlu": (8816, 2496, 742, 1983),
    "gsm8k": (739, 382, 94, 92),
}
ORACLE = {"mmlu": (0.0625, 0.100, 1.268), "gsm8k": (0.1102, 0.1767, 1.115)}
"""CPT 50 %, CPT 80 % and APGR in RouteLLM's bins of the oracle, recomputed from the same data by others."""


def gains(name: str) -> np.ndarray:
    both, strong, weak, neither = COUNTS[name]
    return np.repeat([0.0, 1.0, -1.0, 0.0], (both, strong, weak, neither))


@pytest.mark.parametrize("name", COUNTS)
def test_the_oracle_of_routellms_data(name: str) -> None:
    gain = gains(name)
    found = curve(gain, gain)
    cpt50, cpt80, area = ORACLE[name]
    assert cpt(found, 0.5) == pytest.approx(cpt50, abs=1 / len(gain))
    assert cpt(found, 0.8) == pytest.approx(cpt80, abs=1 / len(gain))
    apart = gain + 1e-6 * np.random.default_rng(0).random(len(gain))
    assert apgr(curve_in_bins(apart, gain)) == pytest.approx(area, abs=0.0006)
    # Between the bins' corners the true curve is higher: it bends where the queries that need the strong model end.
    assert apgr(found) > area + 0.005


@pytest.mark.parametrize(("name", "deviation"), [("mmlu", 0.009), ("gsm8k", 0.021)])
def test_drawing_lots_has_one_half_with_the_published_spread(name: str, deviation: float) -> None:
    gain, rng = gains(name), np.random.default_rng(0)
    areas = [apgr(curve(rng.random(len(gain)), gain)) for _ in range(200)]
    assert np.mean(areas) == pytest.approx(0.5, abs=4 * deviation / math.sqrt(200))
    assert np.std(areas) == pytest.approx(deviation, rel=0.2)


def test_a_constant_number_is_a_draw_of_lots_exactly() -> None:
    gain = gains("gsm8k")
    assert apgr(curve(np.zeros(len(gain)), gain)) == pytest.approx(0.5)
    assert cpt(curve(np.zeros(len(gain)), gain), 0.8) == pytest.approx(0.8)


def test_routellms_bins_have_a_corner_at_each_edge_and_agree_with_the_curve() -> None:
    rng = np.random.default_rng(1)
    wanted = rng.random(20_000)
    gain = np.where(rng.random(20_000) < 0.1 + 0.5 * wanted, 1.0, 0.0)
    binned = curve_in_bins(wanted, gain)
    assert binned.share == pytest.approx(np.linspace(0, 1, 11), abs=1e-3)
    assert apgr(binned) == pytest.approx(apgr(curve(wanted, gain)), abs=0.002)
    assert math.isnan(apgr(curve_in_bins(np.zeros(3), np.ones(3))))
    # One bin: nothing above the highest number, all at the lowest, and a line between them.
    assert apgr(curve_in_bins(wanted, gain, bins=1)) == pytest.approx(0.5)


def test_pgr_is_of_the_gap() -> None:
    assert pgr(0.75, 0.5, 1.0) == 0.5
    with pytest.raises(NoGain):
        pgr(0.5, 0.6, 0.6)
    with pytest.raises(NoGain):
        curve(np.array([1.0, 2.0]), np.array([0.0, 0.0]))
    with pytest.raises(NoGain):
        curve_in_bins(np.array([1.0, 2.0]), np.array([0.0, -1.0]))


def test_a_target_that_is_never_reached_has_no_threshold() -> None:
    assert math.isnan(cpt(curve(np.arange(4.0), np.array([1.0, 0, 0, 0])), 1.1))
    assert cpt(curve(np.arange(4.0), np.array([1.0, 0, 0, 0])), 0.0) == 0.0


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([-1.0, 0.0, 1.0])), min_size=2, max_size=60))
def test_weights_count_as_repetition_does(rows: list[tuple[int, float]]) -> None:
    wanted, gain = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    times = np.random.default_rng(len(rows)).integers(0, 4, len(rows))
    repeated = np.repeat(gain, times)
    found = weighted_apgr(wanted, gain, times[None, :].astype(float))[0]
    if repeated.sum() <= 0:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(apgr(curve(np.repeat(wanted, times), repeated)))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
def test_no_point_lies_above_the_frontier(points: list[tuple[float, float]]) -> None:
    cost, quality = (np.array(column) for column in zip(*points, strict=True))
    found = frontier(cost, quality)
    assert np.all(np.diff(found.cost) > 0)
    assert np.all(np.diff(found.quality) > 0)
    assert np.all(np.interp(cost, found.cost, found.quality) >= quality - 1e-9)
    rise, run = np.diff(found.quality), np.diff(found.cost)
    assert np.all(rise[1:] * run[:-1] <= rise[:-1] * run[1:] + 1e-12)


def test_both_forms_of_aiq_by_hand() -> None:
    found = Frontier(np.array([1.0, 3.0]), np.array([0.4, 0.8]))
    # The paper's: from 1 to 5 there is a slope of mean .6 over 2 and .8 over 2.
    assert aiq(found, least_cost=1.0, most_cost=5.0) == pytest.approx((2 * 0.6 + 2 * 0.8) / 4)
    # The repository's: the same area over 5, as if below the first point there were nothing.
    assert aiq_as_in_repository(found, most_cost=5.0) == pytest.approx((2 * 0.6 + 2 * 0.8) / 5)
    assert aiq(found, least_cost=2.0, most_cost=2.0) == 0.8
    assert aiq_as_in_repository(found, most_cost=0.0) == 0.8


def test_the_zero_router_leaves_out_a_model_below_the_line_between_others() -> None:
    scores = np.array([[0.0, 0.3, 1.0], [0.4, 0.3, 1.0]])
    costs = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    found = zero_router(scores, costs)
    assert found.cost.tolist() == [1.0, 3.0]
    assert found.quality.tolist() == [0.2, 1.0]


def test_the_gap_is_between_best_single_and_oracle() -> None:
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert gap_closed(0.75, scores) == 0.0
    assert gap_closed(1.0, scores) == 1.0
    with pytest.raises(NoGain):
        gap_closed(1.0, np.array([[1.0, 0.0]]))
