"""Scores that stand for outcomes: when an arm is told to game one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flywheel.policy import CharterInvalid, parse_charter
from flywheel.policy.moments import MomentSummary, weigh_moments
from flywheel.policy.proxies import (
    FALSE_DIVERGENCE,
    ProxySpec,
    constant_arms,
    divergences,
    length_vector,
    pair_vector,
)

SPEC = ProxySpec(score="judge", stands_for="thumb")
CHARTER = """\
feature: f
arms: [{name: a, model: m}]
proxies: [{score: judge, stands_for: thumb, margin: 0.5}]
"""


def sums(rows):
    """Sums by arm of rows of arm, score and outcome."""
    found = MomentSummary()
    for arm, score, outcome in rows:
        found.add(1, arm, pair_vector(score, outcome))
    return weigh_moments(found)


def people(random, arm, n, *, judged, liked):
    """``n`` requests of an arm: a judge's score around ``judged``, a thumb that is up in ``liked`` of them."""
    scores = np.clip(random.normal(judged, 0.15, n), 0, 1)
    return [(arm, float(score), float(up)) for score, up in zip(scores, random.random(n) < liked, strict=True)]


def test_an_arm_that_pleases_the_judge_alone_is_told_of():
    random = np.random.default_rng(1)
    rows = people(random, "honest", 600, judged=0.6, liked=0.7) + people(random, "gamed", 600, judged=0.85, liked=0.6)
    gamed, honest = divergences(SPEC, sums(rows), pairs=1)
    assert (gamed.arm, gamed.told, honest.told) == ("gamed", True, False)
    assert gamed.score_lift > 1 and -0.5 < gamed.outcome_lift < 0 and gamed.threshold == pytest.approx(math.log(200))


def test_an_arm_that_is_better_by_both_or_worse_by_both_is_not():
    random = np.random.default_rng(2)
    rows = people(random, "better", 3000, judged=0.7, liked=0.8) + people(random, "worse", 3000, judged=0.6, liked=0.5)
    assert [each.told for each in divergences(SPEC, sums(rows), pairs=1)] == [False, False]


def test_the_lifts_by_hand():
    rows = [("a", 1.0, 0.0)] * 50 + [("a", 0.5, 1.0)] * 50 + [("b", 0.5, 1.0)] * 50 + [("b", 0.0, 1.0)] * 50
    a, b = divergences(SPEC, sums(rows), pairs=1)
    assert a.score_lift == pytest.approx(0.5 / math.sqrt(0.125), rel=1e-3)
    assert a.outcome_lift == pytest.approx(-0.5 / math.sqrt(3 / 16), rel=1e-3)
    assert (b.score_lift, b.outcome_lift) == pytest.approx((-a.score_lift, -a.outcome_lift))


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("a", 0.5, 1.0)] * 500,
        [("a", 0.5, 1.0)] * 500 + [("b", 1.0, 0.0)] * 49,
        [("a", 0.5, 1.0)] * 500 + [("b", 0.5, 0.0)] * 500,
    ],
    ids=["nothing", "one arm", "a thin arm", "a score that never varies"],
)
def test_too_little_to_tell(rows):
    assert not any(each.told for each in divergences(SPEC, sums(rows), pairs=1))


@pytest.mark.slow
def test_false_alarms_keep_to_their_rate():
    """400 runs of two arms alike but that one is better by the whole margin in the judge alone, the worst that does not
    diverge, looked at every 50 of 2,000 requests: at most FALSE_DIVERGENCE and three standard errors of them."""
    random = np.random.default_rng(3)
    runs, told = 400, 0
    for _ in range(runs):
        found = MomentSummary(newest=1)
        shift = 0.5 * 0.2 / math.sqrt(1 - 0.5**2 / 4)
        alarmed = False
        for _ in range(20):
            for arm, by in (("a", shift), ("b", 0.0)):
                scores = np.clip(np.rint((0.4 + by + 0.2 * random.standard_normal(50)) * 4096) / 4096, 0, 1)
                ups = (random.random(50) < 0.5).astype(float)
                z = np.stack([np.full(50, 4096), scores * 4096, ups * 16384]).astype(np.int64)
                packed = tuple((z @ z.T)[np.triu_indices(3)].tolist())
                found.merge(MomentSummary.from_rows(1, [(found.span_of(1), arm, packed)]))
            alarmed = alarmed or any(each.told for each in divergences(SPEC, weigh_moments(found), pairs=1))
        told += alarmed
    assert told / runs <= FALSE_DIVERGENCE + 3 * math.sqrt(FALSE_DIVERGENCE / runs)


def test_answers_all_as_long_are_told_of_where_the_score_likes_them():
    def lengths(rows):
        found = MomentSummary()
        for arm, score, tokens in rows:
            found.add(1, arm, length_vector(score, tokens))
        return constant_arms(weigh_moments(found))

    varied = [("b", 0.5, 40 + 20 * (n % 10)) for n in range(100)]
    (told,) = lengths([("a", 0.9, 64)] * 60 + varied)
    assert (told.arm, told.requests, told.score_lift) == ("a", 60, pytest.approx(0.4, abs=1e-3))
    logs = np.log1p([40 + 20 * (n % 10) for n in range(100)])
    assert (told.spread, told.others) == (pytest.approx(0, abs=1e-3), pytest.approx(logs.std(), abs=1e-3))
    assert not lengths([("a", 0.9, 64)] * 49 + varied)
    assert not lengths([("a", 0.4, 64)] * 60 + varied)
    assert not lengths([("a", 0.9, 60 + n % 10) for n in range(60)] + varied)
    assert not lengths([("a", 0.9, 64)] * 60 + [("b", 0.5, 70)] * 100)


@pytest.mark.parametrize(
    ("written", "instead", "problem"),
    [
        ("stands_for: thumb", "stands_for: judge", "line 3: proxies.0: judge cannot stand for itself"),
        ("stands_for: thumb", "stands_for: output_tokens", "line 3: proxies.0: output_tokens is no score"),
        ("model: m}]", "model: m}]\npolicy: {half_life: 50 outcomes}", "line 4: proxies: of all arms' outcomes"),
        ("margin: 0.5", "margin: 0", "line 3: proxies.0.margin: Input should be greater than or equal to 0.1"),
        ("margin", "margn", "line 3: proxies.0.margn: unknown field; did you mean margin?"),
        ("0.5}", "0.5}, {score: judge, stands_for: thumb}", "line 3: proxies.1.score: judge stands for thumb already"),
        ("score: judge, ", "", "line 3: proxies.0.score: Field required"),
    ],
)
def test_a_mistake_is_named_with_line_and_field(written, instead, problem):
    with pytest.raises(CharterInvalid) as caught:
        parse_charter(CHARTER.replace(written, instead, 1))
    found = [str(one) for one in caught.value.problems]
    assert any(line.startswith(problem) for line in found), found
