"""How a message is put: as our own JSON, for Slack, for Alertmanager; and how a webhook is signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from flywheel_notifier.core.destinations import Destination
from flywheel_notifier.core.standing import Standing
from flywheel_notifier.core.telling import Message, Note

SLACK_TEXT: Final = 2_900
SLACK_HEADER: Final = 150
SLACK_BLOCKS: Final = 45
REFRESHES_KEPT: Final = 4
"""An Alertmanager takes an alert for over when so many times in a row it was not told again."""
MARKS: Final[Mapping[str, str]] = {
    "firing": "Firing", "worse": "Worse", "again": "Still firing", "resolved": "Resolved",
}  # fmt: skip
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LABEL: Final = re.compile(r"[^a-zA-Z0-9_]")


def body_of(message: Message, destination: Destination, now_us: int) -> Any:
    """Return what is posted, as JSON values."""
    if destination.kind == "slack":
        return slack(message, destination.link)
    if destination.kind == "alertmanager":
        return [alertmanager(note, destination, now_us) for note in message.notes]
    return webhook(message, destination.link)


def url_of(destination: Destination) -> str:
    """Where it is posted."""
    url = destination.url.get_secret_value()
    return f"{url.rstrip('/')}/api/v2/alerts" if destination.kind == "alertmanager" else url


def headers_of(message: Message, destination: Destination, body: bytes, now_s: int) -> dict[str, str]:
    """Return what goes with it: the idempotency key, under its usual name and that of Standard Webhooks, whose
    signature (HMAC-SHA256 of id, time and body) is there where a secret is."""
    made = {
        "content-type": "application/json",
        "user-agent": "flywheel-notifier",
        "idempotency-key": message.message_id,
        "webhook-id": message.message_id,
        "webhook-timestamp": str(now_s),
    }
    if destination.secret is not None:
        signed = f"{message.message_id}.{now_s}.".encode() + body
        digest = hmac.new(destination.secret.get_secret_value(), signed, hashlib.sha256).digest()
        made["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    if destination.bearer is not None:
        made["authorization"] = f"Bearer {destination.bearer.get_secret_value()}"
    return made


def webhook(message: Message, link: str | None) -> dict[str, Any]:
    """Our own form; see the service's page."""
    return {
        "message_id": message.message_id,
        "destination": message.destination,
        "group": message.group,
        "made_at": moment(message.made_us),
        "alerts": [_told(note, link) for note in message.notes],
    }


def _told(note: Note, link: str | None) -> dict[str, Any]:
    alert, ack = note.alert, note.ack
    return {
        "notification_id": note.note_id,
        "reason": note.reason,
        "alert_id": alert.alert_id,
        "project": alert.project,
        "state": "firing" if alert.firing else "resolved",
        "kind": alert.kind,
        "severity": alert.severity,
        "title": alert.title,
        "detail": alert.detail,
        "subject": alert.subject,
        "scope": dict(alert.scope),
        "value": alert.value,
        "threshold": alert.threshold,
        "started_at": moment(alert.started_us),
        "ended_at": None if alert.firing else moment(alert.changed_us),
        "acknowledged_by": ack.by if ack is not None and ack.at_us >= alert.started_us else None,
        "attributes": dict(alert.attributes),
        "link": _link(link, alert),
    }


def slack(message: Message, link: str | None) -> dict[str, Any]:
    """A message for a Slack incoming webhook: a line for each alert, with what was seen. Texts of others are escaped,
    so that they can neither mention anybody nor link anywhere."""
    blocks: list[dict[str, Any]] = []
    for note in message.notes[:SLACK_BLOCKS]:
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": _slack_text(note, link)}})
    more = len(message.notes) - SLACK_BLOCKS
    if more > 0:
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": f"and {more} more"}]})
    first = message.notes[0]
    text = f"{MARKS[first.reason]}: {first.alert.title or first.alert.kind}"
    others = f" (and {len(message.notes) - 1} more)" if len(message.notes) > 1 else ""
    return {"text": escaped(text[:SLACK_HEADER]) + others, "blocks": blocks}


def _slack_text(note: Note, link: str | None) -> str:
    alert = note.alert
    lines = [f"*{MARKS[note.reason]}* ({escaped(alert.severity)}) {escaped(alert.title or alert.kind)}"]
    seen = alert.attributes.get("observed") or _number(alert.value)
    usual = alert.attributes.get("expected") or _number(alert.threshold)
    figures = [f"{name} {text}" for name, text in (("observed", seen), ("expected", usual)) if text]
    figures += [f"{name.replace('_', ' ')}: {text}" for name in _EVIDENCE if (text := alert.attributes.get(name))]
    lines += [escaped(part) for part in ("; ".join(figures), alert.detail) if part]
    found = _link(link, alert)
    lines.append(f"<{found}|alert {alert.alert_id[:12]}>" if found else f"alert {escaped(alert.alert_id[:12])}")
    return "\n".join(lines)[:SLACK_TEXT]


_EVIDENCE: Final = ("impact", "explained_by", "changed_before")


def alertmanager(note: Note, destination: Destination, now_us: int) -> dict[str, Any]:
    """One alert as ``POST /api/v2/alerts`` takes it. While it fires its end lies a few refreshes ahead."""
    alert = note.alert
    labels = {_label(name): text for name, text in alert.scope.items()}
    labels |= {
        "alertname": alert.kind, "severity": alert.severity, "project": alert.project, "alert_id": alert.alert_id,
    }  # fmt: skip
    annotations = {"summary": alert.title, "description": alert.detail, "subject": alert.subject}
    annotations |= {_label(name): text for name, text in alert.attributes.items()}
    ends_us = now_us + REFRESHES_KEPT * destination.repeat_us if alert.firing else alert.changed_us
    made: dict[str, Any] = {
        "labels": {name: text for name, text in labels.items() if text},
        "annotations": {name: text for name, text in annotations.items() if text},
        "startsAt": moment(alert.started_us),
        "endsAt": moment(max(ends_us, alert.started_us)),
    }
    found = _link(destination.link, alert)
    return made | ({"generatorURL": found} if found else {})


def escaped(text: str) -> str:
    """Text as Slack shows it and does not interpret it; control characters become spaces."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def moment(at_us: int) -> str:
    """A time as RFC 3339, UTC, to the microsecond."""
    return (_EPOCH + timedelta(microseconds=at_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def titles(notes: Sequence[Note]) -> list[str]:
    """The titles of a message's alerts, for a log line."""
    return [note.alert.title or note.alert.kind for note in notes]


def _link(link: str | None, alert: Standing) -> str | None:
    safe = re.sub(r"[^A-Za-z0-9_.~-]", "-", alert.alert_id)
    return None if link is None else link.replace("{alert_id}", safe)


def _label(name: str) -> str:
    made = _LABEL.sub("_", name)
    return f"_{made}" if not made or made[0].isdigit() else made


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
