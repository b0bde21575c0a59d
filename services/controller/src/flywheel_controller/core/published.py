"""What the controller says: steps of actions, controls, charters it publishes, alerts of its own."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

from flywheel.control import Item, Record
from flywheel.events import event_id
from flywheel.stream import Output
from flywheel_controller.core.book import Alert, Declared, Open, Override

ACTIONS: Final = "actions"
CONTROLS: Final = "controls"
CHARTERS: Final = "charters"
ALERTS: Final = "alerts"
OWN_ALERTS: Final = "action_"
"""Kinds of the controller's own alerts begin so; it does not answer them."""
UNDO: Final = {
    "rollback": "publish the charter it took back again",
    "disable": "the arms are eligible again",
    "pin": "every arm is eligible again",
    "pause": "the policy decides again",
}


def step_of(project: str, action: Open, state: str, now_us: int, *, reason: str, after: float | None = None) -> Output:
    """Return one step in the life of an action that is or was in force. Each state is reached once, so it is the id."""
    before = [figure for figure in action.before.values() if figure is not None]
    value = {
        "event_id": event_id("action_step", action.action_id, state),
        "action_id": action.action_id,
        "project": project,
        "feature": action.feature,
        "occurred_at": now_us,
        "state": state,
        "kind": action.kind,
        "arms": list(action.arms),
        "by": "controller",
        "rule": action.rule,
        "rules_version": action.rules_version,
        "priority": action.priority,
        "cause": list(action.cause),
        "cause_kind": action.cause_kind,
        "scope": dict(action.scope),
        "value_before": max(before) if before else None,
        "value_after": after,
        "applied_at": action.applied_us,
        "verify_by": action.verify_by_us,
        "expires_at": action.expires_us,
        "undo": UNDO[action.kind],
        "reason": reason,
        "change": action.change,
    }
    return Output(ACTIONS, f"{project}/{action.feature}", "action", value)


class Unmade(NamedTuple):
    """What was proposed or refused: no change, and so nothing to take back."""

    action_id: str
    kind: str
    rule: str
    rules_version: int
    priority: int
    arms: Sequence[str] = ()
    dry_run: bool = False


def unmade_step(project: str, alert: Alert, unmade: Unmade, state: str, now_us: int, *, reason: str) -> Output:
    """Return the step ``proposed`` or ``refused`` about an alert."""
    value = {
        "event_id": event_id("action_step", unmade.action_id, state),
        "action_id": unmade.action_id,
        "project": project,
        "feature": alert.feature,
        "occurred_at": now_us,
        "state": state,
        "kind": unmade.kind,
        "arms": list(unmade.arms),
        "rule": unmade.rule,
        "rules_version": unmade.rules_version,
        "priority": unmade.priority,
        "cause": [alert.alert_id],
        "cause_kind": alert.kind,
        "scope": dict(alert.scope),
        "value_before": alert.signal.deviation,
        "reason": reason,
        "dry_run": unmade.dry_run,
    }
    return Output(ACTIONS, f"{project}/{alert.feature}", "action", value)


def override_step(project: str, feature: str, override: Override, state: str, now_us: int) -> Output:
    """Return a step in the life of what a person put in force."""
    value = {
        "event_id": event_id("action_step", override.action_id, state),
        "action_id": override.action_id,
        "project": project,
        "feature": feature,
        "occurred_at": now_us,
        "state": state,
        "kind": "override",
        "arms": list(override.arms),
        "by": override.by,
        "applied_at": override.applied_us,
        "expires_at": override.expires_us,
        "undo": "flywheel control lift",
        "reason": override.reason,
    }
    return Output(ACTIONS, f"{project}/{feature}", "action", value)


def control_output(project: str, feature: str, items: Sequence[Item], revision: int, now_us: int) -> Output:
    """Return what the controller has in force for a feature."""
    record = Record(project, feature, "controller", revision, now_us, tuple(items))
    return Output(CONTROLS, record.key, "control", record.event(), record.place)


def charter_output(project: str, feature: str, declared: Declared) -> Output:
    """Return a charter that is published again."""
    value = {
        "event_id": declared.event_id,
        "project": project,
        "feature": feature,
        "occurred_at": declared.at_us,
        "revision": declared.revision,
        "charter_yaml": declared.text,
        "digest": declared.digest,
    }
    return Output(CHARTERS, f"{project}/{feature}", "charter", value)


def again(project: str, feature: str, text: str, revision: int, now_us: int) -> Declared:
    """Return a charter's text as a new revision of the controller's own."""
    digest = sha256(text.encode()).hexdigest()
    identity = event_id("charter", project, feature, revision, digest)
    return Declared(revision, digest, text, identity, now_us, own=True)


def told_person(project: str, alert: Alert, kind: str, state: str, now_us: int, *, title: str, detail: str) -> Output:
    """Return an alert of the controller's own about an alert. ``kind``: what it is, behind ``action_``."""
    identity = event_id("escalation", project, alert.feature, alert.alert_id, alert.first_us, kind)
    value: dict[str, Any] = {
        "event_id": event_id("alert", identity, state),
        "alert_id": identity,
        "project": project,
        "occurred_at": now_us,
        "kind": OWN_ALERTS + kind,
        "severity": "warning" if kind == "proposed" else "critical",
        "state": state,
        "scope": dict(alert.scope),
        "subject": f"{project}/{alert.feature}",
        "title": title,
        "detail": detail,
        "value": alert.value,
        "threshold": alert.threshold,
        "attributes": {"cause": alert.alert_id, "cause_kind": alert.kind},
    }
    return Output(ALERTS, f"{project}/{alert.feature}", "alert", value)
