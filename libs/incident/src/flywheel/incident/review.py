"""Everything that is known of one incident, put together: for the terminal, as JSON, as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.incident.effects import MEASURES, Cell, Impact, Measure, PhaseFigures, impact, measure_of
from flywheel.incident.grouping import Incident, State, Terms
from flywheel.incident.records import Episode, Figures, Step
from flywheel.incident.timeline import Entry, Milestones
from flywheel.incident.wording import moment


@dataclass(frozen=True, slots=True)
class Deed:
    """One action from its first step to its last: what was done, by whom, and what came of it."""

    action_id: str
    kind: str
    who: str
    arms: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def outcome(self) -> str:
        """Its states in order, e.g. ``applied, verified, returned``."""
        return ", ".join(dict.fromkeys(step.state for step in self.steps))

    @property
    def helped(self) -> bool | None:
        """Verified, or undone for want of an effect; None where nobody judged it."""
        states = {step.state for step in self.steps}
        return True if "verified" in states else False if "undone" in states else None


@dataclass(frozen=True, slots=True)
class Review:
    """One incident as it is known at ``now_us``. ``buckets`` are the figures over time, each ``bucket_s`` long."""

    incident: Incident
    times: Milestones
    state: State
    now_us: int
    entries: tuple[Entry, ...]
    phases: tuple[PhaseFigures, ...]
    buckets: tuple[Cell, ...]
    bucket_s: int
    notes: tuple[str, ...] = ()

    @property
    def came_to(self) -> Impact | None:
        """What it cost, where that can be told."""
        return impact(self.phases)

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that have figures of their own, in order of their names; none where there is only one."""
        found = {arm for phase in self.phases for arm in phase.arms} | {
            cell.arm for cell in self.buckets if cell.arm is not None
        }
        return tuple(sorted(found)) if len(found) > 1 else ()

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The measures there is anything to see of: first the one that its lead alert is about, then the others."""
        seen = [phase.whole for phase in self.phases] + [cell.figures for cell in self.buckets]
        lead = measure_of(self.incident.lead.kind)
        told = [lead, *(each for each in MEASURES if each is not lead)]
        return tuple(each for each in told if any(each.read(figures) for figures in seen))

    @property
    def deeds(self) -> tuple[Deed, ...]:
        """The actions that answer it, in the order of their first steps."""
        return deeds(self.incident.steps)


def deeds(steps: Sequence[Step]) -> tuple[Deed, ...]:
    """Put the steps of each action together."""
    found: dict[str, list[Step]] = {}
    for step in steps:
        found.setdefault(step.action_id, []).append(step)
    return tuple(_deed(action_id, together) for action_id, together in found.items())


def _deed(action_id: str, steps: Sequence[Step]) -> Deed:
    first = steps[0]
    who = f"rule {first.rule}" if first.rule else first.by
    return Deed(action_id, first.kind, who, first.arms, tuple(steps))


def incident_as_json(incident: Incident, now_us: int, terms: Terms) -> dict[str, Any]:
    """One incident as ``incident list --json`` tells it; times as RFC 3339."""
    return {
        "incident_id": incident.incident_id,
        "project": incident.project,
        "features": list(incident.features),
        "severity": incident.severity,
        "state": incident.state(now_us, terms),
        "started_at": moment(incident.started_us),
        "ended_at": moment(incident.ended_us(now_us, terms)),
        "last_at": moment(incident.last_us),
        "kinds": list(incident.kinds),
        "title": incident.lead.title,
        "alerts": len(incident.episodes),
        "actions": len({step.action_id for step in incident.steps}),
    }


def episode_as_json(episode: Episode) -> dict[str, Any]:
    """One episode of an alert, with all that it told."""
    return {
        "alert_id": episode.alert_id,
        "project": episode.project,
        "feature": episode.feature,
        "kind": episode.kind,
        "severity": episode.severity,
        "state": "firing" if episode.ended_us is None else "resolved",
        "began_at": moment(episode.began_us),
        "started_at": moment(episode.started_us),
        "last_at": moment(episode.last_us),
        "ended_at": moment(episode.ended_us),
        "window_end": moment(episode.window_end_us),
        "reports": episode.reports,
        "acknowledged_at": moment(episode.acknowledged_us),
        "acknowledged_by": episode.acknowledged_by,
        "acknowledged_until": moment(episode.acknowledged_until_us),
        "note": episode.note,
        "subject": episode.subject,
        "title": episode.title,
        "detail": episode.detail,
        "observed": episode.observed,
        "expected": episode.expected,
        "scope": dict(episode.scope),
        "attributes": dict(episode.attributes),
    }


def review_as_json(review: Review, terms: Terms) -> dict[str, Any]:
    """A whole review, as ``incident show --json`` tells it."""
    times, incident = review.times, review.incident
    stamps = {
        "began": times.began_us, "alerted": times.alerted_us, "acted": times.acted_us, "effect": times.effect_us,
        "ended": times.ended_us,
    }  # fmt: skip
    return {
        **incident_as_json(incident, review.now_us, terms),
        "milestones": {name: {"at": moment(at_us), "after_s": times.after_s(at_us)} for name, at_us in stamps.items()},
        "impact": _impact(review.came_to),
        "phases": [
            {
                "phase": each.phase.name,
                "from": moment(each.phase.start_us),
                "to": moment(each.phase.stop_us),
                **_figures(each.whole),
                "arms": {arm: _figures(figures) for arm, figures in each.arms.items()},
            }
            for each in review.phases
        ],
        "episodes": [episode_as_json(each) for each in incident.episodes],
        "deeds": [
            {
                "action_id": each.action_id, "kind": each.kind, "who": each.who, "arms": list(each.arms),
                "states": [step.state for step in each.steps], "helped": each.helped,
            }
            for each in review.deeds
        ],
        "timeline": [
            {
                "at": moment(each.at_us), "sort": each.sort, "what": each.what, "who": each.who, "said": each.said,
                "detail": each.detail, "ref": each.ref,
            }
            for each in review.entries
        ],
        "bucket_s": review.bucket_s,
        "buckets": [
            {"at": moment(cell.start_us), "arm": cell.arm, **_figures(cell.figures)} for cell in review.buckets
        ],
        "notes": list(review.notes),
    }  # fmt: skip


def _figures(of: Figures) -> dict[str, Any]:
    return {
        "calls": of.calls, "errors": of.errors, "refused": of.refused, "priced": of.priced,
        "cost_usd": None if of.cost_usd is None else f"{of.cost_usd:f}", "error_rate": of.error_rate,
        "refusal_rate": of.refusal_rate, "cost_per_call_usd": of.cost_per_call, "latency_p50_ms": of.p50_ms,
        "latency_p95_ms": of.p95_ms, "outcomes": of.rewarded, "mean_reward": of.reward, "mean_quality": of.quality,
    }  # fmt: skip


def _impact(of: Impact | None) -> dict[str, Any] | None:
    if of is None:
        return None
    return {
        "calls": of.calls, "extra_errors": of.extra_errors, "extra_refusals": of.extra_refusals,
        "extra_cost_usd": None if of.extra_cost_usd is None else f"{of.extra_cost_usd:.12f}",
        "lost_reward": of.lost_reward,
    }  # fmt: skip
