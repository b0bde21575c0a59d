"""When does something usually come? Rates by hour of the week, and a clock that runs as fast as things come."""

from __future__ import annotations

from typing import Final

from flywheel.detect.state import Stateful

HOUR_US: Final = 3_600_000_000
WEEK: Final = 168
MEMORY_WEEKS: Final = 4
LEAST_DAYS: Final = 2


class Rhythm(Stateful):
    """How many come in each hour of the UTC week, of about the last four; by hour of the day until weeks are known.

    ``sums`` and ``seen`` are events and occurrences of each hour, ``paces`` its rate over the mean one (empty until
    each hour of the day was seen on two days). Rates are posterior means under a gamma prior worth one event: of an
    hour of the day at the mean rate, of an hour of the week at that of its hour of the day.
    """

    __slots__ = ("count", "hour", "paces", "seen", "sums", "whole")

    def __init__(self) -> None:
        self.hour: int | None = None
        self.count = 0
        self.whole = False
        self.sums: list[float] = [0.0] * WEEK
        self.seen: list[int] = [0] * WEEK
        self.paces: list[float] = []

    def learn(self, at_us: int, events: int = 1) -> None:
        """Count some; times must not go back."""
        hour = at_us // HOUR_US
        if self.hour is not None and hour != self.hour:
            if self.whole:
                self._close(self.hour, self.count)
            for empty in range(max(self.hour + 1, hour - MEMORY_WEEKS * WEEK), hour):
                self._close(empty, 0)
            self.paces = self._paces()
        if hour != self.hour:
            # Of the first hour only a part was seen.
            self.whole, self.hour, self.count = self.hour is not None, hour, 0
        self.count += events

    def elapsed(self, from_us: int, until_us: int) -> float:
        """Microseconds between two times on a clock that runs as fast as events come, 1 on average."""
        if not self.paces:
            return float(until_us - from_us)
        weeks = (until_us - from_us) // (WEEK * HOUR_US)
        at_us, total = from_us + weeks * WEEK * HOUR_US, 0.0
        while at_us < until_us:
            end_us = min((at_us // HOUR_US + 1) * HOUR_US, until_us)
            total += (end_us - at_us) * self.paces[at_us // HOUR_US % WEEK]
            at_us = end_us
        return total + weeks * sum(self.paces) * HOUR_US if weeks else total

    def reaches(self, from_us: int, amount: float) -> int | None:
        """Microseconds after a time until its cautious clock shows an amount, None where it never does. Each hour runs
        as slowly as the slower of its neighbours: the end of a day's work may come an hour early."""
        if not self.paces:
            return int(amount)
        slow = [min(self.paces[hour - 1], pace, self.paces[(hour + 1) % WEEK]) for hour, pace in enumerate(self.paces)]
        a_week = sum(slow) * HOUR_US
        if a_week <= 0.0:
            return None
        weeks, left = divmod(amount, a_week)
        at_us = from_us
        while True:
            pace, end_us = slow[at_us // HOUR_US % WEEK], (at_us // HOUR_US + 1) * HOUR_US
            if (end_us - at_us) * pace >= left:
                break
            left -= (end_us - at_us) * pace
            at_us = end_us
        return int(weeks) * WEEK * HOUR_US + at_us - from_us + int(left / pace if pace else 0.0)

    def _close(self, hour: int, count: int) -> None:
        slot = hour % WEEK
        if self.seen[slot] == MEMORY_WEEKS:
            self.sums[slot] *= 1.0 - 1.0 / MEMORY_WEEKS
            self.seen[slot] -= 1
        self.sums[slot] += count
        self.seen[slot] += 1

    def _paces(self) -> list[float]:
        days = [sum(self.seen[hour::24]) for hour in range(24)]
        mean = sum(self.sums) / max(sum(self.seen), 1)
        if min(days) < LEAST_DAYS or mean <= 0.0:
            return []
        daily = [(1.0 + sum(self.sums[hour::24])) / (1.0 / mean + days[hour]) for hour in range(24)]
        rates = [(1.0 + self.sums[slot]) / (1.0 / daily[slot % 24] + self.seen[slot]) for slot in range(WEEK)]
        usual = sum(rates) / WEEK
        return [round(rate / usual, 4) for rate in rates]
