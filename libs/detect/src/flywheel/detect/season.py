"""The usual value at this time of day: learned as it goes, used only while it predicts better than a plain level."""

from __future__ import annotations

from typing import Final

from flywheel.detect.state import Stateful

DAY_US: Final = 86_400_000_000
PHASES: Final = 288
MEMORY_DAYS: Final = 7
LEAST_DAYS: Final = 2
MARGIN: Final = 0.9
LEAST_JUDGED: Final = 48
MOST_LEVEL: Final = 1_000


class DailySeason(Stateful):
    """Means of 288 five-minute phases of the UTC day, each of about its last seven days.

    Its worth is measured one step ahead: the squared error of the phase's mean against that of a moving level with the
    same memory, or the season would seem good where it is only quicker; over what came after two days.
    ``useful`` holds while the season's error is below 0.9 of the level's.
    """

    __slots__ = (
        "days",
        "judged",
        "last_day",
        "level",
        "level_error",
        "means",
        "remembered",
        "season_error",
        "seen",
        "total",
    )

    def __init__(self) -> None:
        self.means: list[float] = [0.0] * PHASES
        self.days: list[int] = [0] * PHASES
        self.seen: list[int] = [0] * PHASES
        self.last_day: list[int] = [-1] * PHASES
        self.level = 0.0
        self.total = 0
        self.remembered = 0
        self.judged = 0.0
        self.season_error = 0.0
        self.level_error = 0.0

    @property
    def useful(self) -> bool:
        """Whether the season predicts better than the level does."""
        return self.known and self.season_error < MARGIN * self.level_error

    @property
    def known(self) -> bool:
        """Whether enough was seen on two days to say if there is a season."""
        return self.judged >= LEAST_JUDGED

    @property
    def useless(self) -> bool:
        """Whether the level predicts at least as well; between the two, what was decided stays."""
        return self.season_error >= self.level_error

    def expected(self, at_us: int) -> float | None:
        """The usual value at a time (microseconds since the epoch); None until its phase was seen on two days."""
        phase = at_us % DAY_US * PHASES // DAY_US
        return self.means[phase] if self.days[phase] >= LEAST_DAYS else None

    def mature(self, at_us: int) -> bool:
        """Whether the phase of a time was seen on as many days as are remembered."""
        return self.days[at_us % DAY_US * PHASES // DAY_US] >= MEMORY_DAYS

    def update(self, at_us: int, value: float) -> None:
        """Learn from an observation."""
        day, phase = at_us // DAY_US, at_us % DAY_US * PHASES // DAY_US
        if self.total and self.days[phase] >= LEAST_DAYS:
            keep = 1.0 - 1.0 / min(self.judged + 1.0, 2_000.0)
            self.season_error = keep * self.season_error + (1.0 - keep) * (value - self.means[phase]) ** 2
            self.level_error = keep * self.level_error + (1.0 - keep) * (value - self.level) ** 2
            self.judged += 1.0
        self.total += 1
        self.level += (value - self.level) / min(self.total, max(self.remembered, 1), MOST_LEVEL)
        if self.last_day[phase] != day:
            per_day = self.seen[phase] / self.days[phase] if self.days[phase] else 1.0
            forgotten = max(self.seen[phase] - round(per_day * (MEMORY_DAYS - 1)), 0)
            self.seen[phase] -= forgotten
            self.remembered -= forgotten
            self.days[phase] = min(self.days[phase] + 1, MEMORY_DAYS)
            self.last_day[phase] = day
        self.seen[phase] += 1
        self.remembered += 1
        self.means[phase] += (value - self.means[phase]) / self.seen[phase]

    def shift(self, by: float) -> None:
        """Move the whole season: its level changed, its shape did not."""
        self.means = [mean + by for mean in self.means]
        self.level += by
