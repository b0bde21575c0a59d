"""What the detector says: an alert, its figures, what explains it, what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from flywheel.events import event_id
from flywheel.stream import Output
from flywheel_detector.core.book import Book, Place, Raised
from flywheel_detector.core.measures import ARM_SHARE, Measure

ALERTS: Final = "alerts"
SILENCE: Final = "silence"
TRAFFIC: Final = "traffic"
_HOUR_US: Final = 3_600_000_000
MAX_CHANGES: Final = 16
_SMALL_SHARE: Final = 0.05
"""A cell with less of its feature's calls than this is no reason to wake anybody."""


def alert_id(book: Book, place: Place, kind: str) -> str:
    """The id of what an alert is about: the same whenever it fires again."""
    return event_id("detected", book.project, book.feature, place.arm, place.model, kind)


def scope_of(book: Book, place: Place, measure: str) -> dict[str, str]:
    """The dimensions of an alert, by the names the controller's rules look at."""
    provider, slash, model = place.model.partition("/")
    arm = measure.removeprefix(ARM_SHARE) if measure.startswith(ARM_SHARE) else place.arm
    found = {"feature": book.feature, "arm": arm}
    found |= {"provider": provider, "model": model} if slash else {"model": place.model}
    return {name: text for name, text in found.items() if text}


def severity_of(measure: Measure, expected: float, observed: float, share: float) -> str:
    """How bad a change is, in the measure's unit; ``share``: of the feature's calls that it concerns."""
    if measure.kind in ("drift", "arm_share") or share < _SMALL_SHARE:
        return "info"
    ratio = observed / expected if expected > 0 else float("inf")
    grave = {
        "error_rate": observed >= 0.1,
        "refusal_rate": observed >= 0.25,
        "cost_per_call": ratio >= 2.0,
        "latency": ratio >= 3.0,
        "quality": ratio <= 0.8,
    }
    return "critical" if grave.get(measure.kind, False) else "warning"


def impact_of(measure: Measure, expected: float, observed: float, calls_per_hour: float) -> str:
    """What the change comes to in an hour, in words; empty where that says nothing."""
    by = (observed - expected) * calls_per_hour
    if measure.kind == "cost_per_call":
        return f"{by:.6g} USD an hour"
    if measure.kind == "error_rate":
        return f"{by:.6g} failed calls an hour"
    if measure.kind == "refusal_rate":
        return f"{by:.6g} refused calls an hour"
    if measure.kind == "quality":
        return f"{by:.6g} of the score an hour"
    return ""


def alert_output(
    book: Book,
    raised: Raised,
    *,
    state: str,
    now_us: int,
    scope: Mapping[str, str],
    title: str,
    detail: str,
    value: float | None,
    window: tuple[int, int] | None,
    attributes: Mapping[str, str],
    threshold: float | None = None,
) -> Output:
    """Return one report of an alert. ``charter_revision`` says which charter it was noticed under, so that who acts on
    it can hear of that charter first."""
    revision = str(book.charters[-1]["revision"]) if book.charters else ""
    event: dict[str, Any] = {
        "event_id": event_id("detected", raised.alert_id, raised.first_us, raised.reports, state),
        "alert_id": raised.alert_id,
        "project": book.project,
        "occurred_at": now_us,
        "kind": raised.kind,
        "severity": raised.severity,
        "state": state,
        "scope": dict(scope),
        "subject": f"{book.project}/{book.feature}" if book.feature else book.project,
        "title": title,
        "detail": detail,
        "value": value,
        "threshold": threshold,
        "window_start": None if window is None else window[0],
        "window_end": None if window is None else window[1],
        "attributes": {name: text for name, text in {**attributes, "charter_revision": revision}.items() if text},
    }
    return Output(ALERTS, event["subject"], "alert", event)


def title_of(book: Book, scope: Mapping[str, str], what: str) -> str:
    """One line for a person."""
    about = [scope[name] for name in ("arm", "model") if name in scope]
    return f"{book.feature or book.project}{' (' + ', '.join(about) + ')' if about else ''}: {what}"


def changed_before(book: Book, place: Place, since_us: int, until_us: int) -> list[str]:
    """What changed in the hour before a time, or after it until it was noticed: of charters and of each thing that has
    versions the newest seen first then, and how many more; the newest 16."""
    found = {"charter revision": {str(each["revision"]): each["at_us"] for each in book.charters[1:]}}
    for where in [place, *(each for each in book.places.values() if not each.model and each is not place)]:
        for name, versions in where.seen.items():
            first_us, known = min(versions.values()), found.setdefault(name, {})
            known.update((text, min(at, known.get(text, at))) for text, at in versions.items() if at > first_us)
    told: list[tuple[int, str]] = []
    for name, versions in found.items():
        recent = sorted((at, text) for text, at in versions.items() if since_us - _HOUR_US <= at <= until_us)
        if recent:
            at, text = recent[-1]
            more = f" ({len(recent) - 1} before it)" if len(recent) > 1 else ""
            told.append((at, f"{name} {text} at {when(at)}{more}"))
    return [text for _, text in sorted(told)][-MAX_CHANGES:]


def explained_by(parts: Sequence[tuple[str, float]]) -> str:
    """Which cells make up the change of a feature's mean: name and (weighted) change of each."""
    total = sum(part for _, part in parts)
    if not total:
        return ""
    shares = sorted(((part / total, name) for name, part in parts if part / total > 0.05), reverse=True)
    return "; ".join(f"{name}: {share:.0%}" for share, name in shares[:5])


def when(at_us: int) -> str:
    """A time as text."""
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def figure_text(value: Any) -> str:
    """A number as text that reads back to about the same."""
    return f"{value:.9g}"
