"""A doubt learned from judged answers: found where there is one, the mean where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.routing.answer_doubt import (
    WEIGHTS,
    answer_signals,
    cross_fitted_doubts,
    doubts_of,
    fit_doubt,
    learned_doubt,
)
from flywheel.routing.calibration import area_under_curve
from flywheel.routing.texts import SIGNALS, signals


def judged(count, seed=0):
    """Answers of which those with many numbers are wrong mostly, and the others mostly right."""
    rng = np.random.default_rng(seed)
    texts, wrong = [], []
    for _ in range(count):
        hard = rng.random() < 0.4
        numbers = " ".join(str(n) for n in rng.integers(0, 99, size=12 if hard else 3))
        texts.append(("How many are left?", f"We add {numbers} and get the sum."))
        wrong.append(float(rng.random() < (0.8 if hard else 0.1)))
    return texts, np.array([answer_signals(*each) for each in texts]), np.array(wrong)


def test_there_are_as_many_signals_as_weights_say():
    assert len(signals("")) == len(signals("How many? 1,234 or 5.6")) == SIGNALS
    assert len(answer_signals("a", "b")) == WEIGHTS - 1


def test_what_tells_wrong_answers_apart_is_found():
    texts, rows, wrong = judged(600)
    found = cross_fitted_doubts(rows, wrong, np.ones(600), folds=5, seed=0)
    # By the truth the AUC is .85 with a standard error of .016.
    assert area_under_curve(found, wrong, np.ones(600)) > 0.78
    weights = fit_doubt(rows, wrong, np.ones(600))
    assert doubts_of(weights, rows) == pytest.approx([learned_doubt(weights, *each) for each in texts])
    few, many = (
        learned_doubt(weights, "How many are left?", f"We add {n} and get the sum.") for n in ("1", "1 2 " * 6)
    )
    assert few < 0.25 and many > 0.6


def test_where_nothing_tells_them_apart_the_doubt_is_the_share_of_wrong_ones():
    _, rows, _ = judged(600)
    wrong = (np.random.default_rng(9).random(600) < 0.3).astype(float)
    found = cross_fitted_doubts(rows, wrong, np.ones(600), folds=5, seed=0)
    assert np.abs(found - 0.3).mean() < 0.06 and np.isfinite(found).all()


def test_an_answers_doubt_never_saw_its_label_and_weights_count_answers():
    _, rows, wrong = judged(100)
    other = wrong.copy()
    other[3] = 1 - other[3]
    before, after = (cross_fitted_doubts(rows, each, np.ones(100), folds=5, seed=0) for each in (wrong, other))
    assert before[3] == after[3] and (before != after).any()
    twice = fit_doubt(np.vstack((rows, rows)), np.concatenate((wrong, wrong)), np.ones(200))
    # The evidence counts rows in its noise: the same up to a share of 84 in 100 degrees of freedom.
    assert doubts_of(fit_doubt(rows, wrong, np.full(100, 2.0)), rows) == pytest.approx(doubts_of(twice, rows), abs=0.25)


def test_texts_that_are_all_alike_teach_the_mean():
    rows = np.array([answer_signals("Why?", "So.")] * 60)
    weights = fit_doubt(rows, np.arange(60) % 2.0, np.ones(60))
    assert learned_doubt(weights, "Why?", "So.") == pytest.approx(0.5)
