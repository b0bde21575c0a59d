"""Silences: alerts that a person expects for a time, as ``silence`` events carry them.

During one, alerts are made and recorded as ever; they are not sent to people, and the controller leaves them alone
unless a rule says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from flywheel.control.records import MAX_TEXT, ControlInvalid
from flywheel.control.rules import SEVERITIES
from flywheel.events import event_id

MAX_VALUES: Final = 100
MAX_LENGTH_US: Final = 366 * 86_400_000_000
"""A silence ends: one that hides alerts for ever is a forgotten one."""
_LISTS: Final = ("features", "arms", "models", "kinds", "severities")


@dataclass(frozen=True, slots=True)
class Silence:
    """One silence as it was last said. Times in microseconds since the epoch; an empty list means any."""

    project: str
    silence_id: str
    revision: int
    said_us: int
    starts_us: int
    ends_us: int
    by: str = ""
    reason: str = ""
    lifted: bool = False
    features: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """``project/silence_id``: the Kafka key."""
        return f"{self.project}/{self.silence_id}"

    @property
    def until_us(self) -> int:
        """When it ends, or was lifted."""
        return min(self.ends_us, self.said_us) if self.lifted else self.ends_us

    def live(self, at_us: int) -> bool:
        """Return whether it holds at a time."""
        return self.starts_us <= at_us < self.until_us

    def about(self, project: str, kind: str, severity: str, scope: Mapping[str, str]) -> bool:
        """Return whether it is about such an alert, whenever that is."""
        model, provider = scope.get("model", ""), scope.get("provider", "")
        models = {model, f"{provider}/{model}"} if model else set()
        return (
            project == self.project
            and _any(self.features, {scope.get("feature", "")})
            and _any(self.arms, {scope.get("arm", "")})
            and _any(self.models, models)
            and _any(self.kinds, {kind})
            and _any(self.severities, {severity})
        )

    def event(self) -> dict[str, Any]:
        """Return the ``silence`` event."""
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return {
            "event_id": event_id("silence", self.project, self.silence_id, self.revision),
            "silence_id": self.silence_id,
            "project": self.project,
            "occurred_at": self.said_us,
            "revision": self.revision,
            "starts_at": self.starts_us,
            "ends_at": self.ends_us,
            "lifted": self.lifted,
            "by": self.by,
            "reason": self.reason,
            **lists,
        }

    @classmethod
    def from_event(cls, value: Mapping[str, Any]) -> Self:
        """Return the silence of a ``silence`` event.

        Raises:
            ControlInvalid: naming the field.
        """
        for name in ("project", "silence_id"):
            if not 0 < len(value[name]) <= MAX_TEXT or not value[name].isprintable():
                raise ControlInvalid(name, f"must be 1 to {MAX_TEXT} printable characters")
        if not 0 < value["revision"] < 2**63:
            raise ControlInvalid("revision", "starts at 1")
        if not value["starts_at"] < value["ends_at"] <= value["starts_at"] + MAX_LENGTH_US:
            raise ControlInvalid("ends_at", "must lie after starts_at, at most 366 days")
        lists = {name: _names(value[name], name) for name in _LISTS}
        unknown = [text for text in lists["severities"] if text not in SEVERITIES]
        if unknown:
            raise ControlInvalid("severities", f"{unknown[0]!r} is none of {', '.join(SEVERITIES)}")
        return cls(
            value["project"], value["silence_id"], value["revision"], value["occurred_at"], value["starts_at"],
            value["ends_at"], value["by"][:MAX_TEXT], value["reason"][:MAX_TEXT], value["lifted"], **lists,
        )  # fmt: skip


def silenced_by(
    silences: Iterable[Silence], project: str, kind: str, severity: str, scope: Mapping[str, str], *, at_us: int
) -> Silence | None:
    """Return the silence under which such an alert is at a time, of several the one that ends last; None: none."""
    found = [each for each in silences if each.live(at_us) and each.about(project, kind, severity, scope)]
    return max(found, key=lambda each: (each.until_us, each.silence_id), default=None)


def _any(wanted: Sequence[str], found: set[str]) -> bool:
    return not wanted or not found.isdisjoint(wanted)


def _names(values: Sequence[str], where: str) -> tuple[str, ...]:
    if len(values) > MAX_VALUES or any(not 0 < len(text) <= MAX_TEXT for text in values):
        raise ControlInvalid(where, f"at most {MAX_VALUES} texts of 1 to {MAX_TEXT} characters")
    return tuple(values)
