"""Traffic that falls without ending, or rises: calls beside what the hour of the week usually brings."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar, Final, Literal, NamedTuple

from flywheel.detect.bounds import BoundDetector, Breach
from flywheel.detect.rhythm import HOUR_US, WEEK, Rhythm
from flywheel.detect.state import Stateful

DAY_US: Final = 24 * HOUR_US
PHASE_US: Final = 300_000_000
PHASES: Final = 288
AN_HOUR: Final = 12
PRIOR: Final = 6.0
"""Calls that the prior of a phase's share in its hour is worth."""
FORGET: Final = 0.9
"""What a day leaves of what was known of phases."""
LEVEL_DAYS: Final = 7
CALLS: Final = 2
"""Calls of a block: fewer would hide a loss of four fifths in the spread of single gaps, more would take longer."""
SPREAD: Final = CALLS**-0.5
"""Deviation of a block's figure where calls come at random."""
FALL: Final = 1.5
"""Told when a call takes more than so many times as long as usual: less than two thirds of the traffic."""
RISE: Final = 2.0
"""Told when more than so many times the usual calls come."""
MOST: Final = 10.0
"""What a figure counts at most, so that one long gap, which is a silence, is no evidence of a lower level."""

LEAST_BLOCKS: Final = 200
"""Blocks that tell how much longer than the mean one usually takes, before any is judged."""
MOST_BLOCKS: Final = 20_000
REMEMBERED: Final = 40
"""Blocks whose calls are remembered one by one."""

Way = Literal["fall", "rise"]


@dataclass(frozen=True, slots=True)
class TrafficChange:
    """Traffic that fell or rose, probably since a time (microseconds since the epoch), of so many blocks. ``figure``:
    their mean of time a call, or of calls, over the usual; evidence ``statistic`` against ``threshold``."""

    way: Way
    since_us: int
    figure: float
    length: int
    statistic: float
    threshold: float


class Taken(NamedTuple):
    """What a window of calls came to: the block that it ended, as time a call over the usual (``slower``) and as calls
    over the usual (``faster``), each at most 10 and None where none ended; and the change that they show."""

    slower: float | None = None
    faster: float | None = None
    change: TrafficChange | None = None


class Counted(NamedTuple):
    """Calls that came and calls that usually come, in a time of so many microseconds."""

    calls: float
    usual: float
    span_us: float


class TrafficDetector(Stateful):
    """Counts calls on a clock that runs as fast as they usually come, and bets that they keep to it.

    The clock: hour of the week (`Rhythm`, about four weeks) and, within it, five minutes of the day where they excuse
    what is seen. By it calls of a usual week come evenly, whatever their swing (time change of point processes,
    Papangelou 1972). Its level is that of the last seven whole days. Calls are taken in blocks of two or more, and of
    ``least_us`` or longer: the time that such a block took over the usual is a figure of mean 1, and of 1 / (1 - s)
    after a loss of the share s; where its own past mean is above 1, as calls cluster, that is divided out. A bettor
    (`BoundDetector`) holds that its mean is at most 1.5; another, of the calls in the usual time of two, that it is at
    most 2. So false alarms come as rarely as stated however calls cluster, while the mean that is due keeps to these
    bounds.

    Judged are hours of the week that were seen in an earlier one. Nothing else is assumed; holidays are falls.
    """

    __slots__ = (
        "blocks",
        "days",
        "fall",
        "last_us",
        "least_us",
        "level",
        "phases",
        "quick",
        "rhythm",
        "rise",
        "slow",
        "today",
        "usual_slow",
    )
    PARTS: ClassVar = {"rhythm": Rhythm, "fall": BoundDetector, "rise": BoundDetector}

    def __init__(self, *, least_us: int = 20_000_000) -> None:
        """``least_us``: the least length of a block, in microseconds."""
        self.least_us = least_us
        self.rhythm = Rhythm()
        self.phases: list[float] = [0.0] * PHASES
        self.last_us: int | None = None
        self.today: list[int] = []
        self.days: list[list[int]] = []
        self.level: float | None = None
        self.usual_slow: list[float] = [0, 0.0]
        self.blocks: list[list[float]] = []
        self.fall, self.rise = BoundDetector(FALL), BoundDetector(RISE)
        self.forget()

    def forget(self) -> None:
        """Begin to bet and to count blocks anew; what is usual stays known."""
        self.slow: list[float] = [0, 0.0, 0]
        self.quick: list[float] = [0, 0.0, 0]
        self.fall.forget()
        self.rise.forget()

    def accept(self) -> None:
        """What it is now is the usual traffic: its level is learned anew, from the next whole day on."""
        self.days, self.level, self.today, self.usual_slow = [], None, [], [0, 0.0]
        self.forget()

    def usual(self, from_us: int, until_us: int) -> float | None:
        """Calls that usually come between two times; None while that is not known."""
        return None if self.level is None else self._elapsed(from_us, until_us) / self.level

    def counted(self, from_us: int, most: int = REMEMBERED) -> Counted | None:
        """What the blocks begun since a time hold, of the newest so many; None where there are none. What was usual is
        what was held to be so then."""
        since = [each for each in self.blocks[-most:] if each[0] >= from_us]
        if not since or self.last_us is None:
            return None
        calls, usual = (sum(each[place] for each in since) for place in (1, 2))
        return Counted(calls, usual, self.last_us - since[0][0])

    def update(self, at_us: int, calls: int, run_length: float, *, judge: bool = True) -> Taken:
        """Take in that calls came in a short window that began at a time (microseconds since the epoch), later than the
        one before. Without ``judge`` nothing is bet and the day's level is not learned. ``run_length``: the number of
        blocks to a false alarm of either way."""
        before, self.last_us = self.last_us, at_us
        taken = Taken()
        if before is not None and at_us > before:
            taken = self._blocks(before, at_us, calls, run_length, judge)
        hour = self.rhythm.hour
        self._count(at_us, calls, judge)
        if self.rhythm.hour != hour:
            self.level = self._level()
        return taken

    # -- blocks -------------------------------------------------------------------------------------------------------

    def _blocks(self, from_us: int, until_us: int, calls: int, run_length: float, judge: bool) -> Taken:
        level = self.level
        if level is None or not self._seen(from_us, until_us):
            self.slow, self.quick = [0, 0.0, 0], [0, 0.0, 0]
            return Taken()
        # What a phase adds to its hour may be another day's habit: it never makes a fall or a rise, only excuses one.
        for block, least, most in ((self.slow, 0.0, 1.0), (self.quick, 1.0, inf)):
            block[0] += calls
            block[1] += self._elapsed(from_us, until_us, least, most) / level
            block[2] += until_us - from_us
        slower = faster = None
        found: TrafficChange | None = None
        if self.slow[0] >= CALLS and self.slow[2] >= self.least_us:
            slower = self._slower(self.slow[1] / self.slow[0], judge)
            self.blocks = [*self.blocks, [until_us - self.slow[2], self.slow[0], round(self.slow[1], 4)]][-REMEMBERED:]
            self.slow = [0, 0.0, 0]
            if judge and self.usual_slow[0] > LEAST_BLOCKS:
                found = _change("fall", self.fall.update(until_us, slower, run_length))
        if self.quick[1] >= CALLS and self.quick[2] >= self.least_us:
            faster = min(self.quick[0] / self.quick[1], MOST)
            self.quick = [0, 0.0, 0]
            if judge:
                found = _change("rise", self.rise.update(until_us, faster, run_length)) or found
        return Taken(slower, faster, found)

    def _slower(self, times: float, judge: bool) -> float:
        """Time a call over the usual, over its usual mean where that is above 1: calls that cluster make it so, as one
        over a count does."""
        times, (count, mean) = min(times, MOST), self.usual_slow
        if judge:
            count = min(count + 1, MOST_BLOCKS)
            self.usual_slow = [count, mean + (times - mean) / count]
        return times / max(mean, 1.0)

    def _seen(self, from_us: int, until_us: int) -> bool:
        """Whether the hours of the week of a time were seen in an earlier one."""
        first, last = from_us // HOUR_US, until_us // HOUR_US
        return last - first < WEEK and all(self.rhythm.seen[hour % WEEK] for hour in range(first, last + 1))

    # -- the clock ----------------------------------------------------------------------------------------------------

    def _elapsed(self, from_us: int, until_us: int, least: float = 0.0, most: float = inf) -> float:
        """Microseconds between two times on the clock, on which a phase weighs within its hour from ``least`` to
        ``most``. Phases share an hour, so whole hours are the rhythm's."""
        first_us, last_us = -(-from_us // HOUR_US) * HOUR_US, until_us // HOUR_US * HOUR_US
        if first_us > last_us:
            return self._part(from_us, until_us, least, most)
        ends = self._part(from_us, first_us, least, most) + self._part(last_us, until_us, least, most)
        return ends + self.rhythm.elapsed(first_us, last_us)

    def _part(self, from_us: int, until_us: int, least: float, most: float) -> float:
        total, at_us = 0.0, from_us
        while at_us < until_us:
            end_us = min((at_us // PHASE_US + 1) * PHASE_US, until_us)
            total += self.rhythm.elapsed(at_us, end_us) * min(max(self._weight(at_us), least), most)
            at_us = end_us
        return total

    def _weight(self, at_us: int) -> float:
        """Calls of a phase of the day over the mean one of its hour."""
        phase = at_us % DAY_US // PHASE_US
        first = phase // AN_HOUR * AN_HOUR
        of_hour = sum(self.phases[first : first + AN_HOUR]) / AN_HOUR
        return (PRIOR + self.phases[phase]) / (PRIOR + of_hour)

    # -- what is learned ----------------------------------------------------------------------------------------------

    def _count(self, at_us: int, calls: int, judge: bool) -> None:
        """Learn from a window. ``today``: number, calls, and whether it was seen whole and judged, of a day."""
        day = at_us // DAY_US
        if not self.today or self.today[0] != day:
            self._turn(day)
        self.today[1] += calls
        self.today[2] &= judge
        self.rhythm.learn(at_us, calls)
        self.phases[at_us % DAY_US // PHASE_US] += calls

    def _turn(self, day: int) -> None:
        """Begin a day; one without any calls is one too."""
        if self.today:
            began, calls, whole = self.today
            past = [[began, calls]] if whole else []
            past += [[empty, 0] for empty in range(max(began + 1, day - LEVEL_DAYS), day)]
            self.days = [each for each in (*self.days, *past) if each[0] >= day - LEVEL_DAYS]
            self.phases = [round(each * FORGET, 3) for each in self.phases]
        self.today = [day, 0, int(bool(self.today))]

    def _level(self) -> float | None:
        """Microseconds of the clock, as it runs now, that a call takes on the days known."""
        calls = sum(each for _, each in self.days)
        if not calls:
            return None
        return sum(self.rhythm.elapsed(day * DAY_US, (day + 1) * DAY_US) for day, _ in self.days) / calls


def _change(way: Way, breach: Breach | None) -> TrafficChange | None:
    if breach is None:
        return None
    return TrafficChange(way, breach.since_us, breach.mean, breach.length, breach.statistic, breach.threshold)
