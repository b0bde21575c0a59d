"""Calibrations of doubts: golden values, laws, and errors that fall where they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.policy.cascade import Escalation
from flywheel.routing.calibration import (
    MOST_POINTS,
    TooFew,
    apply_knots,
    area_under_curve,
    calibrate,
    calibration_error,
    cross_fitted,
    fit_knots,
)


def ones(count):
    return np.ones(count)


def test_level_pieces_become_points_at_their_middle():
    # 0.1 and 0.2 are out of order (1, 0): one piece of two answers at 0.15, half of them wrong.
    raw, wrong = np.array([0.0, 0.1, 0.2, 0.6]), np.array([0.0, 1.0, 0.0, 1.0])
    assert fit_knots(raw, wrong, ones(4)) == ((0.0, 0.0), (0.15, 0.5), (0.6, 1.0))
    # Three answers at 0.1 of which one is wrong weigh as one of weight 3 that is wrong by a third.
    many = fit_knots(np.array([0.1, 0.1, 0.1, 0.5]), np.array([1.0, 0.0, 0.0, 1.0]), ones(4))
    assert many == fit_knots(np.array([0.1, 0.5]), np.array([1 / 3, 1.0]), np.array([3.0, 1.0]))
    assert fit_knots(np.array([0.3, 0.3]), np.array([0.0, 1.0]), ones(2)) == ((0.3, 0.5),)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 5)), min_size=1, max_size=300).filter(
        lambda rows: sum(row[2] for row in rows) > 0.01
    )
)
def test_a_calibration_is_one_that_a_charter_takes(rows):
    raw, wrong, weights = (np.array(column) for column in zip(*rows, strict=True))
    knots = fit_knots(raw, wrong, weights)
    plan = Escalation(to="strong", above=0.5, calibration=knots)
    assert len(knots) <= MOST_POINTS
    assert apply_knots(knots, raw).tolist() == pytest.approx([plan.calibrated(each) for each in raw.tolist()])


def test_errors_by_hand():
    doubt, wrong = np.array([0.1, 0.1, 0.9, 0.9]), np.array([0.0, 0.0, 1.0, 0.0])
    # Two bins: .1 against 0 and .9 against 1/2.
    assert calibration_error(doubt, wrong, ones(4)) == pytest.approx((2 * 0.1 + 2 * 0.4) / 4)
    assert area_under_curve(doubt, wrong, ones(4)) == pytest.approx((1 + 1 + 0.5) / 3)
    assert area_under_curve(doubt, wrong, np.array([1.0, 1.0, 1.0, 0.0])) == 1.0


def drawn(rate, count=4000, seed=0):
    """Answers whose raw doubt is uniform and whose probability of being wrong is ``rate`` of it."""
    rng = np.random.default_rng(seed)
    raw = rng.random(count)
    return raw, (rng.random(count) < rate(raw)).astype(float)


def test_doubts_that_say_too_much_are_put_right():
    raw, wrong = drawn(lambda doubt: 0.6 * doubt**3)
    found = calibrate(raw, wrong, ones(len(raw)))
    # Of 4,000 answers in 10 bins each share has a standard error of .02 at most: the mean of 10 distances is below .02.
    assert found.fitted.calibration.value < 0.02 and found.raw.calibration.low > 0.3
    assert found.brier_less.low > 0 and found.raw.brier.low > found.fitted.brier.high
    truth = 0.6 * np.array([0.25, 0.5, 0.75, 0.9]) ** 3
    assert apply_knots(found.knots, np.array([0.25, 0.5, 0.75, 0.9])) == pytest.approx(truth, abs=0.07)
    assert found.fitted.auc.value == pytest.approx(found.raw.auc.value, abs=0.02)


def test_doubts_that_say_nothing_become_the_share_of_wrong_answers():
    raw, wrong = drawn(lambda doubt: np.full_like(doubt, 0.3), seed=1)
    found = calibrate(raw, wrong, ones(len(raw)))
    assert found.fitted.brier.value < 0.3 * 0.7 + 0.01 and found.raw.auc.low < 0.5 < found.raw.auc.high
    assert np.abs(found.doubts - 0.3).mean() < 0.04


def test_an_answer_is_judged_by_a_calibration_that_never_saw_it():
    raw, wrong = drawn(lambda doubt: doubt, count=200, seed=2)
    other = wrong.copy()
    other[7] = 1 - other[7]
    before, after = (cross_fitted(raw, each, ones(200), folds=5, seed=0) for each in (wrong, other))
    assert before[7] == after[7] and (before != after).any()


def test_weights_stand_for_answers():
    raw, wrong = drawn(lambda doubt: doubt, count=300, seed=3)
    twice = np.concatenate((raw, raw[:100])), np.concatenate((wrong, wrong[:100]))
    weights = np.concatenate((np.full(100, 2.0), ones(200)))
    doubled = apply_knots(fit_knots(*twice, ones(400)), raw)
    assert apply_knots(fit_knots(raw, wrong, weights), raw) == pytest.approx(doubled, abs=0.12)
    assert calibration_error(raw, wrong, 3 * ones(300)) == pytest.approx(calibration_error(raw, wrong, ones(300)))


def test_where_nothing_can_be_told_it_says_so():
    with pytest.raises(TooFew, match="49 answers are too few for 5 folds"):
        calibrate(np.linspace(0, 1, 49), np.arange(49) % 2.0, ones(49))
    with pytest.raises(TooFew, match="equally good"):
        calibrate(np.linspace(0, 1, 60), np.zeros(60), ones(60))
    with pytest.raises(TooFew, match="no answer counts"):
        fit_knots(np.array([0.1]), np.array([1.0]), np.array([0.0]))
