"""PSI and categories at critical values that hold, label shift corrected, and accuracy told from mix."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.detect.label_shift import corrected_shares, explain
from flywheel.detect.two_samples import categorical, psi, vectors


@pytest.mark.parametrize(
    ("size", "critical"), [(100, 0.338), (200, 0.169), (500, 0.068), (1_000, 0.034), (5_000, 0.0068)]
)
def test_the_critical_values_of_psi_are_the_published_ones(size, critical):
    """χ² with 9 degrees of freedom, 95 %: 16.919 · 2/n (Yurdakul 2018)."""
    assert psi([size // 10] * 10, [size // 10] * 10).critical == pytest.approx(critical, rel=0.01)


def test_psi_errs_as_often_as_it_says_where_the_usual_limit_does_not():
    """2,000 pairs of 200: 5 % within 3.3 standard errors (.016); above 0.1 more than 25 % of the time."""
    rng = np.random.default_rng(1)
    pairs = [(rng.multinomial(200, [0.1] * 10), rng.multinomial(200, [0.1] * 10)) for _ in range(2_000)]
    found = [psi(first, second) for first, second in pairs]
    assert abs(np.mean([each.drifted for each in found]) - 0.05) < 0.02
    assert np.mean([each.statistic > 0.1 for each in found]) > 0.25
    assert abs(np.mean([each.p_value < 0.05 for each in found]) - 0.05) < 0.02
    assert psi([50] * 10, [90, 10, *[50] * 8]).drifted


def test_categories_with_a_long_tail_err_as_often_as_they_say():
    """500 pairs of 300 over 60 categories: 5 % within 3.3 standard errors (.032)."""
    rng = np.random.default_rng(2)
    shares = 1.0 / np.arange(1, 61)
    shares /= shares.sum()
    drifted = 0
    for _ in range(500):
        first, second = ({str(k): int(n) for k, n in enumerate(rng.multinomial(300, shares))} for _ in range(2))
        drifted += categorical(first, second).drifted
    assert abs(drifted / 500 - 0.05) < 0.032
    assert categorical({"a": 80, "b": 20}, {"a": 50, "b": 20, "new": 30}).p_value < 1e-4
    assert categorical({"a": 80}, {"a": 50}).p_value == 1.0


@pytest.mark.parametrize(
    ("reference", "recent"), [([1], [1]), ([1, 2], [1, 2, 3]), ([0, 0], [1, 1]), ([1, -1], [1, 1])]
)
def test_counts_that_are_none_are_refused(reference, recent):
    with pytest.raises(ValueError, match=r"re(ference|cent):"):
        psi(reference, recent)


def embedded(rng, rows, *, width=16, shift=0.0, spread=1.0, together=0.0):
    """Heavy-tailed vectors; the first two coordinates are shifted, spread or made to go together."""
    made = rng.standard_t(4, size=(rows, width))
    made[:, 0] += shift
    made[:, 1] = made[:, 1] * spread + together * made[:, 0]
    return made


def test_vectors_err_as_often_as_they_say():
    """400 pairs of 30 and 40: 5 % within 3.3 standard errors (.036), whatever the tails."""
    rng = np.random.default_rng(3)
    found = [vectors(embedded(rng, 30), embedded(rng, 40), permutations=199, seed=n) for n in range(400)]
    assert abs(np.mean([each.drifted for each in found]) - 0.05) < 0.036
    assert all(each.drifted == (each.p_value <= 0.05) for each in found)


@pytest.mark.parametrize(
    ("change", "width", "rows"), [({"shift": 1.5}, 16, 150), ({"spread": 4.0}, 4, 200), ({"together": 3.0}, 4, 200)]
)
def test_a_change_of_vectors_is_found_whatever_of_them_changed(change, width, rows):
    """Of 12 pairs at 1 %, at least 11: a coordinate's mean, its spread, and what it goes with."""
    rng = np.random.default_rng(4)
    pairs = [(embedded(rng, rows, width=width), embedded(rng, rows, width=width, **change)) for _ in range(12)]
    assert sum(vectors(first, second, alpha=0.01).drifted for first, second in pairs) >= 11


def test_units_do_not_matter_and_the_same_seed_gives_the_same():
    rng = np.random.default_rng(5)
    first, second = embedded(rng, 80), embedded(rng, 80, shift=1.0)
    units = 10.0 ** np.arange(-8, 8)
    found = vectors(first, second)
    assert found == vectors(first, second) and found.p_value == vectors(first * units, second * units).p_value
    assert vectors([[1.0, 2.0]] * 5, [[1.0, 2.0]] * 5).p_value == 1.0


@pytest.mark.parametrize(
    ("reference", "recent", "says"),
    [
        ([[1.0]], [[1.0], [2.0]], "reference"),
        ([[1.0], [2.0]], [[1.0, 2.0], [1.0, 2.0]], "recent"),
        ([[1.0], [2.0]], [[1.0], [float("nan")]], "recent"),
        ([[1.0], [2.0, 3.0]], [[1.0], [2.0]], "reference"),
        ([[1.0], ["a"]], [[1.0], [2.0]], "reference"),
    ],
)
def test_vectors_that_are_none_are_refused(reference, recent, says):
    with pytest.raises(ValueError, match=f"{says}:"):
        vectors(reference, recent)
    with pytest.raises(ValueError, match="permutations:"):
        vectors([[1.0], [2.0]], [[1.0], [2.0]], permutations=9)


def test_shares_are_corrected_as_by_hand():
    """Lipton, Wang & Smola (2018): C = [[.4,.1],[.1,.4]], μ = (.35,.65) gives w = (.5,1.5), q = (.25,.75)."""
    found = corrected_shares([[0.4, 0.1], [0.1, 0.4]], [0.35, 0.65])
    assert found.weights == pytest.approx((0.5, 1.5))
    assert found.shares == pytest.approx((0.25, 0.75))
    assert found.plausible


def test_shares_are_recovered_from_answers_and_an_impossible_mix_is_said():
    rng = np.random.default_rng(3)
    accuracy = np.array([[0.85, 0.1, 0.05], [0.1, 0.8, 0.15], [0.05, 0.1, 0.8]])
    labelled = np.column_stack([rng.multinomial(1_000, accuracy[:, k]) for k in range(3)])
    truth = np.array([0.1, 0.2, 0.7])
    answered = rng.multinomial(3_000, accuracy @ truth)
    found = corrected_shares(labelled, answered)
    assert found.shares == pytest.approx(truth, abs=0.05)
    assert found.plausible
    assert not corrected_shares(labelled, [2_990, 5, 5]).plausible
    with pytest.raises(ValueError, match="tell the classes apart"):
        corrected_shares([[0.25, 0.25], [0.25, 0.25]], [0.5, 0.5])
    with pytest.raises(ValueError, match="every class"):
        corrected_shares([[1, 0], [1, 0]], [1, 1])


def test_a_change_of_mix_is_told_from_a_change_of_accuracy():
    calm = explain([(90, 10), (60, 40)], [(89, 11), (62, 38)])
    mix = explain([(90, 10), (60, 40)], [(45, 5), (90, 60)])
    worse = explain([(90, 10), (60, 40)], [(60, 40), (60, 40)])
    assert (calm.verdict, mix.verdict, worse.verdict) == ("nothing", "label_shift", "accuracy")
    assert mix.change == pytest.approx(135 / 200 - 0.75) == pytest.approx(mix.from_mix)
    assert worse.change == pytest.approx(-0.15) == pytest.approx(worse.from_accuracy)
    assert explain([(90, 10), (60, 40)], [(20, 30), (60, 90)]).verdict == "both"
    with pytest.raises(ValueError, match="at least one call"):
        explain([(0, 0)], [(1, 0)])


def test_verdicts_err_as_often_as_they_say():
    """400 pairs without a change at 5 % each: within 3.3 standard errors (.036)."""
    rng = np.random.default_rng(4)
    mixes = accuracies = 0
    for _ in range(400):
        draws = []
        for _ in range(2):
            calls = rng.binomial(500, 0.4)
            right = rng.binomial([calls, 500 - calls], [0.9, 0.6])
            draws.append([(right[0], calls - right[0]), (right[1], 500 - calls - right[1])])
        found = explain(*draws, alpha=0.05)
        mixes += found.p_mix < 0.05
        accuracies += found.p_accuracy < 0.05
    assert abs(mixes / 400 - 0.05) < 0.036
    assert abs(accuracies / 400 - 0.05) < 0.036
