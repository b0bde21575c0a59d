"""Windows against known calendars: days that are 23 and 25 hours long, midnights that do not exist, dates skipped."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.budget import Budget, Per, slot_us, window_id, window_start, windows_of

HOUR_US = 3_600_000_000


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def budget(per: Per, zone: str = "UTC", rolling_s: int | None = None) -> Budget:
    return Budget("p", "b", 1, 0, 1, per, time_zone=zone, rolling_s=rolling_s)


@pytest.mark.parametrize(
    ("per", "zone", "at", "start", "hours"),
    [
        ("day", "UTC", "2026-11-21T12:00", "2026-11-21T00:00", 24),
        ("day", "Europe/Berlin", "2026-03-29T12:00", "2026-03-28T23:00", 23),
        ("day", "Europe/Berlin", "2026-10-25T12:00", "2026-10-24T22:00", 25),
        ("day", "America/New_York", "2026-03-08T12:00", "2026-03-08T05:00", 23),
        ("day", "America/New_York", "2026-11-01T12:00", "2026-11-01T04:00", 25),
        ("day", "Asia/Kolkata", "2026-11-21T12:00", "2026-11-20T18:30", 24),
        # Clocks went from 00:00 to 01:00: the day began at 01:00 (Brazil, 2018-11-04).
        ("day", "America/Sao_Paulo", "2018-11-04T12:00", "2018-11-04T03:00", 23),
        # 2011-12-30 did not exist in Samoa; the 29th ended where the 31st began.
        ("day", "Pacific/Apia", "2011-12-30T09:00", "2011-12-29T10:00", 24),
        ("day", "Pacific/Apia", "2011-12-30T10:00", "2011-12-30T10:00", 24),
        ("week", "UTC", "2026-11-21T12:00", "2026-11-16T00:00", 168),
        ("week", "Europe/Berlin", "2026-03-29T12:00", "2026-03-22T23:00", 167),
        ("month", "UTC", "2028-02-29T12:00", "2028-02-01T00:00", 29 * 24),
        ("month", "Europe/Berlin", "2026-10-31T12:00", "2026-09-30T22:00", 31 * 24 + 1),
        ("hour", "UTC", "2026-11-21T12:59", "2026-11-21T12:00", 1),
        ("hour", "Asia/Kathmandu", "2026-11-21T12:20", "2026-11-21T12:15", 1),
        ("hour", "Europe/Berlin", "2026-10-25T01:30", "2026-10-25T01:00", 1),
    ],
)
def test_a_window_of_a_calendar(per: Per, zone: str, at: str, start: str, hours: int) -> None:
    window = windows_of(budget(per, zone)).at(us(at))
    assert (window.start_us, window.end_us - window.start_us) == (us(start), hours * HOUR_US)
    assert window.id == start + ":00Z"


def test_a_rolling_budget_has_epochs_and_sixty_slots() -> None:
    rolling = budget("rolling", rolling_s=5400)
    window = windows_of(rolling).at(us("2026-11-21T12:00"))
    assert window.end_us - window.start_us == 5400 * 1_000_000 and window.start_us % (5400 * 1_000_000) == 0
    assert slot_us(rolling) == 90_000_000


@given(
    st.sampled_from(["hour", "day", "week", "month"]),
    st.sampled_from(
        [
            "UTC",
            "Europe/Berlin",
            "Australia/Lord_Howe",
            "Pacific/Apia",
            "America/Sao_Paulo",
            "America/Havana",
            "Asia/Gaza",
        ]
    ),
    st.integers(us("1990-01-01T00:00"), us("2037-01-01T00:00")),
)
def test_windows_touch_and_never_overlap(per: Per, zone: str, at_us: int) -> None:
    windows = windows_of(budget(per, zone))
    window = windows.at(at_us)
    assert window.start_us <= at_us < window.end_us
    following = windows.after(window)
    assert following.start_us == window.end_us
    assert windows.at(window.end_us - 1) == window
    assert windows.named(window.id) == window
    assert windows.named(window_id(window.start_us + 1_000_000)) is None


@pytest.mark.parametrize("name", ["", "today", "2026-11-21", "2026-11-21T00:00:00", "2026-13-01T00:00:00Z"])
def test_what_is_no_id_is_none(name: str) -> None:
    assert window_start(name) is None
