"""The order of events of an incident: its beginning, alerts, actions, effect and end, and all between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from flywheel.incident.grouping import Incident, Terms
from flywheel.incident.records import Change, Report, Step

Sort = Literal["fact", "change", "detection", "decision", "effect"]
Told = TypeVar("Told", Report, Step)
PhaseName = Literal["before", "unnoticed", "noticed", "acted on", "after"]
_ORDER: Final[Mapping[str, int]] = {"fact": 0, "change": 1, "detection": 2, "decision": 3, "effect": 4}
_EFFECTS: Final = ("verified", "undone", "returned", "expired")
"""States of an action that say what came of it; the others say what was decided."""


@dataclass(frozen=True, slots=True)
class Milestones:
    """The times an incident is measured by, in microseconds; None where there is none.

    ``began_us``: since when, as the earliest of its alerts tells it; ``alerted_us``: its first alert; ``acted_us``: the
    first action that really changed something; ``effect_us``: the first action verified, or the first alert resolved
    after ``acted_us``, whichever came first; ``ended_us``: its last alert was over.
    """

    began_us: int | None
    alerted_us: int
    acted_us: int | None
    effect_us: int | None
    ended_us: int | None

    @property
    def origin_us(self) -> int:
        """When it began, as far as that is known: what durations are counted from."""
        return self.alerted_us if self.began_us is None else self.began_us

    def after_s(self, at_us: int | None) -> float | None:
        """Seconds from the beginning to one of these times."""
        return None if at_us is None else (at_us - self.origin_us) / 1e6


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of an incident: from ``start_us``, until ``stop_us``, exclusive."""

    name: PhaseName
    start_us: int
    stop_us: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the timeline. ``ref``: the id of the report, step or change that it stands for."""

    at_us: int
    sort: Sort
    what: str
    who: str
    said: str
    detail: str
    ref: str


def milestones(incident: Incident, now_us: int, terms: Terms | None = None) -> Milestones:
    """Return when an incident began, was noticed, was acted on, and was over."""
    terms = terms or Terms()
    told = [each.began_us for each in incident.causes if each.began_us is not None]
    began_us = min(told) if told else None
    acted_us = min((step.at_us for step in incident.steps if step.in_force), default=None)
    effect_us = None
    if acted_us is not None:
        shown = [step.at_us for step in incident.steps if step.state == "verified" and step.at_us >= acted_us]
        shown += [each.ended_us for each in incident.causes if each.ended_us is not None and each.ended_us >= acted_us]
        effect_us = min(shown, default=None)
    if began_us is not None:
        began_us = min(began_us, incident.started_us)
    return Milestones(began_us, incident.started_us, acted_us, effect_us, incident.ended_us(now_us, terms))


def phases(times: Milestones, now_us: int, around_us: int) -> tuple[Phase, ...]:
    """Cut the time of an incident into phases that follow each other, with ``around_us`` before and after it.

    A phase of no length is left out; an incident that nobody acted on has none that is called so.
    """
    start_us = times.origin_us
    until_us = max(start_us, now_us if times.ended_us is None else times.ended_us)
    alerted_us = min(max(times.alerted_us, start_us), until_us)
    acted_us = until_us if times.acted_us is None else min(max(times.acted_us, alerted_us), until_us)
    after_us = until_us if times.ended_us is None else max(until_us, min(until_us + around_us, now_us))
    cuts: tuple[tuple[PhaseName, int, int], ...] = (
        ("before", start_us - around_us, start_us),
        ("unnoticed", start_us, alerted_us),
        ("noticed", alerted_us, acted_us),
        ("acted on", acted_us, until_us),
        ("after", until_us, after_us),
    )
    return tuple(Phase(name, first_us, stop_us) for name, first_us, stop_us in cuts if first_us < stop_us)


def timeline(
    incident: Incident, reports: Iterable[Report], changes: Iterable[Change], steps: Sequence[Step] = ()
) -> tuple[Entry, ...]:
    """Return everything that is known of an incident in the order in which it happened, each thing once.

    ``steps``: what people put in force meanwhile, beside the steps that answer its alerts. At the same microsecond
    facts come before changes, changes before detections, those before decisions, and those before effects.
    """
    entries = [_began(each.began_us, each.kind, each.alert_id) for each in incident.causes if each.began_us is not None]
    entries += [_report(each) for each in _once(reports)]
    entries += [_step(each) for each in _once([*incident.steps, *steps])]
    entries += [_change(each) for each in {change.change_id: change for change in changes}.values()]
    return tuple(sorted(entries, key=lambda entry: (entry.at_us, _ORDER[entry.sort], entry.ref, entry.what)))


def _once(told: Iterable[Told]) -> list[Told]:
    return list({each.event_id: each for each in told}.values())


def _began(at_us: int, kind: str, alert_id: str) -> Entry:
    return Entry(at_us, "fact", "began", "", f"{kind} began, as the alert told later", "", alert_id)


def _report(report: Report) -> Entry:
    by = report.attributes.get("by", "")
    if by or report.state == "acknowledged":  # a person's word about it
        note, until = report.attributes.get("note", ""), report.attributes.get("until", "")
        detail = "; ".join(part for part in (note, f"until {until}" if until else "") if part)
        return Entry(
            report.at_us, "decision", report.state, by or "a person", report.title or report.kind, detail,
            report.event_id,
        )  # fmt: skip
    return Entry(
        report.at_us, "detection", report.state, report.severity, report.title or report.kind, _figures(report),
        report.event_id,
    )  # fmt: skip


def _figures(report: Report) -> str:
    """What was seen and held against, and the evidence, in one line."""
    unit = report.attributes.get("unit", "")
    about = report.attributes
    seen = about.get("observed") or _number(report.value)
    usual = about.get("expected") or _number(report.threshold)
    parts = [f"observed {seen} {unit}".strip() if seen else "", f"expected {usual} {unit}".strip() if usual else ""]
    parts += [report.detail]
    for name in ("impact", "explained_by", "changed_before", "resolved_because", "e_value", "exemplars"):
        parts.append(f"{name.replace('_', ' ')}: {about[name]}" if about.get(name) else "")
    return "; ".join(part for part in parts if part)


def _step(step: Step) -> Entry:
    what = f"{step.kind} {step.state}" + (" (dry run)" if step.dry_run else "")
    who = f"rule {step.rule}" if step.rule else step.by
    about = ", ".join(step.arms)
    said = " ".join(part for part in (step.feature, f"({about})" if about else "") if part) or step.kind
    moved = ""
    if step.value_before is not None and step.value_after is not None:
        moved = f"; deviation {step.value_before:.4g} before, {step.value_after:.4g} after"
    sort: Sort = "effect" if step.state in _EFFECTS else "decision"
    back = f"; takes back change {step.change}" if step.change else ""
    return Entry(step.at_us, sort, what, who, said, f"{step.reason}{moved}{back}".removeprefix("; "), step.event_id)


def _change(change: Change) -> Entry:
    revision = "" if change.revision is None else f" revision {change.revision}"
    return Entry(
        change.at_us, "change", change.what, change.by, f"{change.subject}{revision}", change.said, change.change_id
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
