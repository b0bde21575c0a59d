"""What an incident is put together from: episodes of alerts, reports, steps of actions, changes, figures of calls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from flywheel.events import instant_us

RANK: Final[Mapping[str, int]] = {"info": 0, "warning": 1, "critical": 2}
"""Severities in order; one that is not known counts as the least."""
MOST_BEFORE_US: Final = 7 * 86_400_000_000
"""A change that an alert says began longer before it than this is not believed."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One time that an alert fired: from its first report until it was resolved. ``*_us``: microseconds, event time.

    ``title``, ``detail`` and the figures are those of its newest report, ``severity`` is the worst it had.
    ``window_end_us``: the end of the window that the newest report is about. ``acknowledged_us``: when a person last
    said that it is seen; ``note`` is what that person said.
    """

    project: str
    alert_id: str
    started_us: int
    last_us: int
    ended_us: int | None
    kind: str
    severity: str
    reports: int = 1
    subject: str = ""
    title: str = ""
    detail: str = ""
    value: float | None = None
    threshold: float | None = None
    window_end_us: int | None = None
    scope: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    acknowledged_us: int | None = None
    acknowledged_by: str = ""
    acknowledged_until_us: int | None = None
    note: str = ""

    @property
    def feature(self) -> str:
        """The feature it is about; empty where it names none."""
        return self.scope.get("feature", "")

    @property
    def cause(self) -> str:
        """Of an alert about an alert (the controller's own): the id of that other one, else empty."""
        return self.attributes.get("cause", "")

    @property
    def observed(self) -> float | None:
        """The figure seen: the attribute ``observed``, else ``value``."""
        found = _figure(self.attributes.get("observed"))
        return self.value if found is None else found

    @property
    def expected(self) -> float | None:
        """What it was held against: the attribute ``expected``, else ``threshold``."""
        found = _figure(self.attributes.get("expected"))
        return self.threshold if found is None else found

    @property
    def began_us(self) -> int | None:
        """When what it is about began, by its attribute ``since``; None where it does not say so credibly."""
        at_us = instant_us(self.attributes.get("since", ""))
        if at_us is None or not self.started_us - MOST_BEFORE_US <= at_us <= self.started_us:
            return None
        return at_us

    @property
    def over_us(self) -> int | None:
        """When it ended: resolved, or the end of a window that was still running when it was told (a budget's)."""
        if self.ended_us is not None:
            return self.ended_us
        if self.window_end_us is not None and self.window_end_us > self.last_us:
            return self.window_end_us
        return None


@dataclass(frozen=True, slots=True)
class Report:
    """One report of an alert, as it was on the topic."""

    event_id: str
    alert_id: str
    at_us: int
    kind: str
    severity: str
    state: str
    title: str = ""
    detail: str = ""
    value: float | None = None
    threshold: float | None = None
    scope: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One step in the life of an action: of the controller, or of what a person put in force (no ``cause``).

    ``change``: of a rollback, the id of the change that it takes back.
    """

    event_id: str
    action_id: str
    project: str
    feature: str
    at_us: int
    state: str
    kind: str
    by: str = "controller"
    rule: str = ""
    arms: tuple[str, ...] = ()
    cause: tuple[str, ...] = ()
    value_before: float | None = None
    value_after: float | None = None
    reason: str = ""
    dry_run: bool = False
    change: str = ""

    @property
    def in_force(self) -> bool:
        """Whether with this step something was really changed."""
        return self.state == "applied" and not self.dry_run


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the configuration, or a version that was first seen in the facts."""

    change_id: str
    at_us: int
    what: str
    subject: str
    said: str
    by: str = ""
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What calls and outcomes of a stretch of time came to. Unknown is None, never 0.

    ``cost_usd`` is of the ``priced`` calls as it was known on arrival; ``reward`` is the mean of ``rewarded`` outcomes
    and ``quality`` that of those which have one.
    """

    calls: int = 0
    errors: int = 0
    refused: int = 0
    priced: int = 0
    cost_usd: Decimal | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    rewarded: int = 0
    reward: float | None = None
    quality: float | None = None

    @property
    def error_rate(self) -> float | None:
        """Share of calls that ended in an error or a timeout."""
        return self.errors / self.calls if self.calls else None

    @property
    def refusal_rate(self) -> float | None:
        """Share of calls that were refused or filtered."""
        return self.refused / self.calls if self.calls else None

    @property
    def cost_per_call(self) -> float | None:
        """US dollars of a priced call."""
        return float(self.cost_usd) / self.priced if self.priced and self.cost_usd is not None else None


def _figure(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
