"""Windows: the spans of time that a budget's amount is for.

Calendar windows follow the wall clock of an IANA zone: days are 23 or 25 hours long where clocks change, weeks start
on Monday (ISO 8601), hours are sixty minutes. Windows of one kind touch each other and never overlap, whatever the zone
does. A rolling budget has no such windows; its accounts belong to *epochs* of its length, counted from 1970, so that
they too come to an end.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from flywheel.budget.declared import Budget

US: Final = 1_000_000
HOUR_US: Final = 3600 * US
ROLLING_SLOTS: Final = 60
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KEPT: Final = 64
_HOURS_AS_OF: Final = datetime(2020, 1, 1, tzinfo=UTC)


class Window(NamedTuple):
    """A half-open span, microseconds since the epoch; its id is its start as ``2026-11-21T00:00:00Z``."""

    id: str
    start_us: int
    end_us: int


class Windows:
    """The windows of one kind: ``at`` says which one a moment lies in."""

    def __init__(self, bounds: Callable[[int], tuple[int, int]]) -> None:
        self._bounds = bounds
        self._kept: list[Window] = []

    def at(self, at_us: int) -> Window:
        """Return the window that holds this moment."""
        for window in self._kept:
            if window.start_us <= at_us < window.end_us:
                return window
        start_us, end_us = self._bounds(at_us)
        window = Window(window_id(start_us), start_us, end_us)
        self._kept = [window, *self._kept[: _KEPT - 1]]
        return window

    def after(self, window: Window) -> Window:
        """Return the next window."""
        return self.at(window.end_us)

    def named(self, name: str) -> Window | None:
        """Return the window of this id, None where there is none."""
        start_us = window_start(name)
        if start_us is None:
            return None
        window = self.at(start_us)
        return window if window.id == name else None


@lru_cache(maxsize=4096)
def windows_of(budget: Budget) -> Windows:
    """Return the windows of a budget; of a rolling one, the epochs of its accounts."""
    return _windows(budget.per, budget.rolling_s, budget.time_zone)


@lru_cache(maxsize=1024)
def _windows(per: str, rolling_s: int | None, time_zone: str) -> Windows:
    if per == "rolling":
        return Windows(_epochs((rolling_s or 1) * US))
    zone = ZoneInfo(time_zone)
    return Windows(_hours(zone) if per == "hour" else _days(zone, per))


def slot_us(budget: Budget) -> int:
    """Length of the slots in which a rolling budget's money leaves it: a sixtieth of its length, at least a second.

    Money leaves when the slot it was spent in lies wholly outside, so up to one slot later than it might.
    """
    return max(1, (budget.rolling_s or 1) // ROLLING_SLOTS) * US


def window_id(start_us: int) -> str:
    """Return the id of the window that starts then (whole seconds)."""
    return (_EPOCH + timedelta(microseconds=start_us)).strftime("%Y-%m-%dT%H:%M:%SZ")


def window_start(name: str) -> int | None:
    """Return the start that an id names in microseconds, None where it is none."""
    try:
        moment = datetime.strptime(name, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return _us(moment)


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _epochs(length_us: int) -> Callable[[int], tuple[int, int]]:
    def bounds(at_us: int) -> tuple[int, int]:
        start_us = at_us // length_us * length_us
        return start_us, start_us + length_us

    return bounds


def _hours(zone: ZoneInfo) -> Callable[[int], tuple[int, int]]:
    # The zone's minutes past the hour, as of one fixed day: where summer time is half an hour (Lord Howe), hours must
    # not overlap.
    offset = _HOURS_AS_OF.astimezone(zone).utcoffset() or timedelta()
    past_us = offset // timedelta(microseconds=1) % HOUR_US

    def bounds(at_us: int) -> tuple[int, int]:
        start_us = (at_us + past_us) // HOUR_US * HOUR_US - past_us
        return start_us, start_us + HOUR_US

    return bounds


def _days(zone: ZoneInfo, per: str) -> Callable[[int], tuple[int, int]]:
    def midnight_us(day: date) -> int:
        # fold=0: of two midnights the first; a midnight that clocks skip becomes the moment they skip it.
        return _us(datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC))

    def bounds(at_us: int) -> tuple[int, int]:
        first = _first_day((_EPOCH + timedelta(microseconds=at_us)).astimezone(zone).date(), per)
        start_us, following = midnight_us(first), _next_first(first, per)
        while start_us > at_us:
            following, first = first, _first_day(first - timedelta(days=1), per)
            start_us = midnight_us(first)
        end_us = midnight_us(following)
        while end_us <= at_us:
            start_us, following = end_us, _next_first(following, per)
            end_us = midnight_us(following)
        return start_us, end_us

    return bounds


def _first_day(day: date, per: str) -> date:
    if per == "month":
        return day.replace(day=1)
    return day - timedelta(days=day.weekday()) if per == "week" else day


def _next_first(first: date, per: str) -> date:
    if per == "month":
        return (first + timedelta(days=32)).replace(day=1)
    return first + timedelta(days=7 if per == "week" else 1)
