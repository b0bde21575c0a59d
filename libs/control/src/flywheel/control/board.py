"""The controls a deciding process holds, and policies as they are under them. Pure: the caller gives the time."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from flywheel.control.records import Item, Record, in_force
from flywheel.policy import CompiledPolicy, Constraint, constrain

_Place = tuple[str, str]


class ControlBoard:
    """Controls by project and feature; the newest revision of each owner wins, in whatever order they arrive."""

    def __init__(self) -> None:
        self._records: dict[_Place, dict[str, Record]] = {}
        self._events: dict[str, tuple[_Place, Mapping[str, Any]]] = {}
        self._made: dict[_Place, tuple[CompiledPolicy, tuple[Item, ...], CompiledPolicy]] = {}

    def update(self, event: Mapping[str, Any] | None) -> bool:
        """Take a ``control`` event over; say whether that changed anything. A removal (None) changes nothing: what
        holds no longer says so itself.

        Raises:
            ControlInvalid: the event makes no sense; what was held stays.
        """
        if event is None:
            return False
        record = Record.from_event(event)
        place = record.project, record.feature
        owners = self._records.setdefault(place, {})
        known = owners.get(record.owner)
        if known is not None and known.revision >= record.revision:
            return False
        owners[record.owner] = record
        self._events[record.key] = place, event
        return True

    def items(self, project: str, feature: str, now_us: int) -> tuple[Item, ...]:
        """Return what is in force for a feature at ``now_us`` (microseconds since the epoch)."""
        owners = self._records.get((project, feature))
        return in_force(owners.get("person"), owners.get("controller"), now_us) if owners else ()

    def apply(self, compiled: CompiledPolicy | None, now_us: int) -> CompiledPolicy | None:
        """Return a policy as it decides at ``now_us``. Without a policy there are no arms to control."""
        if compiled is None or not self._records:
            return compiled
        place = compiled.project, compiled.feature
        items = self.items(*place, now_us)
        if not items:
            return compiled
        held = self._made.get(place)
        if held is not None and held[0] is compiled and held[1] == items:
            return held[2]
        made = constrain(compiled, [Constraint(item.control_id, item.kind, item.arms) for item in items])
        self._made[place] = compiled, items, made
        return made

    def snapshot(self, project: str | None = None) -> tuple[str, list[Mapping[str, Any]]]:
        """Return the newest event of every key (of a project), by key, and a tag that changes when one of them does."""
        chosen = [(key, e) for key, (place, e) in sorted(self._events.items()) if project in (None, place[0])]
        digest = blake2b(digest_size=8)
        for key, event in chosen:
            digest.update(f"{key}\0{event['revision']}\0".encode())
        return digest.hexdigest() if chosen else "", [event for _, event in chosen]
