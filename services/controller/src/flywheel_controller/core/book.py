"""What the controller knows of a project: alerts, what it has in force, what it did, features. Plain values, as JSON.

Times are microseconds of the ledger's clock unless they say otherwise.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from flywheel.control import Item, Signal, Silence, silenced_by

MAX_ALERTS: Final = 5_000
MAX_DONE: Final = 20_000
MAX_CHARTERS: Final = 4
MAX_SILENCES: Final = 1_000
GIVEN_UP: Final = "given_up"
PROPOSED: Final = "proposed"


@dataclass(slots=True)
class Alert:
    """An alert as it was last reported. ``answered``: the action that answers it, `PROPOSED`, `GIVEN_UP` or nothing."""

    alert_id: str
    feature: str
    kind: str
    severity: str
    scope: dict[str, str]
    title: str
    value: float | None
    threshold: float | None
    observed: float | None
    expected: float | None
    firing: bool
    said_us: int
    """When it was noticed, by its own event."""
    first_us: int
    last_us: int
    charter: int = 0
    """Revision of the feature's charter that it was noticed under; 0 where that is not said or not waited for."""
    began_by_us: int | None = None
    """By when what it is about had begun, by its first report's own event; None where that does not say."""
    answered: str = ""
    rule: str = ""
    told: list[str] = field(default_factory=list)
    """Why nothing was done about it, as far as that was said."""
    escalations: list[str] = field(default_factory=list)
    verdict: str = ""
    """What it says explains a score."""

    @property
    def signal(self) -> Signal:
        """What rules look at."""
        return Signal(
            self.kind, self.severity, self.scope, self.value, self.threshold, self.observed, self.expected,
            self.verdict,
        )  # fmt: skip


@dataclass(slots=True)
class Open:
    """An action in force. ``before``: the deviation of each alert it answers when it was answered."""

    action_id: str
    rule: str
    rules_version: int
    priority: int
    kind: str
    feature: str
    arms: list[str]
    cause: list[str]
    cause_kind: str
    scope: dict[str, str]
    before: dict[str, float | None]
    reason: str
    applied_us: int
    verify_by_us: int
    improve: float
    expires_us: int | None
    return_after_us: int
    verified: bool = False
    resolved_us: int | None = None
    change: str = ""
    revision: int = 0
    """rollback: revision of the charter that was published."""
    undo_digest: str = ""
    """rollback: digest of the charter that was taken back."""

    @property
    def item(self) -> Item | None:
        """What deciding processes are told; a rollback tells them through the charter."""
        if self.kind not in ("disable", "pin", "pause"):
            return None
        return Item(self.action_id, self.kind, tuple(self.arms), self.expires_us, self.reason)  # type: ignore[arg-type]


@dataclass(slots=True)
class Done:
    """An action that is over, as far as cooldown, flapping and limits need it. ``state``: the one it ended in; empty
    where that was not kept yet."""

    rule: str
    feature: str
    arms: list[str]
    applied_us: int
    ended_us: int
    state: str = ""


@dataclass(slots=True)
class Override:
    """What a person put in force for a feature. ``expires_us`` by the person's clock."""

    action_id: str
    by: str
    reason: str
    arms: list[str]
    revision: int
    applied_us: int
    expires_us: int | None


@dataclass(slots=True)
class KnownArm:
    """An arm as charter and policy know it; ``price``: US dollars of a typical call, for comparing arms."""

    name: str
    model: str
    enabled: bool
    mean: float | None = None
    price: float | None = None


@dataclass(slots=True)
class Feature:
    """A feature: its arms, and what it was told."""

    default: str = ""
    arms: list[KnownArm] = field(default_factory=list)
    policy_version: int = 0
    person_revision: int = 0
    control_revision: int = 0
    told: list[str] = field(default_factory=list)
    """Ids of the actions in the newest control that was published."""
    override: Override | None = None


@dataclass(slots=True)
class Declared:
    """A charter as it was declared."""

    revision: int
    digest: str
    text: str
    event_id: str
    at_us: int
    own: bool = False


@dataclass(slots=True)
class Book:
    """Everything about one project."""

    project: str
    rules_revision: int = 0
    rules_text: str = ""
    alerts: dict[str, Alert] = field(default_factory=dict)
    open: dict[str, Open] = field(default_factory=dict)
    done: list[Done] = field(default_factory=list)
    features: dict[str, Feature] = field(default_factory=dict)
    silences: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Silences that may still hold, by id: their newest events."""
    due_us: int | None = None
    """When something has to be looked at although nothing comes."""

    def feature(self, name: str) -> Feature:
        """Return a feature, a new one where it is not known."""
        return self.features.setdefault(name, Feature())

    def silenced_by(self, alert: Alert, now_us: int) -> Silence | None:
        """Return the silence that an alert is under."""
        held = [Silence.from_event(each) for each in self.silences.values()]
        return silenced_by(held, self.project, alert.kind, alert.severity, alert.scope, at_us=now_us)

    def encode(self) -> bytes:
        """Return it as canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def decode(cls, data: bytes) -> Book:
        """Read what `encode` wrote."""
        value: dict[str, Any] = json.loads(data)
        return cls(
            project=value["project"],
            rules_revision=value["rules_revision"],
            rules_text=value["rules_text"],
            alerts={key: Alert(**each) for key, each in value["alerts"].items()},
            open={key: Open(**each) for key, each in value["open"].items()},
            done=[Done(**each) for each in value["done"]],
            features={key: _feature(each) for key, each in value["features"].items()},
            silences=value.get("silences", {}),  # a book from before there were any has none
            due_us=value["due_us"],
        )


def _feature(value: dict[str, Any]) -> Feature:
    arms = [KnownArm(**arm) for arm in value["arms"]]
    override = Override(**value["override"]) if value["override"] else None
    return Feature(**{**value, "arms": arms, "override": override})
