"""Silences are false as rarely as stated, whatever the hour, and true ones are noticed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.detect import SilenceDetector
from flywheel.detect.rhythm import HOUR_US, MEMORY_WEEKS, WEEK, Rhythm

MINUTE_US = 60_000_000
DAY_US = 24 * HOUR_US
MONDAY_US = 4 * DAY_US + 52 * 7 * DAY_US  # 1 January 1970 was a Thursday


def steady(at_h):
    return np.ones_like(at_h)


def seasonal(at_h):
    return 1.0 + 0.9 * np.sin(2 * np.pi * at_h / 24)


def office(at_h):
    """From 8 to 18 on weekdays, else a two-hundredth."""
    return np.where((at_h % WEEK < 5 * 24) & (at_h % 24 >= 8) & (at_h % 24 < 18), 1.0, 0.005)


def poisson(rng, rate, days, *, per_minute=1.0):
    """Times of a Poisson process by thinning: ``rate`` of hours since Monday, at most 2, in units of ``per_minute``."""
    count = rng.poisson(2.0 * per_minute * days * 1_440)
    at_h = np.sort(rng.random(count)) * days * 24
    kept = at_h[2.0 * rng.random(count) < rate(at_h)]
    return (MONDAY_US + kept * HOUR_US).astype(int).tolist()


def silences(times, per_day, *, from_day=0):
    detector, found = SilenceDetector(per_day=per_day), []
    for at_us in times:
        silence = detector.update(at_us)
        if silence is not None and at_us >= MONDAY_US + from_day * DAY_US:
            found.append(silence)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("rate", [steady, seasonal, office])
def test_false_silences_come_at_most_as_often_as_stated(rate):
    """70 days at 0.5 a day, after three weeks to learn: 25 allowed, 3.3 standard errors above them are 42."""
    found = silences(poisson(np.random.default_rng(1), rate, 70), 0.5, from_day=21)
    assert len(found) <= 25 + 3.3 * 5


def test_the_stated_rate_is_not_only_kept_because_nothing_is_ever_found():
    """The same traffic, where every tenth day has a gap of half an hour: each is found, and hardly another."""
    times = [at for at in poisson(np.random.default_rng(2), steady, 40) if at % (10 * DAY_US) // (30 * MINUTE_US) != 7]
    gaps = [each.gap_us for each in silences(times, 0.01)]
    assert sum(gap >= 30 * MINUTE_US for gap in gaps) == 4 and len(gaps) <= 6


def test_events_in_bursts_are_no_silences_between_the_bursts():
    """Five events within a second, every ten minutes at random: 30 days at 0.5 a day, 15 allowed and 3.3 errors."""
    starts = poisson(np.random.default_rng(3), steady, 30, per_minute=0.1)
    times = sorted(start + 200_000 * place for start in starts for place in range(5))
    assert len(silences(times, 0.5)) <= 15 + 3.3 * 15**0.5


def test_a_night_is_no_silence_once_two_were_seen_and_a_weekend_once_two_were():
    def office_only(at_h):
        return np.where(office(at_h) < 1.0, 0.0, 1.0)

    found = silences(poisson(np.random.default_rng(4), office_only, 42), 0.01)
    since_days = [(each.since_us - MONDAY_US) // DAY_US for each in found]
    assert since_days and max(since_days) <= 11, "the first nights, and the Fridays of the first two weeks"


def test_a_morning_without_calls_is_a_silence_where_mornings_have_them():
    """On the fourth Wednesday calls stop from 10 to 12: told before 11."""
    broken_us = MONDAY_US + 23 * DAY_US + 10 * HOUR_US
    detector = SilenceDetector(per_day=0.01)
    for at_us in poisson(np.random.default_rng(5), office, 24):
        if at_us < broken_us:
            detector.update(at_us)
    assert detector.last_us is not None and broken_us - detector.last_us < 10 * MINUTE_US
    overdue_us = detector.overdue_us(detector.last_us)
    assert overdue_us is not None and 10 * MINUTE_US < overdue_us < 40 * MINUTE_US
    night_us = broken_us + 12 * HOUR_US
    at_night = detector.overdue_us(night_us)
    assert at_night is not None and at_night > 6 * HOUR_US


@given(st.lists(st.integers(1, 3 * DAY_US), min_size=30, max_size=80), st.integers(0, 80), st.integers(0, 9 * DAY_US))
@settings(deadline=None)
def test_it_goes_on_from_its_state_and_its_clocks_agree(gaps: list[int], cut: int, ahead: int):
    times = np.cumsum([MONDAY_US, *gaps]).tolist()
    first = SilenceDetector()
    whole = [first.update(at_us) for at_us in times]
    second = SilenceDetector()
    told = [second.update(at_us) for at_us in times[:cut]]
    second = SilenceDetector.from_json(json.loads(json.dumps(second.to_json())))
    assert told + [second.update(at_us) for at_us in times[cut:]] == whole
    rhythm, until_us = first.rhythm, times[-1] + ahead
    assert max(rhythm.seen) <= MEMORY_WEEKS
    passed = rhythm.elapsed(times[-1], until_us)
    assert passed >= 0.0
    if passed > 0.0:
        reached = rhythm.reaches(times[-1], passed)
        assert reached is None or reached >= ahead - 1_000, "the cautious clock is never ahead"


def test_a_clock_of_which_nothing_is_known_is_the_calendars():
    rhythm = Rhythm()
    assert (rhythm.elapsed(5, 105), rhythm.reaches(5, 100.0)) == (100.0, 100)
