"""The shape of the day: by how much each hour differs from the day's mean, learned as far as days agree on it."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from flywheel.detect.state import Stateful

DAY_US: Final = 86_400_000_000
HOURS: Final = 24
MEMORY_DAYS: Final = 7
LEAST_DAYS: Final = 2
LEAST_HOURS: Final = 4
KEPT: Final = 1.0 - 1.0 / MEMORY_DAYS


class DailySeason(Stateful):
    """Means of the 24 hours of the UTC day less the mean of their day, of about the last seven days, shrunk to 0.

    Level and shape are apart: an hour's mean on one day is the level of that day, plus the hour's part of the shape,
    plus noise, whose variance is what days disagree by (an hour of n observations errs by v / n). The variance τ² of
    the true shape is what is left of the means' (DerSimonian & Laird 1986), and each hour is believed by
    N τ² / (N τ² + v), N its observations (Efron & Morris 1975). So where there is no season nothing is believed, noise
    that wanders for hours counts as noise, and a swing far below the noise of single observations is learned as soon
    as two days of many show it. Between the hours the shape is a straight line, from mean time of day to mean.

    A day begins at the time of day of the first observation, so two days are known after 48 hours.
    """

    __slots__ = (
        "ats", "believed", "counts", "day", "days", "doubt", "first_us", "freedom", "knots", "means",
        "places", "sums", "total", "useful", "weights",
    )  # fmt: skip

    def __init__(self) -> None:
        self.total = 0
        self.first_us = 0
        self.day, self.days = 0, 0
        self.counts: list[int] = [0] * HOURS
        self.sums: list[float] = [0.0] * HOURS
        self.ats: list[float] = [0.0] * HOURS
        self.weights: list[float] = [0.0] * HOURS
        self.means: list[float] = [0.0] * HOURS
        self.places: list[float] = [0.0] * HOURS
        self.doubt, self.freedom = 0.0, 0.0
        self.useful = False
        self.knots: list[float] = []
        self.believed: list[float] = []

    @property
    def known(self) -> bool:
        """Whether two days were seen, which say if there is a season."""
        return self.days >= LEAST_DAYS

    @property
    def mature(self) -> bool:
        """Whether as many days were seen as are remembered."""
        return self.days >= MEMORY_DAYS

    def shape(self, at_us: int) -> float:
        """What the time of day (microseconds since the epoch) adds to the level, as far as that is believed."""
        knots, believed = self.knots, self.believed
        if not knots:
            return 0.0
        at = at_us % DAY_US
        after = bisect_left(knots, at)
        if 0 < after < len(knots):
            left, right = knots[after - 1], knots[after]
        else:  # over midnight
            after %= len(knots)
            left, right = knots[-1] - DAY_US, knots[0]
            at = at if at <= right else at - DAY_US
        before = believed[after - 1]
        return before + (believed[after] - before) * (at - left) / (right - left)

    def update(self, at_us: int, value: float) -> None:
        """Learn from an observation."""
        if not self.total:
            self.first_us = at_us
        day = (at_us - self.first_us) // DAY_US
        if day > self.day:
            self._fold()
            self._age()
            self.day = day
            self.days += 1
        at = at_us % DAY_US
        hour = at * HOURS // DAY_US
        self.counts[hour] += 1
        self.sums[hour] += value
        self.ats[hour] += at
        self.total += 1

    def split(self) -> None:
        """The level changed, or so it seems, the shape did not: what was seen of this day, and what is yet to come, are
        learned as of two days, each with a level of its own."""
        if self.known:
            self._fold()

    def _fold(self) -> None:
        """A day, or what there is of it, is over: its hours join the means, and what is believed of them is reckoned
        anew."""
        seen = [hour for hour in range(HOURS) if self.counts[hour]]
        if not seen:
            return
        level = self._level_of(seen)
        freedom, doubt = -1.0, 0.0
        for hour in seen:
            count, mean = self.counts[hour], self.sums[hour] / self.counts[hour] - level
            weight = self.weights[hour]
            if weight:
                freedom += 1.0
                doubt += (mean - self.means[hour]) ** 2 * count * weight / (count + weight)
            share = count / (count + weight)
            self.means[hour] += share * (mean - self.means[hour])
            self.places[hour] += share * (self.ats[hour] / count - self.places[hour])
            self.weights[hour] = count + weight
        if freedom > 0.0:
            self.doubt, self.freedom = self.doubt + doubt, self.freedom + freedom
        self.counts, self.sums, self.ats = [0] * HOURS, [0.0] * HOURS, [0.0] * HOURS
        self._believe()

    def _age(self) -> None:
        """Of what was known before a day began a seventh is forgotten."""
        self.weights = [KEPT * weight for weight in self.weights]
        self.doubt, self.freedom = KEPT * self.doubt, KEPT * self.freedom

    def _level_of(self, seen: list[int]) -> float:
        """The level of the day: by the hours whose part of the shape is known, if any."""
        total = weights = 0.0
        for hour in seen:
            count, known = self.counts[hour], self.weights[hour]
            weight = count * known / (count + known)
            weights += weight
            total += weight * (self.sums[hour] / count - self.means[hour])
        if weights:
            return total / weights
        return sum(self.sums) / sum(self.counts)

    def _believe(self) -> None:
        """Shrink the means by what days disagree by; useful, beyond doubt, is a season whose variance is twice that
        of the errors of its means, and then until it is less than that."""
        hours = sorted((hour for hour in range(HOURS) if self.weights[hour]), key=lambda hour: self.places[hour])
        if len(hours) < LEAST_HOURS or self.freedom < 1.0:
            return
        weights = [self.weights[hour] for hour in hours]
        total = sum(weights)
        mean = sum(self.weights[hour] * self.means[hour] for hour in hours) / total
        for hour in hours:
            self.means[hour] -= mean
        noise = self.doubt / self.freedom
        between = sum(self.weights[hour] * self.means[hour] ** 2 for hour in hours) - (len(hours) - 1) * noise
        variance = max(between, 0.0) / (total - sum(weight * weight for weight in weights) / total)
        self.useful = variance * total / len(hours) > (1.0 if self.useful else 2.0) * noise
        self.knots = [self.places[hour] for hour in hours]
        parts = [variance * weight for weight in weights]
        shares = [part / (part + noise) if part else 0.0 for part in parts]
        self.believed = [share * self.means[hour] for share, hour in zip(shares, hours, strict=True)]
