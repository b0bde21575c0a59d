"""One series through the default detector set: no future, no loss of state, and what is found."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.detect import ChangeDetector, SeriesDetector, StateInvalid
from flywheel.detect.calibration import TailCalibrator

MINUTE_US = 60_000_000
START_US = 1_700_000_000_000_000


def judged(values, *, every_us=5 * MINUTE_US, detector=None):
    detector = detector or SeriesDetector()
    return [detector.update(START_US + place * every_us, value) for place, value in enumerate(values)]


VALUES = st.lists(
    st.one_of(
        st.floats(-1e6, 1e6, allow_nan=False),
        st.sampled_from([0.0, 1.0, 1e300, -1e300, 5e-324]),
    ),
    min_size=1,
    max_size=120,
)


@settings(max_examples=40, deadline=None)
@given(VALUES, st.integers(0, 120), st.integers(0, 400))
def test_no_row_sees_its_future(values, cut, seed):
    """Also with 400 rows before, so that calibration and bets are at work."""
    past = np.random.default_rng(seed).standard_normal(400).tolist()
    whole, prefix = judged(past + values), judged(past + values[:cut])
    assert prefix == whole[: len(prefix)]
    assert all(0.0 <= row.score < 1.0 and math.isfinite(row.surprise) for row in whole)


@settings(max_examples=15, deadline=None)
@given(VALUES, st.integers(1, 700))
def test_a_stored_state_goes_on_as_if_nothing_had_been(values, cut):
    series = np.random.default_rng(cut).standard_normal(700).tolist() + values
    series[350:] = [value + 3.0 for value in series[350:]]
    expected = judged(series)[cut:]
    first = SeriesDetector()
    judged(series[:cut], detector=first)
    second = SeriesDetector.from_json(json.loads(json.dumps(first.to_json())))
    times = range(cut, len(series))
    assert [second.update(START_US + t * 5 * MINUTE_US, series[t]) for t in times] == expected


def test_a_state_of_something_else_is_refused():
    with pytest.raises(StateInvalid, match="ChangeDetector"):
        ChangeDetector.from_json({"count": 1})


def test_the_state_stays_small():
    detector = SeriesDetector()
    judged(np.random.default_rng(5).lognormal(size=8_000).tolist(), detector=detector)
    assert len(json.dumps(detector.to_json())) < 400_000
    assert len(detector.scorer.calibrators[0].top) + len(detector.scorer.calibrators[0].body) <= 512 + 1_025


def test_a_spike_a_shift_a_spread_and_a_silence_are_each_told_by_name():
    rng = np.random.default_rng(11)
    values = rng.normal(10.0, 1.0, 4_200)
    values[700] = 25.0
    values[1_200:] += 3.0
    values[3_700:] = 13.0 + 4.0 * (values[3_700:] - 13.0)  # two days must have been seen before spreads are judged
    detector, alarms = SeriesDetector(), []
    for place, value in enumerate(values.tolist()):
        at_us = START_US + place * MINUTE_US + (3_600_000_000 if place >= 4_100 else 0)
        alarms += [(place, alarm) for alarm in detector.update(at_us, value).alarms]
    assert [place for place, alarm in alarms if alarm.kind == "anomaly" and 600 < place < 1_200] == [700]
    shift = next((place, alarm) for place, alarm in alarms if alarm.kind == "level_change")
    assert 1_200 <= shift[0] < 1_215
    assert shift[1].expected == pytest.approx(10.0, abs=0.2)
    assert shift[1].observed == pytest.approx(13.0, abs=1.0)
    assert abs(shift[1].since_us - (START_US + 1_200 * MINUTE_US)) <= 5 * MINUTE_US
    assert 3_700 <= next(place for place, alarm in alarms if alarm.kind == "drift") < 3_740
    assert [place for place, alarm in alarms if alarm.kind == "silence"] == [4_100]
    assert all(alarm.statistic >= alarm.threshold for _, alarm in alarms)


def test_a_daily_season_is_learned_and_what_breaks_it_is_seen():
    rng = np.random.default_rng(3)
    time = np.arange(24 * 40)
    values = 100.0 + 20.0 * np.sin(2 * np.pi * time / 24) + rng.standard_normal(len(time))
    values[24 * 30 : 24 * 30 + 12] -= 15.0 * np.sin(2 * np.pi * time[:12] / 24)
    rows = judged(values.tolist(), every_us=60 * MINUTE_US)
    kinds = [(place, alarm.kind) for place, row in enumerate(rows) for alarm in row.alarms if place >= 24 * 10]
    assert any(720 <= place < 735 for place, _ in kinds)
    assert not [place for place, kind in kinds if kind == "level_change" and place < 720]


def test_a_series_of_days_has_no_season_and_its_shift_is_a_level_change():
    rng = np.random.default_rng(21)
    rows = judged(np.concatenate([rng.normal(5, 1, 500), rng.normal(8, 1, 60)]).tolist(), every_us=1_440 * MINUTE_US)
    places = [place for place, row in enumerate(rows) for alarm in row.alarms if alarm.kind == "level_change"]
    assert len(places) == 1 and 500 <= places[0] < 515


def test_a_constant_series_says_nothing_until_it_moves():
    rows = judged([7.0] * 1_000 + [7.5] + [7.0] * 10)
    assert [place for place, row in enumerate(rows) if row.alarms] == [1_000]
    assert rows[999].surprise < rows[1_000].surprise


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(bad):
    with pytest.raises(ValueError, match="value"):
        SeriesDetector().update(0, bad)


@pytest.mark.parametrize("draw", ["exponential", "pareto"])
def test_rarity_is_the_tail_probability(draw):
    """Of 4,000 independent figures, rarity r or more has about the share 10^−r: within a factor of 2 at 1 %."""
    rng = np.random.default_rng(17)
    figures = rng.exponential(size=4_000) if draw == "exponential" else rng.pareto(3.0, 4_000)
    calibrator = TailCalibrator()
    rarities = np.array([calibrator.update(float(figure)) for figure in figures])[500:]
    assert 0.005 < (rarities >= 2.0).mean() < 0.02
    assert 0.0001 < (rarities >= 3.0).mean() < 0.004
