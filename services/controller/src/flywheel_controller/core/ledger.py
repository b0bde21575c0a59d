"""Entries of the ledger: what the intake writes and the act stage reads. What comes back is input like any other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from flywheel.events import instant_us
from flywheel.stream import Reject
from flywheel_controller.core.book import Alert, Declared, KnownArm

LEDGER: Final = "control-ledger"
KINDS: Final = ("alert", "charter", "policy", "control", "silence", "rules", "tick")
MAX_NAME: Final = 512
MAX_SCOPE: Final = 32
MAX_TITLE: Final = 300
MAX_DIGITS: Final = 18
MOST_BEFORE_US: Final = 7 * 86_400_000_000
"""A change that an alert says began longer before it than this is not believed."""
_SECOND_US: Final = 1_000_000


def figure(value: Any) -> float | None:
    """Return a finite number, None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def revision(value: Any) -> int:
    """Return the revision of a charter that a text names, 0 for anything else."""
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) <= MAX_DIGITS else 0


def alert_body(value: Mapping[str, Any]) -> dict[str, Any] | Reject:
    """Return the parts of an ``alert`` event that rules look at."""
    if not 0 < len(value["alert_id"]) <= MAX_NAME:
        return Reject("out_of_range", "alert_id", f"must be 1 to {MAX_NAME} characters")
    if value["state"] not in ("firing", "resolved"):
        return Reject("out_of_range", "state", f"{value['state']!r} is neither firing nor resolved")
    scope = value["scope"]
    if len(scope) > MAX_SCOPE or any(len(name) > MAX_NAME or len(text) > MAX_NAME for name, text in scope.items()):
        return Reject("out_of_range", "scope", f"at most {MAX_SCOPE} dimensions of {MAX_NAME} characters")
    attributes = value["attributes"]
    return {
        "alert_id": value["alert_id"],
        "kind": value["kind"][:MAX_NAME],
        "severity": value["severity"],
        "firing": value["state"] != "resolved",
        "scope": dict(scope),
        "title": value["title"][:MAX_TITLE],
        "value": figure(value["value"]),
        "threshold": figure(value["threshold"]),
        "observed": figure(attributes.get("observed")),
        "expected": figure(attributes.get("expected")),
        "charter": revision(attributes.get("charter_revision")),
        "verdict": attributes.get("verdict", "")[:MAX_NAME],
        "said_us": value["occurred_at"],
        "began_by_us": began_by(attributes.get("since", ""), value["occurred_at"]),
    }


def began_by(since: str, said_us: int) -> int | None:
    """Return by when that had begun which an alert, noticed at ``said_us``, dates ``since``; None for no credible time.

    A beginning is an estimate and may be told too early: by more than half of the time from there to the alert in about
    one of twenty changes (``libs/detect`` holds it to that). So it is the middle of the two, and no sooner than the
    second after, as the text has whole seconds.
    """
    at_us = instant_us(since)
    if at_us is None or not said_us - MOST_BEFORE_US <= at_us <= said_us:
        return None
    return at_us + max(_SECOND_US, (said_us - at_us) // 2)


def alert_in(body: Mapping[str, Any], now_us: int) -> Alert:
    """Return the alert of a body, heard of at ``now_us``."""
    return Alert(
        alert_id=body["alert_id"], feature=body["scope"].get("feature", ""), kind=body["kind"],
        severity=body["severity"], scope=body["scope"], title=body["title"], value=body["value"],
        threshold=body["threshold"], observed=body["observed"], expected=body["expected"], firing=body["firing"],
        said_us=body["said_us"], first_us=now_us, last_us=now_us, charter=body.get("charter", 0),
        verdict=body.get("verdict", ""), began_by_us=body.get("began_by_us"),
    )  # fmt: skip


def declared_in(body: Mapping[str, Any], now_us: int) -> tuple[Declared, str, list[KnownArm]]:
    """Return a charter, its default arm and its arms. It was declared when it says, or now where that lies ahead."""
    at_us = min(body["at_us"], now_us)
    declared = Declared(body["revision"], body["digest"], body["text"], body["event_id"], at_us)
    arms = [KnownArm(arm["name"], arm["model"], arm["enabled"]) for arm in body["arms"]]
    return declared, body["default"], arms
