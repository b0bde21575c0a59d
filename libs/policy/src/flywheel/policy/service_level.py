"""Service level objectives as a charter declares them: which share of what is good, over which period.

An objective is a share of good events, as in the Site Reliability Workbook (Beyer et al. 2018, chapters 2 and 5):
``{metric: error_rate, max: 0.01, window: 30d}`` says that 99 % of calls do not fail;
``{metric: latency_ms, below: 3000, share: 0.95, window: 7d}`` that 95 % are answered within three seconds.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from pydantic import Field

from flywheel.policy.declared_values import Declared, Name, Number, Seconds

LevelMetric = Literal[
    "error_rate", "success_rate", "refusal_rate", "fallback_rate", "latency_ms", "ttft_ms", "cost_usd"
]
MEASURED = ("latency_ms", "ttft_ms", "cost_usd")
"""Metrics that have a value for each call; they need ``below`` and ``share``."""
MOST_LEVELS = 8
SHORTEST_S = 3600.0
LONGEST_S = 92 * 86400.0


class ServiceLevel(Declared):
    """A service level objective.

    ``max``: of a rate of bad events; ``min``: of ``success_rate``; ``below`` and ``share``: at least this share of
    calls stays below that value (milliseconds, US dollars). ``window``: the period that its error budget is for.
    """

    metric: LevelMetric
    max: Number | None = None
    min: Number | None = None
    below: Number | None = Field(None, gt=0)
    share: Number | None = None
    window: Seconds
    name: Name | None = None

    @property
    def label(self) -> str:
        """The name, else the metric with what it is held against: ``error_rate``, ``latency_ms<3000``."""
        return self.name or (self.metric if self.below is None else f"{self.metric}<{self.below:g}")

    @property
    def budget(self) -> Fraction:
        """The share of events that may be bad: 1 less the objective; exact as written."""
        if self.max is not None:
            return Fraction(str(self.max))
        return 1 - Fraction(str(self.min if self.min is not None else self.share))

    def problem(self) -> tuple[str, str] | None:
        """The field that is wrong, and what is wrong with it; None where nothing is."""
        if not SHORTEST_S <= self.window <= LONGEST_S:
            return "window", "must be between 1h and 92d"
        if self.metric in MEASURED:
            needed: tuple[str, ...] = ("below", "share")
        else:
            needed = ("min",) if self.metric == "success_rate" else ("max",)
        for field in ("max", "min", "below", "share"):
            if (getattr(self, field) is not None) != (field in needed):
                verb = "needs" if field in needed else "does not take"
                return field, f"{self.metric} {verb} it; write {' and '.join(needed)}"
        declared = self.share if self.metric in MEASURED else getattr(self, needed[0])
        if declared is None or not 0 < declared < 1:
            return needed[-1], "must be above 0 and below 1: an objective of all or nothing has no error budget"
        return None


def level_problem(levels: list[ServiceLevel]) -> str | None:
    """What is wrong with the list ``slo`` of a charter, as ``slo.<index>.<field>: …``; None where nothing is."""
    seen: set[str] = set()
    for index, level in enumerate(levels):
        found = level.problem()
        if found is None and level.label in seen:
            found = ("name", f"{level.label} is declared twice; give each a name")
        if found is not None:
            return f"slo.{index}.{found[0]}: {found[1]}"
        seen.add(level.label)
    return None
