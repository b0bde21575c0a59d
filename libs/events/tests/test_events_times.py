"""Times as text: what is written reads back, and what is no time is none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.events import instant_us, rfc3339

FIRST_US, LAST_US = (
    round(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000 + micros
    for year, micros in ((1, 0), (9999, 999_999))
)


@given(st.integers(FIRST_US, LAST_US))
def test_a_time_reads_back_as_it_was_written(at_us: int) -> None:
    assert instant_us(rfc3339(at_us)) == at_us


@pytest.mark.parametrize(
    "text", ["1970-01-01T01:00:01+01:00", "1970-01-01T00:00:01", "1970-01-01 00:00:01Z", "1970-01-01T00:00:01.000000Z"]
)
def test_zones_are_minded_and_none_is_utc(text: str) -> None:
    assert instant_us(text) == 1_000_000


@pytest.mark.parametrize("text", ["", "yesterday", "1795219200", "2026-13-01T00:00:00Z", "2026-11-21T25:00:00Z", "nan"])
def test_what_is_no_time_is_none(text: str) -> None:
    assert instant_us(text) is None
