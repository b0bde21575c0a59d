"""Incidents: alerts with a common cause, what was done about them, and what came of it. Pure."""

from flywheel.incident.effects import (
    MEASURES,
    Cell,
    Impact,
    Measure,
    PhaseFigures,
    by_phase,
    impact,
    measure_named,
    measure_of,
)
from flywheel.incident.grouping import Incident, State, Terms, group
from flywheel.incident.page import page
from flywheel.incident.records import RANK, Change, Episode, Figures, Report, Step
from flywheel.incident.review import Deed, Review, episode_as_json, incident_as_json, review_as_json
from flywheel.incident.timeline import Entry, Milestones, Phase, milestones, phases, timeline
from flywheel.incident.wording import clock, figure, lasting, moment, visible

__all__ = [
    "MEASURES",
    "RANK",
    "Cell",
    "Change",
    "Deed",
    "Entry",
    "Episode",
    "Figures",
    "Impact",
    "Incident",
    "Measure",
    "Milestones",
    "Phase",
    "PhaseFigures",
    "Report",
    "Review",
    "State",
    "Step",
    "Terms",
    "by_phase",
    "clock",
    "episode_as_json",
    "figure",
    "group",
    "impact",
    "incident_as_json",
    "lasting",
    "measure_named",
    "measure_of",
    "milestones",
    "moment",
    "page",
    "phases",
    "review_as_json",
    "timeline",
    "visible",
]
