"""What is kept of a feature: its arms and models, how far it was read, what is firing. Plain JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, Final

from flywheel.detect import SilenceDetector, TrafficDetector
from flywheel.events import event_id
from flywheel_detector.core.ledger import Cell, Observation
from flywheel_detector.core.off_level import Off

MAX_NAMES: Final = 16
"""Things whose versions are remembered of a cell: those that had a new one last."""
MAX_TEXTS: Final = 8
"""Versions of one thing remembered of a cell: the newest."""
RATE_WINDOWS: Final = 30


@dataclass(slots=True)
class Place:
    """A cell of a feature. ``seen``: since when which version of what was there; ``calls``: start and number of calls
    of its newest windows."""

    arm: str
    model: str
    arrived_us: int = 0
    measures: list[str] = field(default_factory=list)
    seen: dict[str, dict[str, int]] = field(default_factory=dict)
    calls: list[list[int]] = field(default_factory=list)

    def note(self, observation: Observation) -> None:
        """Remember how an observation came about."""
        for name, text in observation.seen.items():
            known = self.seen.setdefault(name, {})
            known[text] = min(known.get(text, observation.at_us), observation.at_us)
            if len(known) > MAX_TEXTS:
                del known[min(known, key=lambda each: (known[each], each))]
        while len(self.seen) > MAX_NAMES:
            del self.seen[min(self.seen, key=lambda each: (max(self.seen[each].values()), each))]

    def count(self, start_us: int, calls: int) -> None:
        """Remember how many calls a window had."""
        self.calls = [*self.calls, [start_us, calls]][-RATE_WINDOWS:]

    def per_hour(self, newest_us: int, window_us: int) -> float:
        """Calls an hour over the newest windows."""
        from_us = newest_us - RATE_WINDOWS * window_us
        counted = [(start, calls) for start, calls in self.calls if start >= from_us]
        if not counted:
            return 0.0
        return sum(calls for _, calls in counted) * 3.6e9 / max(newest_us - counted[0][0], window_us)


@dataclass(slots=True)
class Raised:
    """An alert that fires: what it is about, since when, what was last said of it. ``measures``: those off level;
    ``verdict``: whether it is the mix of requests, ``blamed``: whether it is the judge, as far as that was said."""

    alert_id: str
    kind: str
    place: str
    measures: list[str]
    severity: str
    first_us: int
    said_us: int
    said: float
    reports: int = 0
    verdict: str = ""
    blamed: str = ""


@dataclass(slots=True)
class Book:
    """One feature. Times: ``newest_us`` of its observations, never ahead of their arrival; ``closed_us``: windows up to
    here are closed; ``arrived_us``, ``called_us``: the ledger's time when observations, and calls among them, came.
    ``bounds``: what the newest charter declares that can be watched, least and largest value by name. ``traffic_off``,
    ``traffic_way``: while its traffic is not the usual, what is known of that, and whether it is a fall or a rise."""

    project: str
    feature: str
    newest_us: int = 0
    closed_us: int = 0
    arrived_us: int = 0
    called_us: int = 0
    late: int = 0
    evicted: list[int] = field(default_factory=lambda: [0, 0])
    charters: list[dict[str, Any]] = field(default_factory=list)
    bounds: dict[str, list[float | None]] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    alerts: dict[str, Raised] = field(default_factory=dict)
    silence: SilenceDetector = field(default_factory=SilenceDetector)
    traffic: TrafficDetector = field(default_factory=TrafficDetector)
    traffic_off: Off | None = None
    traffic_way: str = ""

    @property
    def key(self) -> str:
        """16 hex digits that stand for it."""
        return key_of(self.project, self.feature)

    def place_of(self, cell: Cell) -> tuple[str, Place]:
        """Return a cell and its 16 hex digits, created on sight."""
        key = key_of(cell.arm, cell.model)
        if key not in self.places:
            self.places[key] = Place(cell.arm, cell.model)
        return key, self.places[key]

    def encode(self) -> bytes:
        """Return its bytes."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        # Written at once, so nothing is copied: dataclasses.asdict would, and took longer than all the rest.
        plain["places"] = {key: {name: getattr(each, name) for name in _OF_PLACE} for key, each in self.places.items()}
        plain["alerts"] = {key: {name: getattr(each, name) for name in _OF_ALERT} for key, each in self.alerts.items()}
        plain["silence"] = self.silence.to_json()
        plain["traffic"] = self.traffic.to_json()
        plain["traffic_off"] = None if self.traffic_off is None else self.traffic_off.plain()
        return json.dumps(plain, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def decode(cls, stored: bytes) -> Book:
        """Return the book of `encode`'s bytes."""
        found = json.loads(stored)
        found["places"] = {key: Place(**each) for key, each in found["places"].items()}
        found["alerts"] = {key: Raised(**each) for key, each in found["alerts"].items()}
        found["silence"] = SilenceDetector.from_json(found["silence"])
        found["traffic"] = TrafficDetector.from_json(found["traffic"])
        found["traffic_off"] = None if found["traffic_off"] is None else Off(*found["traffic_off"])
        return cls(**found)


@lru_cache(maxsize=4096)
def key_of(*names: str) -> str:
    """16 hex digits that stand for names. The same few are asked for with every observation."""
    return event_id(*names)[:16]


_PLAIN: Final = (
    "project", "feature", "newest_us", "closed_us", "arrived_us", "called_us", "late", "evicted", "charters",
    "bounds", "traffic_way",
)  # fmt: skip
_OF_PLACE: Final = tuple(each.name for each in fields(Place))
_OF_ALERT: Final = tuple(each.name for each in fields(Raised))
