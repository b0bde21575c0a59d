"""Finding the incidents that are recorded, and putting together everything that is known of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flywheel.cli import incident_rows as rows
from flywheel.cli.incident_rows import Ask
from flywheel.incident import Incident, Review, Terms, by_phase, group, milestones, phases, timeline

LEAST_AROUND_US: Final = 1_800_000_000
MOST_AROUND_US: Final = 21_600_000_000


class NotOne(RuntimeError):
    """An id that belongs to no incident, or to several."""


@dataclass(frozen=True, slots=True)
class Found:
    """Incidents, the earliest first; ``cut``: more alerts than were looked at, so the oldest are not whole."""

    incidents: tuple[Incident, ...]
    cut: bool


def incidents(ask: Ask, terms: Terms, *, project: str | None = None) -> Found:
    """Every incident that the newest 50,000 episodes of alerts make up."""
    told = rows.episodes(ask, project=project)
    return Found(group(told, rows.answering_steps(ask, project=project), terms), len(told) == rows.MOST)


def the_one(found: Sequence[Incident], name: str) -> Incident:
    """The incident that an id means: its own, or one of its alerts' or actions' (then the newest). The beginning
    of an id will do.

    Raises:
        NotOne: there is none, or the first characters fit several.
    """
    fitting = [each for each in found if each.incident_id.startswith(name)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise NotOne(f"{name} is the beginning of {len(fitting)} incidents; give more of it")
    inside = [each for each in found if any(one.startswith(name) for one in _names(each))]
    if not inside:
        raise NotOne(
            f"{name} is neither an incident nor an alert or action in one; see flywheel incident list"
            " (with another --gap incidents have other ids)"
        )
    return max(inside, key=lambda each: each.last_us)


def _names(incident: Incident) -> set[str]:
    return {each.alert_id for each in incident.episodes} | {step.action_id for step in incident.steps}


def review(ask: Ask, incident: Incident, *, now_us: int, terms: Terms, around_us: int | None = None) -> Review:
    """Ask for everything that is known of an incident, with ``around_us`` before it and after it; None: as long as it
    lasted, but at least half an hour and at most six hours."""
    incident = rows.whole(ask, incident)
    times = milestones(incident, now_us, terms)
    if around_us is None:
        lasted_us = (now_us if times.ended_us is None else times.ended_us) - times.origin_us
        around_us = min(max(lasted_us, LEAST_AROUND_US), MOST_AROUND_US)
    cuts = phases(times, now_us, around_us)
    period = cuts[0].start_us, max(cuts[-1].stop_us, incident.last_us + 1)
    seconds = rows.bucket_s(cuts[0].start_us, cuts[-1].stop_us)
    told = rows.reports(ask, incident)
    changed = [*rows.changes(ask, incident, period), *rows.versions(ask, incident, period)]
    notes = [f"Only the first {rows.MOST_REPORTS:,} reports are told."] if len(told) == rows.MOST_REPORTS else []
    return Review(
        incident=incident,
        times=times,
        state=incident.state(now_us, terms),
        now_us=now_us,
        entries=timeline(incident, told, changed, rows.other_steps(ask, incident, period)),
        phases=by_phase(cuts, rows.by_phase_and_arm(ask, incident, cuts)),
        buckets=tuple(rows.by_bucket(ask, incident, (cuts[0].start_us, cuts[-1].stop_us), seconds)),
        bucket_s=seconds,
        notes=tuple(notes),
    )
