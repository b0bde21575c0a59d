"""What a person says to alerts: seen, over, expected for a time. Published on the topics that everybody reads."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from flywheel.cli.incident_rows import Ask, standing
from flywheel.cli.publishing import ApplyFailed, asked, newest_of, publish
from flywheel.control import ControlInvalid, Silence
from flywheel.events import Codec, event_id
from flywheel.incident import Episode, moment
from flywheel.store import quoted
from flywheel.stream import KafkaBus, Output

ALERTS: Final = "alerts"
SILENCES: Final = "silences"
MOST_NAMED: Final = 200
Said = Literal["acknowledged", "resolved"]


@dataclass(frozen=True, slots=True)
class Word:
    """What a person says to an alert, and how long that holds; None: until it is resolved or worse."""

    state: Said
    by: str
    note: str = ""
    until_us: int | None = None


class NoSuchAlert(RuntimeError):
    """A name that means no alert, or several where one is needed."""


def known_alert(ask: Ask, name: str, project: str | None) -> tuple[str, Episode]:
    """The one alert whose id begins with ``name``, and how it stands. Raises ``NoSuchAlert``, ``QueryFailed``."""
    found = _beginning(ask, name, project)
    if len(found) == 1:
        return found[0]
    if not found:
        raise NoSuchAlert(f"no alert {name} is recorded; see flywheel alerts list")
    raise NoSuchAlert(f"{name} is the beginning of {len(found)} alerts; give more of it, or --project")


def firing_alerts(ask: Ask, name: str, project: str | None) -> list[Episode]:
    """The alerts that fire and that a name means: the one whose id begins with it, else all about that subject or
    feature.

    Raises:
        NoSuchAlert: none fires, or the beginning of an id fits several.
        QueryFailed: ClickHouse does not answer.
    """
    try:
        found = [known_alert(ask, name, project)] if name else []
    except NoSuchAlert:
        text = quoted(name)
        chosen = [f"(subject = {text} OR scope['feature'] = {text} OR concat(project, '/', scope['feature']) = {text})"]
        found = standing(ask, [*chosen, *_of(project)], MOST_NAMED)
        if not found:
            raise
    firing = [episode for state, episode in found if state in ("firing", "acknowledged")]
    if not firing:
        raise NoSuchAlert(f"nothing fires that {name or 'this'} means; see flywheel alerts list")
    return firing


def _beginning(ask: Ask, name: str, project: str | None) -> list[tuple[str, Episode]]:
    return standing(ask, [f"startsWith(alert_id, {quoted(name)})", *_of(project)], MOST_NAMED)


def _of(project: str | None) -> list[str]:
    return [] if project is None else [f"project = {quoted(project)}"]


def said_of(episode: Episode, word: Word, now_us: int) -> Output:
    """Return the report that says it: the alert as it stands, with the person's name and note among its attributes."""
    told = {"by": word.by or "a person", "note": word.note, "until": moment(word.until_us) or ""}
    if word.state == "resolved":
        told["resolved_because"] = f"{told['by']} said so"
    value = {
        "event_id": event_id("word", episode.project, episode.alert_id, word.state, now_us),
        "alert_id": episode.alert_id,
        "project": episode.project,
        "occurred_at": now_us,
        "kind": episode.kind,
        "severity": episode.severity,
        "state": word.state,
        "scope": dict(episode.scope),
        "subject": episode.subject,
        "title": episode.title,
        "detail": episode.detail,
        "value": episode.value,
        "threshold": episode.threshold,
        "window_end": episode.window_end_us,
        "attributes": {**episode.attributes, **{name: text for name, text in told.items() if text}},
    }
    return Output(ALERTS, episode.subject, "alert", value)


async def say(bootstrap: str, episodes: Sequence[Episode], word: Word) -> None:
    """Publish a person's word about alerts. Raises ``ApplyFailed``."""

    async def put(bus: KafkaBus, codec: Codec) -> None:
        now_us = time.time_ns() // 1000
        await publish(bus, codec, [said_of(episode, word, now_us) for episode in episodes])

    await asked(bootstrap, "publishing the word on the alert", put)


async def silences_said(bootstrap: str) -> list[Silence]:
    """Return every silence as it was last said, by when they end. Raises ``ApplyFailed``."""

    async def read(bus: KafkaBus, codec: Codec) -> list[Silence]:
        return readable_silences(await newest_of(bus, codec, SILENCES))

    return await asked(bootstrap, "reading silences", read)


def readable_silences(events: Mapping[str, Mapping[str, Any]]) -> list[Silence]:
    """Return the silences of the newest ``silence`` events; what cannot be one is left to the dead letters."""
    found = []
    for value in events.values():
        try:
            found.append(Silence.from_event(value))
        except ControlInvalid:
            continue
    return sorted(found, key=lambda each: (each.ends_us, each.key))


async def say_silence(bootstrap: str, wanted: Silence) -> Silence:
    """Publish a new silence; its id and revision are made here. Raises ``ApplyFailed``."""

    async def put(bus: KafkaBus, codec: Codec) -> Silence:
        now_us = time.time_ns() // 1000
        identity = event_id("silence", wanted.project, wanted.by, now_us)
        made = checked(replace(wanted, silence_id=identity, revision=now_us, said_us=now_us))
        await publish(bus, codec, [Output(SILENCES, made.key, "silence", made.event())])
        return made

    return await asked(bootstrap, "publishing the silence", put)


async def lift_silence(bootstrap: str, name: str, *, by: str, reason: str) -> Silence:
    """Take back the silence whose id begins with ``name``. Raises ``ApplyFailed``."""

    async def put(bus: KafkaBus, codec: Codec) -> Silence:
        now_us = time.time_ns() // 1000
        known = the_silence(readable_silences(await newest_of(bus, codec, SILENCES)), name, now_us)
        made = replace(
            known, lifted=True, said_us=now_us, revision=max(now_us, known.revision + 1), by=by,
            reason=reason or known.reason,
        )  # fmt: skip
        await publish(bus, codec, [Output(SILENCES, made.key, "silence", made.event())])
        return made

    return await asked(bootstrap, "lifting the silence", put)


def the_silence(known: Sequence[Silence], name: str, now_us: int) -> Silence:
    """Return the silence that holds, or will, and whose id begins with ``name``. Raises ``ApplyFailed``."""
    found = [each for each in known if name and each.silence_id.startswith(name) and each.until_us > now_us]
    if len(found) != 1:
        why = f"is the beginning of {len(found)} silences; give more of it" if found else "is no silence that holds"
        raise ApplyFailed(f"{name} {why}; see flywheel alerts silences")
    return found[0]


def checked(wanted: Silence) -> Silence:
    """Return a silence if everybody will take it. Raises ``ApplyFailed``, naming the field."""
    try:
        return Silence.from_event(wanted.event())
    except ControlInvalid as error:
        raise ApplyFailed(str(error)) from error
