"""One series: its detector, how it is kept, and whether it is off its level.

The detector is libs/detect's `LevelDetector`. Its whole state is large and changes little with one observation, so it
is stored once per 64 observations (a mark) and the observations since (the tail) beside it: read again, they give the
same state. Two marks are kept, so that one lies before most changes. To that one a series goes back when it is found
off its level, and what comes then is not learned: once it is over, the old level is still known.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Final, NamedTuple

import orjson

from flywheel.detect import BoundDetector, LevelDetector
from flywheel.detect.alarms import Alarm
from flywheel.stream import StateView
from flywheel_detector.core.guarded import Guarded, Seen
from flywheel_detector.core.guardrails import Guardrail
from flywheel_detector.core.measures import Measure
from flywheel_detector.core.mix import Mix
from flywheel_detector.core.off_level import Off

MARK_EVERY: Final = 64
MARKS: Final = 2
RECENT: Final = 16
"""Observations remembered for exemplars and for the spread."""


@dataclass(slots=True)
class Series:
    """One series of a shard. ``seq``: observations its detector knows; ``taken``: all there were; ``lately``: mean of
    about the last 16 figures; ``stored``: its head as it lies in the state, None once it is ahead of that; ``guarded``:
    the bounds it is held to, by label; ``mix``: of a score, which kinds of requests had which; ``tail``: where the
    observations since the newest mark lie."""

    key: str
    measure: Measure
    levels: LevelDetector
    seq: int = 0
    taken: int = 0
    last_us: int = 0
    lately: float = 0.0
    off: Off | None = None
    recent: list[Seen] = field(default_factory=list)
    marks: list[list[int]] = field(default_factory=list)
    stored: bytes | None = None
    guarded: dict[str, Guarded] = field(default_factory=dict)
    mix: Mix = field(default_factory=Mix)
    tail: list[str] = field(default_factory=list)

    def watch(self, state: StateView, start_us: int, seen: list[Seen], run_length: float) -> Alarm | None:
        """Take in a window's observations, in order of time; the alarm, where they bring one to tell of."""
        self.stored = None
        self.last_us = max(self.last_us, seen[-1].at_us)
        figures = [self.measure.watched(each.value) for each in seen]
        for figure in figures:
            self.taken += 1
            self.lately += (figure - self.lately) / min(self.taken, RECENT)
        self.mix.add(start_us, seen)
        if self.off is not None:
            self.off.add(start_us, figures)
            if self.off.keeps:
                self._remember(seen)
                return None
        found, learned = self._learn(seen, figures, run_length)
        self._remember(seen[:learned])
        self.seq += learned
        times = [each.at_us for each in seen[:learned]]
        self.tail.append(self._at(self.seq))
        state.put("tails", self.tail[-1], orjson.dumps([run_length, list(zip(times, figures, strict=False))]))
        if found is not None:
            self._begin(state, found, start_us, seen[learned:])
        elif self.seq - (self.marks[-1][0] if self.marks else 0) >= MARK_EVERY:
            self._mark(state)
        return found

    def hold_to(self, rails: Sequence[Guardrail], start_us: int, seen: Sequence[Seen], run_length: float) -> list[str]:
        """Hold a window's observations, after `watch` took them, to the declared bounds; labels of those now broken."""
        self.stored = None
        for label in [each for each in self.guarded if each not in {rail.label for rail in rails}]:
            del self.guarded[label]
        broken: list[str] = []
        for rail in rails:
            known = self.guarded.get(rail.label)
            if known is None or known.limit != rail.limit:
                known = self.guarded[rail.label] = Guarded(rail.limit, BoundDetector(rail.bound))
            if known.take(rail, start_us, seen, self.recent, run_length):
                broken.append(rail.label)
        return broken

    def keep(self, label: str) -> None:
        """A broken bound is kept again: bets on it go on."""
        self.stored, self.guarded[label].off = None, None

    def _learn(self, seen: Sequence[Seen], figures: Sequence[float], run_length: float) -> tuple[Alarm | None, int]:
        """Learn from observations up to one that brings an alarm to tell of; that, and how many they were."""
        levels = self.levels
        levels.changes.run_length = levels.spread.run_length = run_length
        for place, (each, figure) in enumerate(zip(seen, figures, strict=True), 1):
            alarm = levels.update(each.at_us, figure)
            if alarm is not None and self._tells(alarm):
                return alarm, place
        return None, len(seen)

    def _tells(self, alarm: Alarm) -> bool:
        if self.off is not None:
            return False
        return alarm.kind == "drift" or self.measure.is_worse(alarm.expected, alarm.observed)

    def _remember(self, seen: list[Seen]) -> None:
        self.recent = [*self.recent, *seen][-RECENT:]

    def _begin(self, state: StateView, alarm: Alarm, start_us: int, rest: list[Seen]) -> None:
        """It is off its level from here on; go back to what was known before, where that is still kept."""
        values = [self.measure.watched(each.value) for each in self.recent]
        mean = sum(values) / len(values)
        scale = sqrt(sum((each - mean) ** 2 for each in values) / len(values))
        before = None
        if alarm.kind == "level_change":
            before = next((mark for mark in reversed(self.marks) if mark[1] < alarm.since_us), None)
        self.off = Off(
            alarm.kind, alarm.since_us, alarm.at_us, alarm.expected, alarm.observed, alarm.statistic, alarm.threshold,
            scale, before is not None, self._exemplars(alarm),
        )  # fmt: skip
        if before is None:
            self._mark(state)
        else:
            self._go_back(state, before)
        if rest:
            self.off.add(start_us, [self.measure.watched(each.value) for each in rest])
            self._remember(rest)

    def _exemplars(self, alarm: Alarm) -> list[str]:
        """Requests since the change, the ones farthest to its side first."""
        since = [each for each in self.recent if each.at_us >= alarm.since_us] or self.recent
        side = -1.0 if alarm.observed >= alarm.expected else 1.0
        ordered = sorted(since, key=lambda each: (side * each.value, -each.at_us, each.request_id))
        return list(dict.fromkeys(each.request_id for each in ordered))[:3]

    def end(self) -> None:
        """It is over: what comes is learned again."""
        self.stored, self.off = None, None

    def accept(self, state: StateView) -> None:
        """What it is now is the new normal: the level before is forgotten."""
        if self.off is not None and self.off.keeps:
            self.levels.forget()
            self._mark(state)
        self.end()

    # -- how it is kept -----------------------------------------------------------------------------------------------

    def _at(self, seq: int) -> str:
        return f"{self.key}{seq:012d}"

    def _mark(self, state: StateView) -> None:
        state.put("marks", self._at(self.seq), _packed(self.levels))
        self.marks = [*[each for each in self.marks if each[0] != self.seq], [self.seq, self.last_us]]
        for seq, _ in self.marks[:-MARKS]:
            state.delete("marks", self._at(seq))
        self.marks = self.marks[-MARKS:]
        self._drop_tail(state)

    def _go_back(self, state: StateView, mark: list[int]) -> None:
        for seq, _ in self.marks:
            if seq > mark[0]:
                state.delete("marks", self._at(seq))
        self._drop_tail(state)
        self.marks = [each for each in self.marks if each[0] <= mark[0]]
        self.seq = mark[0]
        self.levels = _unpacked(state.get("marks", self._at(self.seq)) or b"")

    def _drop_tail(self, state: StateView) -> None:
        for key in self.tail:
            state.delete("tails", key)
        self.tail = []

    def write(self, state: StateView) -> None:
        """Put its head into the state, where it is ahead of it; marks and tail are there already."""
        if self.stored is None:
            off = None if self.off is None else self.off.plain()
            figures = [self.seq, self.taken, self.last_us, self.lately, self.levels.level]
            guarded = {label: each.plain() for label, each in self.guarded.items()}
            parts = [self.measure.name, *figures, off, self.recent, self.marks, guarded, self.mix.plain()]
            self.stored = json.dumps(parts, separators=(",", ":")).encode()
            state.put("heads", self.key, self.stored)


class Glance(NamedTuple):
    """What a head tells without its detector: observations, the mean lately and the usual one, in figures."""

    taken: int
    lately: float
    usual: float


def glance_of(stored: bytes) -> Glance:
    """Return what a series' head tells."""
    _, _, taken, _, lately, usual, off, *_ = json.loads(stored)
    if off is None:
        return Glance(taken, lately, usual)
    return Glance(taken, lately, Off(*off).expected)


def drop_series(state: StateView, key: str) -> int:
    """Take everything about a series out of the state; how many observations it had."""
    taken = glance_of(state.get("heads", key) or b"").taken
    for table in ("marks", "tails"):
        for each, _ in list(state.scan(table, key, f"{key}{10**12 - 1:012d}")):
            state.delete(table, each)
    state.delete("heads", key)
    return taken


def read_series(state: StateView, key: str, stored: bytes, fresh: LevelDetector, measure: Measure) -> Series:
    """Return a series as it was when its head was stored; ``fresh`` is the detector of one without a mark."""
    _, seq, taken, last_us, lately, _, off, recent, marks, guarded, mix = json.loads(stored)
    levels = fresh
    if marks:
        levels = _unpacked(state.get("marks", f"{key}{marks[-1][0]:012d}") or b"")
    tail = list(state.scan("tails", key, f"{key}{10**12 - 1:012d}"))
    for _, text in tail:
        run_length, learned = orjson.loads(text)
        levels.changes.run_length = levels.spread.run_length = run_length
        for at_us, figure in learned:
            levels.update(at_us, figure)
    return Series(
        key, measure, levels, seq, taken, last_us, lately, None if off is None else Off(*off),
        [Seen(*each) for each in recent], marks, stored,
        {label: Guarded.of(each) for label, each in guarded.items()}, Mix.of(mix), [at for at, _ in tail],
    )  # fmt: skip


def _packed(levels: LevelDetector) -> bytes:
    # One mark costs as much as dozens of observations: the fastest of both, for a tenth more space.
    return zlib.compress(orjson.dumps(levels.to_json()), 1)


def _unpacked(stored: bytes) -> LevelDetector:
    return LevelDetector.from_json(orjson.loads(zlib.decompress(stored)))
