"""Stage 1: joins the facts of a shard into outcomes and keeps what they teach.

State tables of a shard: ``requests`` (an entry per open request), ``closing``, ``leaving`` and ``parting`` (when to
look at it again), ``learned`` (sums per feature), ``charters`` (revisions per feature) and ``shard`` (event time per
topic). After any batch the state is a function of the topics' logs as far as they were read, the charters known and
the event time reached, however the topics are interleaved and cut into batches, as long as they are read within
``skew_s`` of event time of one another: an entry is let go when every topic has passed the time until which its parts
count. A window that closes too early because a topic lagged is harmless: late parts correct the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from flywheel.stream import Event, Fatal, FoldResult, Output, Reject, Skip, StateView
from flywheel_bandit.core.charters import CharterBook, History, Terms, decode_rows, encode_rows, feature_key, history
from flywheel_bandit.core.intake import INPUTS, SEPARATOR, take
from flywheel_bandit.core.join import DECISION, NEVER, Entry, Part, Timer, tell
from flywheel_bandit.core.learned import Learned

OUTCOMES_TOPIC = "llm-outcomes"
SUMMARIES_TOPIC = "arm-summaries"
FORM = 2
"""Of the bytes in the tables; another number is another meaning."""
_OTHER_FORM = "move the state's folder aside, it is rebuilt from the log"
CLOSING, LEAVING, PARTING = "closing", "leaving", "parting"
"""Tables of timers: a window closes; a request is let go; it is let go and parts that came later remain."""


@dataclass(frozen=True, slots=True)
class JoinSettings:
    """How long stage 1 waits, in seconds of event time.

    ``idle_s``: a topic this far behind the others no longer holds windows open. ``grace_s``: how long after its window
    parts of a request still count, and how late a decision may come, besides its window; ``skew_s``: how much longer a
    request is kept while a topic lags or is idle. ``unclaimed_s``: how long parts wait for a decision, and decisions
    for a charter. ``max_future_s``: how far an event may lie ahead of the time of its Kafka record.
    """

    idle_s: float = 300.0
    grace_s: float = 3_600.0
    skew_s: float = 86_400.0
    unclaimed_s: float = 86_400.0
    max_future_s: float = 3_600.0


class OutcomeFold:
    """The fold of stage 1. ``book`` returns the charters known now; the fold keeps nothing between batches."""

    def __init__(self, book: Callable[[], CharterBook], settings: JoinSettings | None = None) -> None:
        self._book = book
        self._settings = settings or JoinSettings()

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
        """Join a batch; see ``flywheel.stream.Fold``."""
        verdicts: dict[int, Skip | Reject] = {}
        batch = _Batch(shard, state, self._settings)
        by_request = batch.sort(events, verdicts)
        batch.follow_charters(self._book())
        batch.add(by_request, verdicts)
        batch.fire_timers()
        return FoldResult(batch.finish(), verdicts)


@dataclass(slots=True)
class _Feature:
    """A feature met in a batch. ``learned`` is read when something is to be added to it, and then written back."""

    project: str
    name: str
    key: str
    history: History | None
    learned: Learned | None = None


Arrived = tuple[int, int, Part]
Plan = tuple[list[tuple[_Feature, Terms, bool]], Timer]


class _Batch:
    """One batch over one shard: what was read from the state, what changed, what is to be sent."""

    def __init__(self, shard: int, state: StateView, settings: JoinSettings) -> None:
        self._shard, self._state = shard, state
        self._idle_us = int(settings.idle_s * 1e6)
        self._skew_us = int(settings.skew_s * 1e6)
        self._grace_us = int(settings.grace_s * 1e6)
        self._unclaimed_us = int(settings.unclaimed_s * 1e6)
        self._max_future_us = int(settings.max_future_s * 1e6)
        stored = state.get("shard", "times")
        form, *times = orjson.loads(stored) if stored is not None else [FORM] + [0] * len(INPUTS)
        self._times: list[int] = times
        if form != FORM:
            raise Fatal(f"shard {shard} has a state of form {form}, this version reads {FORM}: {_OTHER_FORM}")
        self._clock_us = _slowest(self._times, self._idle_us)
        self._leave_us = _slowest(self._times, self._skew_us)
        self._outputs: list[Output] = []
        self._features: dict[str, _Feature] = {}

    def sort(self, events: Sequence[Event], verdicts: dict[int, Skip | Reject]) -> dict[str, list[Arrived]]:
        """Sort the usable events by request, and move the shard's event time on."""
        by_request: dict[str, list[Arrived]] = {}
        times = self._times
        max_future_us = self._max_future_us
        for index, event in enumerate(events):
            taken = take(event, max_future_us)
            if not isinstance(taken, tuple):
                verdicts[index] = taken
                continue
            request, topic, kind, part = taken
            times[topic] = max(times[topic], part[0])
            part.append(times[topic] - part[0])
            group = by_request.get(request)
            if group is None:
                by_request[request] = [(index, kind, part)]
            else:
                group.append((index, kind, part))
        self._clock_us = _slowest(times, self._idle_us)
        self._leave_us = _slowest(times, self._skew_us)
        return by_request

    def follow_charters(self, book: CharterBook) -> None:
        """Take over charters read since the last batch, and judge the open requests they apply to again."""
        seen = self._state.get("shard", "charters")
        if seen is not None and seen.decode() == book.fingerprint:
            return
        self._state.put("shard", "charters", book.fingerprint.encode())
        changed = set()
        for key, rows in sorted(book.rows.items()):
            stored = self._state.get("charters", key)
            merged = encode_rows([*decode_rows(stored), *rows])
            if merged != stored:
                self._state.put("charters", key, merged)
                changed.add(key)
        if changed:
            self._judge_again(changed)

    def _judge_again(self, changed: set[str]) -> None:
        for key in sorted(changed):
            project, _, name = key.partition("/")
            feature = self._feature(project, name)
            if feature.history is not None and self._state.get("learned", key) is not None:
                self._learned(feature).forget_others(feature.history)
        for request, data in list(self._state.scan("requests")):
            entry = Entry.decode(data)
            project = _project_of(request)
            if any(feature_key(project, name) in changed for name, _, _ in entry.decided()):
                self._settle(request, entry)
                self._look(request, entry)

    def add(self, by_request: dict[str, list[Arrived]], verdicts: dict[int, Skip | Reject]) -> None:
        """Add the parts to their requests and tell what can be told."""
        stored = self._state.get_many("requests", by_request)
        for request, group in by_request.items():
            data = stored.get(request)
            entry = Entry.empty() if data is None else Entry.decode(data)
            changed = decided = False
            for index, kind, part in group:
                late = kind == DECISION and part[-1] and self._too_late(request, part)
                reason = "too_late" if late else entry.add(kind, part)
                if reason is None:
                    changed = True
                    decided = decided or kind == DECISION
                else:
                    verdicts[index] = Skip(reason)
            if decided:
                self._settle(request, entry)
            if changed:
                self._look(request, entry)

    def fire_timers(self) -> None:
        """Look again at the requests whose window has closed, then let go those whose parts no longer count."""
        stop = _timer_key(self._clock_us, "")
        while due := [_request_of(key) for key, _ in self._state.scan(CLOSING, "", stop, 10_000)]:
            stored = self._state.get_many("requests", due)
            for request in due:
                self._look(request, Entry.decode(stored[request]))
        stop = _timer_key(self._leave_us, "")
        while due := [_request_of(key) for key, _ in self._state.scan(PARTING, "", stop, 10_000)]:
            stored = self._state.get_many("requests", due)
            for request in due:
                self._part(request, Entry.decode(stored[request]))
        # What a request taught stays in the sums.
        for key, _ in list(self._state.scan(LEAVING, "", stop)):
            self._state.delete(LEAVING, key)
            self._state.delete("requests", _request_of(key))

    def _part(self, request: str, entry: Entry) -> None:
        """Let a request go; its late parts begin anew."""
        self._state.delete(entry.timer[0], _timer_key(entry.timer[1], request))
        remaining = entry.afterlife()
        self._settle(request, remaining)
        self._look(request, remaining)

    def _too_late(self, request: str, decision: Part) -> bool:
        """Whether a decision came so late that its request would have been let go: told again it would count twice."""
        found = self._feature(_project_of(request), decision[2])
        if found.history is None:
            return False
        return bool(decision[0] + decision[-1] > self._ends_us(decision, found.history))

    def _ends_us(self, decision: Part, known: History) -> int:
        """Until when parts of a request count by one of its decisions: its window and the grace."""
        return int(decision[0] + known.at(decision[0]).window_us + self._grace_us)

    def _settle(self, request: str, entry: Entry) -> None:
        """Set from when until when parts of a request count: by its first decision, and by those that came while they
        counted themselves."""
        decisions = entry.parts[DECISION]
        if entry.late is not None:
            decisions = decisions + entry.late[DECISION]
        if len(decisions) > 1:
            decisions = sorted(decisions, key=lambda part: (part[0] + part[-1], part[0], part[1]))
        project = _project_of(request)
        since_us = until_us = 0
        for part in decisions:
            known = self._feature(project, part[2]).history
            if known is None:
                continue
            came_us = part[0] + part[-1]
            ends_us = self._ends_us(part, known)
            if not until_us:
                since_us, until_us = max(1, came_us - self._unclaimed_us), max(came_us, ends_us)
            elif came_us <= until_us:
                until_us = max(until_us, ends_us)
        entry.settle(since_us, until_us)

    def _look(self, request: str, entry: Entry) -> None:
        """Tell what can be told of a request now, and set when to look again."""
        judged, timer = self._plan(request, entry)
        for feature, terms, closed in judged:
            story = tell(entry, terms, feature=feature.name, closed=closed)
            if story is None:
                continue
            old = entry.told_of(feature.name)
            if story.told.waiting and old is not None and not old.waiting:
                continue  # told under an older charter, as it stays until this one can tell it
            if old is None or old.revision != story.told.revision:
                self._learned(feature).replace(old, story)
                entry.tell(story.told)
                if story.told.waiting:
                    continue
                request_id = request[len(feature.project) + len(SEPARATOR) :]
                # The sum of a decision's facts, except where nothing can have been told: then 1, which costs a reader
                # of the newest nothing.
                first = old is None or old.waiting
                revision = 1 if first and not self._state.catching_up else story.correction
                outcome = story.outcome(feature.project, request_id, revision=revision)
                self._outputs.append(Output(OUTCOMES_TOPIC, request_id, "outcome", outcome))
        if timer != entry.timer:
            if entry.timer != NEVER:
                self._state.delete(entry.timer[0], _timer_key(entry.timer[1], request))
            entry.timer = timer
            self._state.put(timer[0], _timer_key(timer[1], request), b"")
        self._state.put("requests", request, entry.encode())

    def _plan(self, request: str, entry: Entry) -> Plan:
        """Return each decided feature with its terms and whether its window has closed, and when to look again.

        That is when the next window closes, else when to let the request go.
        """
        judged: list[tuple[_Feature, Terms, bool]] = []
        project = _project_of(request)
        leaves_us, closes_us = entry.until_us, 0
        for name, first_us, last_us in entry.decided():
            feature = self._feature(project, name)
            if feature.history is None:
                leaves_us = max(leaves_us, entry.newest_us() + self._unclaimed_us)
                continue
            terms = feature.history.at(last_us)
            end_us = first_us + terms.window_us
            closed = self._clock_us > end_us
            judged.append((feature, terms, closed))
            if not closed and (not closes_us or end_us < closes_us):
                closes_us = end_us
        if closes_us:
            return judged, (CLOSING, closes_us)
        if not leaves_us:
            leaves_us = entry.newest_us() + self._unclaimed_us
        return judged, (LEAVING if entry.late is None else PARTING, leaves_us)

    def finish(self) -> list[Output]:
        """Write what changed and return what is to be sent: outcomes, then a summary per feature that changed."""
        self._state.put("shard", "times", orjson.dumps((FORM, *self._times)))
        for key in sorted(self._features):
            feature = self._features[key]
            if feature.learned is None:
                continue
            self._state.put("learned", key, feature.learned.encode())
            if feature.history is not None:
                value = feature.learned.event(feature.project, feature.name, self._shard, feature.history)
                name = f"{key}/{self._shard}"
                self._outputs.append(Output(SUMMARIES_TOPIC, name, "arm_summary", value, partition_key=key))
        return self._outputs

    def _feature(self, project: str, name: str) -> _Feature:
        key = feature_key(project, name)
        found = self._features.get(key)
        if found is None:
            known = history(decode_rows(self._state.get("charters", key)))
            found = self._features[key] = _Feature(project, name, key, known)
        return found

    def _learned(self, feature: _Feature) -> Learned:
        if feature.learned is None:
            feature.learned = Learned.decode(self._state.get("learned", feature.key))
        return feature.learned


def _slowest(times: Sequence[int], tolerance_us: int) -> int:
    """Return the event time reached: the slowest topic's, but at most ``tolerance_us`` behind the fastest."""
    newest = max(times)
    return min(max(time, newest - tolerance_us) for time in times)


def _timer_key(due_us: int, request: str) -> str:
    """Return a key that sorts by time."""
    return f"{due_us:016x}{request}"


def _request_of(timer_key: str) -> str:
    return timer_key[16:]


def _project_of(request: str) -> str:
    return request[: request.index(SEPARATOR)]
