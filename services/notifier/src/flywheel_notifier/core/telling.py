"""What follows from how alerts stand for one destination: who is told what, once, and again when it matters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from flywheel.control import Silence, silenced_by
from flywheel.events import event_id
from flywheel_notifier.core.destinations import Destination
from flywheel_notifier.core.standing import Ack, Standing, rank

Reason = Literal["firing", "worse", "again", "resolved"]
MOST_TOGETHER: Final = 50
"""Alerts in one message; what is more comes with the next."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Microseconds: how long an alert waits for others, must stay resolved, and when it was never told counts as old
    news: what was over before ``since_us`` is not told."""

    wait_us: int
    settle_us: int
    since_us: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """What a destination was last told of an alert, and how often it was told of this episode."""

    episode: str
    firing: bool
    severity: str
    at_us: int
    times: int


@dataclass(frozen=True, slots=True)
class Note:
    """One alert in a message, as it stood when the message was made. ``note_id``: the same whenever it is sent."""

    note_id: str
    reason: Reason
    alert: Standing
    ack: Ack | None = None

    @property
    def plain(self) -> dict[str, Any]:
        """Itself as JSON holds it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent at once. ``message_id``: its idempotency key, a hash of what it tells."""

    message_id: str
    destination: str
    group: str
    made_us: int
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class View:
    """What is known when a destination's messages are made: by ``project/alert_id`` how each alert stands, who has seen
    it, and what this destination was told; groups of which a message still waits."""

    alerts: Mapping[str, Standing]
    acks: Mapping[str, Ack]
    told: Mapping[str, Told]
    silences: Sequence[Silence]
    waiting: frozenset[str]


def messages(view: View, destination: Destination, terms: Terms, now_us: int, most: int) -> list[Message]:
    """Return the messages that are due, at most ``most``, those of the worst alerts first.

    A group of which a message waits gets no further one: when it was taken, the next says how things stand then.
    """
    due: dict[str, list[tuple[Standing, Reason]]] = {}
    soon: dict[str, list[tuple[Standing, Reason]]] = {}
    for key, alert in view.alerts.items():
        if alert.group in view.waiting or not destination.wants(alert.project, alert.kind, alert.severity, alert.scope):
            continue
        reason = wanted(view, key, destination, terms, now_us)
        if reason is not None:
            ripe = reason != "firing" or now_us - alert.began_us >= terms.wait_us
            (due if ripe else soon).setdefault(alert.group, []).append((alert, reason))
    ordered = sorted(due.items(), key=lambda each: (-max(rank(alert.severity) for alert, _ in each[1]), each[0]))
    return [
        _message(view, destination, group, _first([*found, *soon.get(group, [])]), now_us)
        for group, found in ordered[:most]
    ]


def _first(found: list[tuple[Standing, Reason]]) -> list[tuple[Standing, Reason]]:
    found.sort(key=lambda each: (-rank(each[0].severity), each[0].started_us, each[0].key))
    return found[:MOST_TOGETHER]


def wanted(view: View, key: str, destination: Destination, terms: Terms, now_us: int) -> Reason | None:
    """Return why a destination is to be told of an alert now, or soon; None when it is not."""
    alert, told = view.alerts[key], view.told.get(key)
    if told is not None and told.episode != alert.episode:
        told = None
    reason = _reason(view, alert, told, destination, terms, now_us=now_us)
    if reason is None:
        return None
    silence = silenced_by(view.silences, alert.project, alert.kind, alert.severity, alert.scope, at_us=now_us)
    return None if silence is not None else reason


def _reason(
    view: View, alert: Standing, told: Told | None, destination: Destination, terms: Terms, *, now_us: int
) -> Reason | None:
    seen = holds(view.acks.get(alert.key), alert, now_us)
    if not alert.firing:
        return _end(view, alert, told, terms, now_us)
    if told is None:
        return None if seen and not destination.refreshes else "firing"
    if rank(alert.severity) > rank(told.severity):
        return "worse"
    if (seen and not destination.refreshes) or alert.over(now_us):
        return None
    if not told.firing:
        return "firing"
    return "again" if now_us - told.at_us >= destination.repeat_us else None


def holds(ack: Ack | None, alert: Standing, now_us: int) -> bool:
    """Return whether a person has seen this episode of an alert, as severe as it is."""
    if ack is None or ack.at_us < alert.started_us or rank(alert.severity) > rank(ack.severity):
        return False
    return ack.until_us is None or now_us < ack.until_us


def _end(view: View, alert: Standing, told: Told | None, terms: Terms, now_us: int) -> Reason | None:
    if now_us - alert.changed_us < terms.settle_us:
        return None
    if told is not None:
        return "resolved" if told.firing else None
    # Nobody was told that it fired. That it did is told once, unless it is old news or somebody knew.
    if alert.changed_us < terms.since_us or _expected(view.silences, alert):
        return None
    return None if holds(view.acks.get(alert.key), alert, alert.changed_us) else "resolved"


def _expected(silences: Iterable[Silence], alert: Standing) -> bool:
    """Whether it began and ended within one silence."""
    return any(
        each.starts_us <= alert.began_us and alert.changed_us <= each.until_us
        and each.about(alert.project, alert.kind, alert.severity, alert.scope)
        for each in silences
    )  # fmt: skip


def _message(
    view: View, destination: Destination, group: str, found: Sequence[tuple[Standing, Reason]], now_us: int
) -> Message:
    notes = []
    for alert, reason in found:
        told = view.told.get(alert.key)
        times = told.times if told is not None and told.episode == alert.episode else 0
        parts = (destination.name, alert.key, alert.episode, reason, alert.severity, times)
        notes.append(Note(event_id("notification", *parts), reason, alert, view.acks.get(alert.key)))
    identity = event_id("message", destination.name, *(each.note_id for each in notes))
    return Message(identity, destination.name, group, now_us, tuple(notes))


def told_by(message: Message, known: Mapping[str, Told]) -> dict[str, Told]:
    """Return what a destination was told of each alert once a message is made, by ``project/alert_id``."""
    made: dict[str, Told] = {}
    for note in message.notes:
        alert, before = note.alert, known.get(note.alert.key)
        times = before.times if before is not None and before.episode == alert.episode else 0
        made[alert.key] = Told(alert.episode, alert.firing, alert.severity, message.made_us, times + 1)
    return made
