"""River's detectors behind a state in JSON: they find what River finds, and a stored one goes on alike."""

from __future__ import annotations

import json

import numpy as np
import pytest
from river.drift import ADWIN

from flywheel.detect import StateInvalid
from flywheel.detect.river_detectors import BINARY, HalfSpaceWindows, RiverDrift


def stream(name, count=900):
    rng = np.random.default_rng(7)
    if name in BINARY:
        return [float(value) for value in rng.random(count) < np.where(np.arange(count) < count // 2, 0.05, 0.6)]
    return (rng.standard_normal(count) + np.where(np.arange(count) < count // 2, 0.0, 4.0)).tolist()


@pytest.mark.parametrize("name", ["adwin", "kswin", "page_hinkley", "ddm", "fhddm", "hddm_a", "hddm_w"])
def test_a_change_is_found_and_a_stored_state_goes_on_alike(name):
    values = stream(name)
    detector = RiverDrift(name)
    whole = [detector.update(value) for value in values]
    assert any(whole[450:600])
    for cut in (451,) if name == "kswin" else (100, 451, 700):
        first = RiverDrift(name)
        assert [first.update(value) for value in values[:cut]] == whole[:cut]
        second = RiverDrift.from_json(json.loads(json.dumps(first.to_json())))
        assert [second.update(value) for value in values[cut:]] == whole[cut:]


def test_it_is_rivers_own_and_its_memory_is_bounded():
    values = stream("adwin", 3_000)
    bare, ours, alarms = ADWIN(), RiverDrift("adwin"), 0
    for place, value in enumerate(values):
        found = ours.update(value)
        if not alarms and place < 1_999:
            bare.update(value)
            assert found == bare.drift_detected
        alarms += found
        assert len(ours.fed) < 2_000
    assert alarms


def test_eddm_takes_errors_and_others_are_refused_by_name():
    assert RiverDrift("eddm").update(1.0) in {True, False}
    with pytest.raises(ValueError, match="0 or 1"):
        RiverDrift("ddm").update(0.5)
    with pytest.raises(ValueError, match="adwin"):
        RiverDrift("nothing")
    with pytest.raises(StateInvalid):
        RiverDrift.from_json({"name": "adwin"})


def test_half_space_trees_see_a_strange_window_and_go_on_alike():
    rng = np.random.default_rng(9)
    values = rng.standard_normal(20 * 620)
    values[20 * 600 : 20 * 601] *= 8.0
    detector, scores = HalfSpaceWindows(), []
    for place, value in enumerate(values.tolist()):
        if place == 20 * 300 + 7:
            detector = HalfSpaceWindows.from_json(json.loads(json.dumps(detector.to_json())))
        score = detector.update(value)
        if score is not None:
            scores.append(score)
    straight = HalfSpaceWindows()
    unbroken = [straight.update(value) for value in values.tolist()]
    assert scores == [score for score in unbroken if score is not None]
    assert scores[600] >= np.quantile(scores[560:], 0.95)
    assert len(detector.kept) <= HalfSpaceWindows.MOST
    with pytest.raises(StateInvalid):
        HalfSpaceWindows.from_json({})
