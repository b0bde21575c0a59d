"""How alerts stand, folded from their reports and what people say to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from flywheel.control.rules import SEVERITIES
from flywheel.events import instant_us
from flywheel.stream import Reject, Skip

MAX_NAME: Final = 512
MAX_SCOPE: Final = 32
MAX_TITLE: Final = 300
MAX_TEXT: Final = 2_000
MAX_ATTRIBUTES: Final = 32
STATES: Final = ("firing", "acknowledged", "resolved")


def rank(severity: str) -> int:
    """How severe: 0 for info and what is not known, 2 for critical."""
    return SEVERITIES.get(severity, 0)


@dataclass(frozen=True, slots=True)
class Ack:
    """A person has seen an alert, as severe as it was then. Times in microseconds; ``until_us`` None: no end."""

    at_us: int
    severity: str
    by: str = ""
    note: str = ""
    until_us: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """An alert by its newest report.

    ``episode``: id of the report that it began with; ``started_us``: when that was, in event time. The other times are
    the broker's: ``began_us`` when that was heard, ``changed_us`` when it last began or ceased to fire, ``last_us``
    when it was last heard of.
    """

    project: str
    alert_id: str
    episode: str
    firing: bool
    started_us: int
    began_us: int
    changed_us: int
    last_us: int
    kind: str
    severity: str
    title: str
    detail: str
    subject: str
    value: float | None = None
    threshold: float | None = None
    window_end_us: int | None = None
    scope: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """``project/alert_id``."""
        return f"{self.project}/{self.alert_id}"

    @property
    def group(self) -> str:
        """What it is sent together with: all of its feature, else of its subject."""
        return f"{self.project}/{self.scope.get('feature') or self.subject}"

    @property
    def plain(self) -> dict[str, Any]:
        """Itself as JSON holds it."""
        return asdict(self)

    def over(self, now_us: int) -> bool:
        """Whether the window that it is about (a budget's) has ended since it was told: nobody resolves such a one."""
        return self.window_end_us is not None and self.last_us < self.window_end_us <= now_us


def key_of(value: Mapping[str, Any]) -> str:
    """``project/alert_id`` of an ``alert`` event."""
    return f"{value['project']}/{value['alert_id']}"


def problem_of(value: Mapping[str, Any]) -> Reject | None:
    """Why an ``alert`` event cannot be taken; None when it can."""
    for name in ("project", "alert_id"):
        if not 0 < len(value[name]) <= MAX_NAME:
            return Reject("out_of_range", name, f"must be 1 to {MAX_NAME} characters")
    if value["state"] not in STATES:
        return Reject("out_of_range", "state", f"{value['state']!r} is none of {', '.join(STATES)}")
    scope = value["scope"]
    if len(scope) > MAX_SCOPE or any(len(name) > MAX_NAME or len(text) > MAX_NAME for name, text in scope.items()):
        return Reject("out_of_range", "scope", f"at most {MAX_SCOPE} dimensions of {MAX_NAME} characters")
    return None


def acknowledged(value: Mapping[str, Any]) -> Ack:
    """Return what a person said by an ``alert`` event in state acknowledged. An end that is no time is none."""
    said = value["attributes"]
    return Ack(
        value["occurred_at"], value["severity"], said.get("by", "")[:MAX_NAME], said.get("note", "")[:MAX_TEXT],
        instant_us(said.get("until", "")),
    )  # fmt: skip


def taken(known: Standing | None, value: Mapping[str, Any], heard_us: int, settle_us: int) -> Standing | Skip:
    """Return how an alert stands after a report, firing or resolved, heard at ``heard_us``.

    One that fires again before it stayed resolved for ``settle_us`` goes on as the same episode.
    """
    firing = value["state"] == "firing"
    if known is None and not firing:
        return Skip("not_firing")
    if known is None or (firing and not known.firing and heard_us - known.changed_us >= settle_us):
        return _fired(value, heard_us)
    changed_us = known.changed_us if firing == known.firing else heard_us
    if not firing:  # its end is told with what it was: a report of the end often carries less
        return replace(known, firing=False, changed_us=changed_us, last_us=heard_us)
    return replace(
        _fired(value, heard_us), episode=known.episode, started_us=known.started_us, began_us=known.began_us,
        changed_us=changed_us,
    )  # fmt: skip


def _fired(value: Mapping[str, Any], heard_us: int) -> Standing:
    attributes = sorted(value["attributes"].items())[:MAX_ATTRIBUTES]
    return Standing(
        project=value["project"], alert_id=value["alert_id"], episode=value["event_id"], firing=True,
        started_us=value["occurred_at"], began_us=heard_us, changed_us=heard_us, last_us=heard_us,
        kind=value["kind"][:MAX_NAME], severity=value["severity"][:MAX_NAME], title=value["title"][:MAX_TITLE],
        detail=value["detail"][:MAX_TEXT], subject=value["subject"][:MAX_NAME], value=value["value"],
        threshold=value["threshold"], window_end_us=value["window_end"], scope=dict(value["scope"]),
        attributes={name[:MAX_NAME]: text[:MAX_TEXT] for name, text in attributes},
    )  # fmt: skip
