"""Golden probes: a judge who judges otherwise is told apart from answers that are worse."""

from __future__ import annotations

import importlib.util
import random
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.stream import Reject, Skip
from flywheel_detector.core.judges import Moved, verdict_of

_spec = importlib.util.spec_from_file_location("detector_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)

EVERY_S, CHANGE, END = 2.0, 900, 1_100
"""Calls come every two seconds, so many before a change and in all."""
KNOWN = (0.9, 0.6, 0.3)
"""The scores that three probes deserve, judged in turn, one with every second call."""


def probe(n: int, at_s: float, score: float, golden: float, **more):
    value = {"feature": "support", "request_id": f"probe-{n}", "golden_score": golden, **more}
    return parts.score(n, at_s, min(max(score, 0.0), 1.0), event_id=f"probe-{n}", **value)


@cache
def world(judge: float, quality: float, seed: int):
    """From the change on the judge gives less by ``judge``, and answers deserve less by ``quality``."""
    made, dice = parts.World(), random.Random(f"{judge}:{quality}:{seed}")

    def facts(n: int, at_s: float):
        stern, worse = (judge, quality) if n >= CHANGE else (0.0, 0.0)
        deserved = dice.gauss(0.7 - worse, 0.12)
        found = [parts.call(n, at_s), parts.score(n, at_s + 0.5, min(max(deserved - stern, 0.0), 1.0))]
        if n % 2 == 0:
            golden = KNOWN[n // 2 % len(KNOWN)]
            found.append(probe(n, at_s + 0.6, golden + dice.gauss(0.0, 0.05) - stern, golden))
        return found

    made.play(0, END * EVERY_S, facts, EVERY_S)
    return made


def last_verdict(made) -> str | None:
    return made.said("quality")[-1]["attributes"].get("verdict")


SEEDS = range(3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_judge_who_became_sterner_is_told_and_no_arm_is_blamed(seed: int):
    made = world(0.1, 0.0, seed)
    first = made.said("judge_drift")[0]
    assert first["scope"] == {"feature": "support"} and first["attributes"]["measure"] == "golden:judge.helpful"
    assert first["value"] == pytest.approx(-0.1, abs=0.04)
    assert float(first["attributes"]["expected"]) == pytest.approx(0.0, abs=0.02)
    assert last_verdict(made) == "judge"
    assert not any(alert["attributes"].get("verdict") in ("quality", "both") for alert in made.alerts)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_worse_answers_are_the_answers_fault(seed: int):
    made = world(0.0, 0.1, seed)
    verdicts = {alert["attributes"].get("verdict") for alert in made.said("quality")}
    assert not made.said("judge_drift") and verdicts - {None} == {"quality"}  # at times the newest calls are too few


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_both_at_once_are_told_as_both(seed: int):
    made = world(0.1, 0.2, seed)
    assert made.said("judge_drift") and last_verdict(made) == "both"


@pytest.mark.parametrize("seed", SEEDS)
def test_of_neither_nothing_is_told(seed: int):
    assert not world(0.0, 0.0, seed).alerts


def test_a_judge_who_became_kinder_is_told_too():
    assert world(-0.1, 0.0, 0).said("judge_drift")[0]["value"] > 0.05


def test_probes_count_for_no_arm_and_are_no_sign_of_life():
    """Nobody calls any more, while the probes go on: that is a silence, and their scores are no arm's."""
    made, dice = parts.World(), random.Random(1)
    made.play(0, 400, lambda n, at_s: [parts.call(n, at_s), probe(n, at_s, 0.6 + dice.gauss(0, 0.05), 0.6)])
    made.play(400, 700, lambda n, at_s: [probe(n, at_s, 0.6 + dice.gauss(0, 0.05), 0.6)])
    assert [alert["state"] for alert in made.said("silence")] == ["firing"]
    (book,) = made.state.tables["books"].values()
    assert b'"golden:judge.helpful"' in book and b"score:" not in book


def test_a_probe_needs_a_feature_and_a_score_that_can_be():
    made = parts.World()
    made.read([probe(1, 0, 0.5, 0.6, feature=None)], 1)
    made.read([probe(2, 0, 0.5, 1.5)], 1)
    made.read([probe(3, 0, 0.5, float("nan"))], 1)
    skipped, *refused = made.verdicts
    assert skipped == Skip("no_feature")
    assert [isinstance(each, Reject) and each.field for each in refused] == ["golden_score", "golden_score"]


def test_verdicts_by_the_figures():
    score = Moved(-0.3, 0.03)
    assert verdict_of(score, None) == "" == verdict_of(score, Moved(-0.1, 0.1))
    assert verdict_of(score, Moved(0.0, 0.01)) == "quality"
    assert verdict_of(score, Moved(-0.1, 0.01)) == "both"
    assert verdict_of(score, Moved(-0.28, 0.01)) == "judge" == verdict_of(score, Moved(-0.4, 0.01))


SMALL = st.floats(0.0, 1.0)


@given(SMALL, SMALL, SMALL, SMALL)
def test_nobody_is_blamed_for_less_than_three_standard_errors(fall: float, error: float, by: float, of: float):
    found = verdict_of(Moved(-fall, error), Moved(-by, of))
    if by <= 3.0 * of:
        assert found in ("quality", "")
    if fall - by <= 3.0 * max(error, of):
        assert found in ("judge", "")
