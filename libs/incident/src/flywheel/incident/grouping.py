"""Alerts with a common cause are one incident: the same feature at about the same time, or tied by an answer."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from flywheel.events import event_id
from flywheel.incident.records import RANK, Episode, Step

State = Literal["open", "closed", "stale"]
CLOCKS_US: Final = 5_000_000
"""Clocks of two services may differ by so much: an action up to this long before its alert is still an answer to it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """``gap_us``: alerts of a feature at most so far apart belong together. ``lasting_us``: an alert that nobody
    resolved is taken to go on so long after its last report, not for ever."""

    gap_us: int = 900_000_000
    lasting_us: int = 86_400_000_000

    def reach_us(self, episode: Episode) -> int:
        """Until when an episode draws others to it."""
        if episode.ended_us is not None:
            return episode.ended_us
        # About a window (a budget's) or about another alert: said once, never taken back.
        if episode.over_us is not None or episode.cause:
            return episode.last_us
        return episode.last_us + self.lasting_us


@dataclass(frozen=True, slots=True)
class Incident:
    """Episodes with a common cause, the earliest first, and every step of the actions that answer them."""

    incident_id: str
    project: str
    features: tuple[str, ...]
    severity: str
    episodes: tuple[Episode, ...]
    steps: tuple[Step, ...]

    @property
    def started_us(self) -> int:
        """When the first of its alerts fired."""
        return self.episodes[0].started_us

    @property
    def last_us(self) -> int:
        """When it was last heard of: a report or a step."""
        return max([*(each.last_us for each in self.episodes), *(step.at_us for step in self.steps)])

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of its alerts, in the order in which they came."""
        return tuple(dict.fromkeys(each.kind for each in self.episodes))

    @property
    def causes(self) -> tuple[Episode, ...]:
        """Its alerts without those that are about another of its alerts."""
        known = {each.alert_id for each in self.episodes}
        return tuple(each for each in self.episodes if each.cause not in known) or self.episodes

    @property
    def lead(self) -> Episode:
        """The alert it is named by: of the worst severity the first."""
        return max(self.causes, key=lambda each: (RANK.get(each.severity, 0), -each.started_us, each.alert_id))

    def ended_us(self, now_us: int, terms: Terms) -> int | None:
        """When the last of its alerts was over; None while one fires. One that was never resolved counts as over
        ``lasting_us`` after its last report, and then ended when it was last heard of."""
        ends: list[int] = []
        for each in self.causes:
            over_us = each.over_us
            if over_us is None and each.last_us + terms.lasting_us < now_us:
                over_us = each.last_us
            if over_us is None or over_us > now_us:
                return None
            ends.append(over_us)
        return max(ends)

    def state(self, now_us: int, terms: Terms) -> State:
        """``open`` while an alert fires, ``closed`` when all are over, ``stale`` when one was never resolved and has
        not been heard of for ``lasting_us``."""
        if self.ended_us(now_us, terms) is None:
            return "open"
        return "closed" if all(each.over_us is not None for each in self.causes) else "stale"


def group(episodes: Iterable[Episode], steps: Iterable[Step] = (), terms: Terms | None = None) -> tuple[Incident, ...]:
    """Return the incidents of these episodes, the earliest first; each episode is in exactly one.

    Episodes belong together where they are of the same project and feature (without a feature: of the same subject) and
    overlap or are at most ``gap_us`` apart; where one names the other as its cause; where one action answers both. So
    whatever is tied to one of them is in it too. An incident's id is that of its earliest episode: alerts that come
    later do not change it. A step without a cause that is known here is in no incident.
    """
    terms = terms or Terms()
    ordered = sorted(episodes, key=lambda each: (each.started_us, each.project, each.alert_id))
    ties = _Ties(len(ordered))
    _tie_neighbours(ordered, terms, ties)
    known = _Known(ordered)
    for place, episode in enumerate(ordered):
        if episode.cause:
            ties.tie(place, known.at(episode.project, episode.cause, episode.started_us))
    answers: dict[int, list[Step]] = defaultdict(list)
    for step in sorted(steps, key=lambda each: (each.at_us, each.event_id)):
        places = [known.at(step.project, alert_id, step.at_us) for alert_id in step.cause]
        found = [place for place in places if place is not None]
        for place in found[1:]:
            ties.tie(found[0], place)
        if found:
            answers[found[0]].append(step)
    parts: dict[int, list[int]] = defaultdict(list)
    for place in range(len(ordered)):
        parts[ties.root(place)].append(place)
    return tuple(_incident(ordered, places, answers) for _, places in sorted(parts.items()))


def _tie_neighbours(ordered: Sequence[Episode], terms: Terms, ties: _Ties) -> None:
    reached: dict[tuple[str, str, str], tuple[int, int]] = {}
    for place, episode in enumerate(ordered):
        about = (episode.project, episode.feature, "" if episode.feature else episode.subject)
        until_us = terms.reach_us(episode)
        if about in reached:
            before_us, neighbour = reached[about]
            if episode.started_us <= before_us + terms.gap_us:
                ties.tie(place, neighbour)
                until_us = max(until_us, before_us)
        reached[about] = (until_us, place)


def _incident(ordered: Sequence[Episode], places: Sequence[int], answers: dict[int, list[Step]]) -> Incident:
    episodes = tuple(ordered[place] for place in places)
    first = episodes[0]
    steps = sorted((step for place in places for step in answers[place]), key=lambda step: (step.at_us, step.event_id))
    return Incident(
        incident_id=event_id("incident", first.project, first.alert_id, first.started_us),
        project=first.project,
        features=tuple(sorted({each.feature for each in episodes if each.feature})),
        severity=max((each.severity for each in episodes), key=lambda severity: (RANK.get(severity, -1), severity)),
        episodes=episodes,
        steps=tuple(steps),
    )


class _Known:
    """Finds the episode of an alert that somebody meant at a time."""

    def __init__(self, ordered: Sequence[Episode]) -> None:
        self._found: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
        for place, episode in enumerate(ordered):
            starts, places = self._found.setdefault((episode.project, episode.alert_id), ([], []))
            starts.append(episode.started_us)
            places.append(place)

    def at(self, project: str, alert_id: str, at_us: int) -> int | None:
        """The place of the newest episode that had begun by then, else of the first; None where there is none."""
        if (project, alert_id) not in self._found:
            return None
        starts, places = self._found[project, alert_id]
        return places[max(bisect_right(starts, at_us + CLOCKS_US) - 1, 0)]


class _Ties:
    """Sets that are joined (union by the smaller place, paths halved)."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, place: int) -> int:
        parent = self._parent
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    def tie(self, one: int, other: int | None) -> None:
        if other is not None:
            low, high = sorted((self.root(one), self.root(other)))
            self._parent[high] = low
