"""What is in force for a feature beside its policy, as ``control`` events carry it.

Two owners may say something: the controller and a person. Each has a key of its own on the compacted topic, so neither
overwrites the other, and a person's word holds while the controller is down. While a person's record is in force it
stands in place of the controller's, also where it is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, get_args

from flywheel.events import event_id

Owner = Literal["controller", "person"]
Kind = Literal["disable", "pin", "pause"]
MAX_ITEMS: Final = 64
MAX_TEXT: Final = 512
MAX_ARMS: Final = 64


class ControlInvalid(ValueError):
    """A control that can't be held. ``field`` names what is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.message = field, message


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in force. ``expires_us``: microseconds since the epoch, None until it is taken back."""

    control_id: str
    kind: Kind
    arms: tuple[str, ...] = ()
    expires_us: int | None = None
    reason: str = ""

    def live(self, now_us: int) -> bool:
        """Return whether it holds at ``now_us``."""
        return self.expires_us is None or now_us < self.expires_us


@dataclass(frozen=True, slots=True)
class Record:
    """What one owner says about one feature. Times in microseconds since the epoch."""

    project: str
    feature: str
    owner: Owner
    revision: int
    occurred_us: int
    items: tuple[Item, ...] = ()
    expires_us: int | None = None
    lifted: bool = False
    by: str = "controller"
    reason: str = ""

    @property
    def key(self) -> str:
        """``project/feature/owner``: the Kafka key."""
        return f"{self.project}/{self.feature}/{self.owner}"

    @property
    def place(self) -> str:
        """``project/feature``: what the topic is partitioned by."""
        return f"{self.project}/{self.feature}"

    @property
    def record_id(self) -> str:
        """Deterministic id of this revision."""
        return event_id("control", self.project, self.feature, self.owner, self.revision)

    def live(self, now_us: int) -> bool:
        """Return whether the record as a whole holds at ``now_us``."""
        return not self.lifted and (self.expires_us is None or now_us < self.expires_us)

    def event(self) -> dict[str, Any]:
        """Return the ``control`` event."""
        return {
            "event_id": self.record_id,
            "project": self.project,
            "feature": self.feature,
            "occurred_at": self.occurred_us,
            "owner": self.owner,
            "revision": self.revision,
            "lifted": self.lifted,
            "by": self.by,
            "reason": self.reason,
            "expires_at": self.expires_us,
            "items": [
                {
                    "control_id": item.control_id,
                    "kind": item.kind,
                    "arms": list(item.arms),
                    "expires_at": item.expires_us,
                    "reason": item.reason,
                }
                for item in self.items
            ],
        }

    @classmethod
    def from_event(cls, value: Mapping[str, Any]) -> Self:
        """Return the record of a ``control`` event.

        Raises:
            ControlInvalid: naming the field.
        """
        for name in ("project", "feature"):
            if not 0 < len(value[name]) <= MAX_TEXT or not value[name].isprintable():
                raise ControlInvalid(name, f"must be 1 to {MAX_TEXT} printable characters")
        if value["owner"] not in get_args(Owner):
            raise ControlInvalid("owner", f"{value['owner']!r} is none of {', '.join(get_args(Owner))}")
        if not 0 < value["revision"] < 2**63:
            raise ControlInvalid("revision", "starts at 1")
        if len(value["items"]) > MAX_ITEMS:
            raise ControlInvalid("items", f"more than {MAX_ITEMS}")
        items = tuple(_item(each, f"items.{index}") for index, each in enumerate(value["items"]))
        return cls(
            value["project"], value["feature"], value["owner"], value["revision"], value["occurred_at"], items,
            value["expires_at"], value["lifted"], value["by"][:MAX_TEXT], value["reason"][:MAX_TEXT],
        )  # fmt: skip


def _item(value: Mapping[str, Any], where: str) -> Item:
    if value["kind"] not in get_args(Kind):
        raise ControlInvalid(f"{where}.kind", f"{value['kind']!r} is none of {', '.join(get_args(Kind))}")
    arms = tuple(value["arms"])
    if len(arms) > MAX_ARMS or any(not 0 < len(arm) <= MAX_TEXT for arm in arms):
        raise ControlInvalid(f"{where}.arms", f"at most {MAX_ARMS} names of 1 to {MAX_TEXT} characters")
    if value["kind"] in ("disable", "pin") and not arms:
        raise ControlInvalid(f"{where}.arms", f"{value['kind']} needs at least one arm")
    if not 0 < len(value["control_id"]) <= MAX_TEXT:
        raise ControlInvalid(f"{where}.control_id", f"must be 1 to {MAX_TEXT} characters")
    return Item(value["control_id"], value["kind"], arms, value["expires_at"], value["reason"])


def in_force(person: Record | None, controller: Record | None, now_us: int) -> tuple[Item, ...]:
    """Return what holds for a feature at ``now_us``: the person's word where there is one, else the controller's."""
    record = person if person is not None and person.live(now_us) else controller
    if record is None or not record.live(now_us):
        return ()
    return tuple(item for item in record.items if item.live(now_us))
