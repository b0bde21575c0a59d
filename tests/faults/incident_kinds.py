"""The ten kinds of incident: what happens, by which alerts it should be noticed and what should be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Way = Literal["arm", "prompt", "silence", "budget"]
"""``arm``: one arm answers otherwise for a while; ``prompt``: a new prompt version is rolled out and is bad;
``silence``: nothing is asked any more; ``budget``: a crowd asks for more than a hard budget holds."""


@dataclass(frozen=True, slots=True)
class Incident:
    """``noticed``: kinds of alert that may tell of it; ``answered``: kinds of action that may be the answer.
    ``changes``: how the arm ``strong``, or the new prompt, answers meanwhile."""

    name: str
    noticed: tuple[str, ...]
    answered: tuple[str, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    way: Way = "arm"
    lasts: bool = False
    """The cause goes on until the arm was returned to too early, and went again."""

    @property
    def feature(self) -> str:
        """The feature it happens to, one of its own."""
        return self.name


INCIDENTS: Final = (
    Incident("outage", ("error_rate",), ("disable",), {"errors": 1.0}, lasts=True),
    Incident("price-doubled", ("cost_per_call",), ("pin",), {"cost_usd": 0.008}),
    Incident("quality-drop", ("quality",), ("disable",), {"judge": 0.45, "thumb": 0.5}),
    Incident("bad-prompt", ("quality",), ("rollback",), {"judge": 0.35, "thumb": 0.4}, way="prompt"),
    Incident("gamed-judge", ("quality",), ("disable",), {"judge": 0.98, "sure": True, "thumb": 0.35}),
    Incident("brown-out", ("error_rate",), ("disable",), {"errors": 0.25, "latency_ms": 1300.0}),
    Incident("slow", ("latency",), ("disable",), {"latency_ms": 5000.0}),
    Incident("refusal-wave", ("refusal_rate",), ("disable",), {"refusals": 0.5}),
    Incident("traffic-loss", ("silence",), ("escalate",), way="silence"),
    Incident("budget-race", ("budget_threshold", "budget_forecast", "budget_exhausted"), ("refused",), way="budget"),
)
BY_NAME: Final = {incident.name: incident for incident in INCIDENTS}
HARMLESS: Final = ("burst", "one-slow-call", "restart")
"""Features in which something happens that nobody must act upon: four times the traffic; a call of two minutes; the
third goes on while services are restarted."""
