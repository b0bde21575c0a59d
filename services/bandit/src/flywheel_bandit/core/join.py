"""A request and its parts: a set that grows, and what can be told of it.

An entry holds every distinct part by event id, so duplicates do nothing and the order of arrival leaves no trace:
the same facts give the same bytes. Everything told of a request is a function of its entry, the charter and whether
its window closed.

What counts must not depend on when an entry happened to be let go, which is a matter of batches. So each part carries
when it came, as its topic's own event time just after it (a function of the log), and an entry says from when until
when parts count. One that came later is kept apart: it is what there would be had the entry been let go before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from flywheel.events import event_id
from flywheel.policy import Composition, compose, unit_of
from flywheel.policy.bounds import uses_of
from flywheel.policy.moments import outcome_vector
from flywheel.policy.proxies import pair_vectors
from flywheel_bandit.core.charters import Terms

MAX_PARTS = 512
"""Parts of one kind kept for a request; more are refused, so that no request can fill the state."""

DECISION, CALL, QUALITY = 0, 1, 2
FAILED = ("ERROR", "TIMEOUT")
Timer = tuple[str, int]
NEVER: Timer = ("", 0)
Part = list[Any]
"""[occurred_at, event_id, feature, …, lateness]; the rest by kind, see ``decision_part``, ``call_part`` and
``quality_part``. The part came at occurred_at + lateness, in event time of its topic (microseconds)."""
Parts = tuple[list[Part], list[Part], list[Part]]
_PLAIN_DECISION = 13
"""Length of a decision's part without features, the lateness included."""
_PLAIN_CALL = 9
"""Length of a call's part without the tokens of its answer, the lateness included."""


class Told(NamedTuple):
    """What a request contributes to its feature's summary. ``reward_nano`` is null where nothing is learned from it;
    ``outcome`` is the vector that it adds to the sums with features, of ``moments_key``; ``pairs`` are those that it
    adds to the sums of a score and what it stands for, with their key; ``uses`` is what it used of each measure of
    ``uses_key``, null before there is a call. ``waiting``: nothing else is told yet."""

    feature: str
    revision: int
    reward_key: str
    unit: int
    arm: str
    reward_nano: int | None
    moments_key: str | None = None
    outcome: list[int] | None = None
    pairs: Sequence[tuple[str, list[int]]] = ()
    uses_key: str = ""
    uses: Sequence[int | None] | None = None
    waiting: bool = False


class Entry:
    """The parts of one request that count, sorted by time and id, what was told of it, sorted by feature, and when to
    look at it again: the timer's table and time.

    ``since_us`` and ``until_us``: parts that came then count, once a decision under a known charter has said so (0
    before). ``late``: parts that came after.
    """

    __slots__ = ("late", "parts", "since_us", "timer", "told", "until_us")

    def __init__(
        self, parts: Parts, late: Parts | None, span: Sequence[int], told: list[list[Any]], timer: Timer
    ) -> None:
        self.parts = parts
        self.late = late
        self.since_us, self.until_us = span
        self.told = told
        self.timer = timer

    @classmethod
    def empty(cls) -> Entry:
        """Return the entry of a request nothing is known of."""
        return cls(([], [], []), None, (0, 0), [], NEVER)

    @classmethod
    def decode(cls, data: bytes) -> Entry:
        """Return the entry that ``encode`` wrote."""
        decisions, calls, quality, late, span, told, timer = orjson.loads(data)
        return cls((decisions, calls, quality), late, span, told, (timer[0], timer[1]))

    def encode(self) -> bytes:
        """Return canonical bytes."""
        return orjson.dumps((*self.parts, self.late, (self.since_us, self.until_us), self.told, self.timer))

    def add(self, kind: int, part: Part) -> str | None:
        """Add a part; return why it changed nothing (``duplicate``, ``too_many_parts``, ``unclaimed``), or None."""
        if not self.until_us:
            return _keep(self.parts[kind], part)
        came_us = part[0] + part[-1]
        if came_us > self.until_us:
            if self.late is None:
                self.late = ([], [], [])
            return _keep(self.late[kind], part)
        if came_us < self.since_us:
            return "unclaimed"
        known = self.parts[kind]
        if known:
            return _insert(known, part)
        known.append(part)
        return None

    def settle(self, since_us: int, until_us: int) -> None:
        """Say from when until when parts count, and sort those that are there by it."""
        if until_us == self.until_us and since_us == self.since_us:
            return
        self.since_us, self.until_us = since_us, until_us
        if self.late is None and self._all_count_once():
            return
        there = [*self.all_parts()]
        self.parts, self.late = ([], [], []), None
        for kind, part in there:
            self.add(kind, part)

    def _all_count_once(self) -> bool:
        since_us, until_us = self.since_us, self.until_us
        for parts in self.parts:
            if len(parts) > 1 and len({part[1] for part in parts}) < len(parts):
                return False
            for part in parts:
                if not since_us <= part[0] + part[-1] <= until_us:
                    return False
        return True

    def all_parts(self) -> Iterator[tuple[int, Part]]:
        """Every part with its kind, the late ones last."""
        for some in (self.parts, self.late or ()):
            for kind, parts in enumerate(some):
                for part in parts:
                    yield kind, part

    def afterlife(self) -> Entry:
        """Return the entry there would be had this one been let go before its late parts came."""
        entry = Entry.empty()
        for kind, parts in enumerate(self.late or ()):
            for part in parts:
                entry.add(kind, part)
        return entry

    def decided(self) -> list[tuple[str, int, int]]:
        """Return each decided feature with the times of its first decision, where its attribution window starts, and
        of its newest, which says what charter applies.
        """
        decisions = self.parts[DECISION]
        if len(decisions) == 1:
            only = decisions[0]
            return [(only[2], only[0], only[0])]
        times: dict[str, list[int]] = {}
        for part in decisions:
            times.setdefault(part[2], []).append(part[0])
        return [(feature, min(times[feature]), max(times[feature])) for feature in sorted(times)]

    def newest_us(self) -> int:
        """When the last part came."""
        return int(max(part[0] + part[-1] for parts in self.parts for part in parts))

    def told_of(self, feature: str) -> Told | None:
        """Return what was told before."""
        for told in self.told:
            if told[0] == feature:
                return Told(*told)
        return None

    def tell(self, told: Told) -> None:
        """Remember what was told."""
        others = [other for other in self.told if other[0] != told.feature]
        mine = list(told)
        self.told = sorted([*others, mine]) if others else [mine]


def _keep(known: list[Part], part: Part) -> str | None:
    """Add a part of which it is open whether it will count: then each time it came matters, as the first may be too
    early to count, or all but the first too late."""
    if known:
        if part in known:
            return "duplicate"
        if len(known) >= MAX_PARTS:
            return "too_many_parts"
    known.append(part)
    if len(known) > 1:
        known.sort(key=lambda part: (part[0], part[1], part[-1], orjson.dumps(part)))
    return None


def _insert(known: list[Part], part: Part) -> str | None:
    for index, other in enumerate(known):
        if other[1] == part[1]:
            if other == part or _precedence(other) < _precedence(part):
                return "duplicate"
            known[index] = part
            known.sort(key=_by_time)
            return None
    if len(known) >= MAX_PARTS:
        return "too_many_parts"
    known.append(part)
    known.sort(key=_by_time)
    return None


def _precedence(part: Part) -> tuple[int, bytes]:
    """Of two facts with one id the one that came first is kept, in whichever order they are met."""
    return part[0] + part[-1], orjson.dumps(part)


def _by_time(part: Part) -> tuple[int, str]:
    return part[0], part[1]


def decision_part(value: dict[str, Any]) -> Part:
    """Return what is kept of a ``decision`` event; of one by a linear kind also the encoding and the features."""
    part: Part = [
        value["occurred_at"], value["event_id"], value["feature"], value["arm"], value["propensity"],
        value["policy_version"], value["fallback"], value["model"],
        value["environment"], value["app"], value["team"], value["user_hash"],
    ]  # fmt: skip
    if value["encoding"] is not None:
        part += (value["encoding"], value["features"])
    return part


def call_part(value: dict[str, Any]) -> Part:
    """Return what is kept of an ``llm_call`` event; money as text. The tokens of its answer are last, where known."""
    cost = value["cost_usd"]
    part: Part = [
        value["occurred_at"], value["event_id"], value["feature"], value["status"],
        None if cost is None else str(cost), value["latency_ms"],
        value["response_model"] or value["request_model"], value["decision_id"],
    ]  # fmt: skip
    if value["output_tokens"] is not None:
        part.append(value["output_tokens"])
    return part


def quality_part(value: dict[str, Any], name: str, score: float) -> Part:
    """Return what is kept of a ``feedback`` or ``evaluation`` event."""
    return [value["occurred_at"], value["event_id"], value["feature"], name, score]


def tell(entry: Entry, terms: Terms, *, feature: str, closed: bool) -> Story | None:
    """Return what can be told of a request now, None while it waits for parts.

    Where what it used has a price, that is told while it still waits for its quality: a price that comes as late as
    people's feedback would keep no bound.
    """
    decisions, calls, quality = _of_feature(entry, feature)
    counted = terms.priced and bool(calls)
    if not counted and not closed and _waits(terms, calls, quality):
        return None
    scores = {part[3]: part[4] for part in quality}
    attempts = [(part[3], None if part[4] is None else Decimal(part[4]), part[5]) for part in calls]
    composed = compose(terms.rule, scores, attempts, closed=closed)
    if not composed.ready and not counted:
        return None
    decision = decisions[0] if len(decisions) == 1 else _served(decisions, calls)
    timed_out = closed and (bool(composed.missing) or not calls)
    # Grows with every fact, with the closing of the window and with the charter, whatever the order they came in.
    revision = 2 * (len(decisions) + len(calls) + len(quality)) + timed_out + terms.revision
    known = decision[3] in terms.arms
    learned = composed.reward_nano if known else None
    used = uses_of(terms.measures, composed, scores) if calls and known else None
    told = Told(
        feature, revision, terms.reward_key, unit_of(decision[0]), decision[3], learned, None, None, (),
        terms.uses_key, used, not composed.ready,
    )  # fmt: skip
    if terms.moments_key is not None and composed.reward is not None and learned is not None:
        told = _with_features(told, terms, decision, composed.reward)
    lengths = terms.charter.policy.diversity > 0
    if (terms.pairs or lengths) and known and composed.ready:
        tokens = next((call[_PLAIN_CALL - 1] for call in reversed(calls) if len(call) > _PLAIN_CALL), None)
        told = told._replace(pairs=pair_vectors(terms.pairs, scores, tokens, lengths=lengths))
    newest_us: int = decisions[-1][0]  # every list is sorted by time
    if calls and calls[-1][0] > newest_us:
        newest_us = calls[-1][0]
    if quality and quality[-1][0] > newest_us:
        newest_us = quality[-1][0]
    return Story(told, decision, calls, quality, composed, timed_out, decisions, terms.revision, newest_us)


def _with_features(told: Told, terms: Terms, decision: Part, reward: float) -> Told:
    """Return what is told with what it teaches of its context, where the decision saw it as the charter declares it."""
    if len(decision) <= _PLAIN_DECISION:
        return told
    encoding, features = decision[_PLAIN_DECISION - 1 : _PLAIN_DECISION + 1]
    # The digest is what a client says; what would not fit the sums must not reach them.
    if encoding != terms.charter.policy.encoding or len(features) != terms.slots:
        return told
    outcome = outcome_vector(features, reward, (terms.rule.low, terms.rule.high))
    return told._replace(moments_key=terms.moments_key, outcome=outcome.tolist())


def _waits(terms: Terms, calls: list[Part], quality: list[Part]) -> bool:
    """Whether it is plain without adding anything up that parts are still waited for."""
    if not calls:
        return True
    return terms.rule.wait and len(quality) < len(terms.rule.quality) and all(call[3] not in FAILED for call in calls)


def _of_feature(entry: Entry, feature: str) -> tuple[list[Part], list[Part], list[Part]]:
    """Return the parts that concern a feature: those that name it, and calls and quality that name none."""
    decisions, calls, quality = entry.parts
    if len(decisions) > 1:
        decisions = [part for part in decisions if part[2] == feature]
    return decisions, _concerning(feature, calls), _concerning(feature, quality)


def _concerning(feature: str, parts: list[Part]) -> list[Part]:
    for part in parts:
        if part[2] != feature and part[2] is not None:
            return [other for other in parts if other[2] == feature or other[2] is None]
    return parts


def _served(decisions: list[Part], calls: list[Part]) -> Part:
    """Return the decision that took effect: the one the newest call refers to, else the newest."""
    if len(decisions) > 1:
        by_id = {part[1]: part for part in decisions}
        for call in reversed(calls):
            if call[7] in by_id:
                return by_id[call[7]]
    return decisions[-1]


class Story(NamedTuple):
    """Told, with what the ``outcome`` event needs besides. ``completed_at_us``: time of the newest part."""

    told: Told
    decision: Part
    calls: list[Part]
    quality: list[Part]
    composed: Composition
    timed_out: bool
    decisions: list[Part]
    charter_revision: int
    completed_at_us: int

    @property
    def newest_unit(self) -> int:
        """Unit of time of the newest decision."""
        return unit_of(self.decisions[-1][0])

    @property
    def correction(self) -> int:
        """Revision of the outcome where something was told before: larger with every fact, small, above 1."""
        return self.told.revision - self.charter_revision + min(self.charter_revision, 64)

    def outcome(self, project: str, request_id: str, *, revision: int) -> dict[str, Any]:
        """Return the ``outcome`` event. Its id is a hash of its revision and the facts in it."""
        told, decision, calls, quality, composed, timed_out, decisions, _, completed_at_us = self
        facts = "/".join([part[1] for parts in (decisions, calls, quality) for part in parts])
        waiting = not timed_out and (composed.missing or not calls)
        return {
            "event_id": event_id("outcome", f"{revision}/{told.revision}/{facts}"),
            "project": project,
            "request_id": request_id,
            "occurred_at": decision[0],
            "environment": decision[8],
            "app": decision[9],
            "feature": decision[2],
            "team": decision[10],
            "user_hash": decision[11],
            "decision_id": decision[1],
            "policy_version": decision[5],
            "arm": decision[3],
            "propensity": decision[4],
            "fallback": decision[6],
            "model": _model(calls) or decision[7],
            "reward": composed.reward,
            "quality": composed.quality,
            "cost_usd": composed.cost_usd,
            "latency_ms": composed.latency_ms,
            "parts": composed.parts,
            "missing": list(composed.missing),
            "status": "timed_out" if timed_out else "waiting" if waiting else "complete",
            "calls": len(calls),
            "errors": sum([part[3] in FAILED for part in calls]),
            "revision": revision,
            "completed_at": completed_at_us,
        }


def _model(calls: list[Part]) -> str | None:
    """Return the model of the newest call that worked, else of the newest."""
    for call in reversed(calls):
        if call[3] not in FAILED:
            return str(call[6])
    return str(calls[-1][6]) if calls else None
