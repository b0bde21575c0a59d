"""Objectives of charters, and which events of a window are good and bad by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from flywheel.policy import CharterInvalid, parse_charter
from flywheel_monitor.core.readings import Thresholds
from flywheel_monitor.core.series import Series
from flywheel_monitor.core.windows import Window


class Tally(NamedTuple):
    """Events that were bad, and all that were either good or bad."""

    bad: int
    total: int


@dataclass(frozen=True, slots=True)
class Objective:
    """A service level objective of a feature. ``budget``: the share of events that may be bad; ``period_us``: the
    time over which; ``below``: bound of a metric that has a value for each call."""

    series: Series
    label: str
    metric: str
    budget: Fraction
    period_us: int
    below: float | None = None

    @property
    def name(self) -> str:
        """Project, feature and label, as one key."""
        return f"{self.series.project}/{self.series.feature}/{self.label}"

    def tally(self, window: Window) -> Tally:
        """Count by this objective. What a caller gave up, and calls whose end nobody told, are neither good nor bad."""
        if self.below is not None:
            good, total = window.within.get(threshold_label(self.metric, self.below), (0, 0))
            return Tally(total - good, total)
        if self.metric == "fallback_rate":
            return Tally(window.count("fallbacks"), window.count("decisions"))
        ended = window.count("calls") - window.count("cancelled") - window.count("unknown")
        return Tally(window.count("refused" if self.metric == "refusal_rate" else "failed"), ended)


def threshold_label(metric: str, below: float) -> str:
    """The name under which a window counts the calls below a bound."""
    return f"{metric}<{below:g}"


class Charters:
    """The objectives that charters declare now."""

    def __init__(self) -> None:
        self._declared: dict[tuple[str, str], tuple[int, tuple[Objective, ...]]] = {}

    def update(self, key: str, event: Mapping[str, Any] | None) -> bool:
        """Take a charter event, or the removal of one, and say whether anything changed. One that is no charter or is
        older than what is known changes nothing (the bandit sends it to the dead letters)."""
        if event is None:
            project, _, feature = key.partition("/")
            return self._declared.pop((project, feature), None) is not None
        try:
            charter = parse_charter(event["charter_yaml"])
        except CharterInvalid:
            return False
        place = (charter.project, charter.feature)
        known = self._declared.get(place)
        if place != (event["project"], event["feature"]) or (known is not None and event["revision"] < known[0]):
            return False
        objectives = tuple(
            Objective(
                Series(*place), level.label, level.metric, level.budget, round(level.window * 1_000_000), level.below
            )
            for level in charter.slo
        )
        self._declared[place] = (event["revision"], objectives)
        return True

    @property
    def features(self) -> frozenset[tuple[str, str]]:
        """Project and feature of every charter."""
        return frozenset(self._declared)

    @property
    def objectives(self) -> list[Objective]:
        """Every objective, by project, feature and in the order declared."""
        return [each for place in sorted(self._declared) for each in self._declared[place][1]]

    def objectives_of(self, series: Series) -> tuple[Objective, ...]:
        """The objectives of a feature, in the order declared."""
        found = self._declared.get((series.project, series.feature))
        return () if found is None else found[1]

    def thresholds(self, project: str, feature: str) -> Thresholds:
        """What the values of a feature's calls are held against."""
        found = self._declared.get((project, feature))
        return _thresholds(found[1]) if found is not None else {}


def _thresholds(objectives: Iterable[Objective]) -> Thresholds:
    return {threshold_label(o.metric, o.below): (o.metric, o.below) for o in objectives if o.below is not None}
