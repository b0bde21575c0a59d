"""One request: which fact waits for which, so that a call is counted under its arm and a score under what it judges.

What is kept of a request is a function of the set of facts read, whatever their order and repeats.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from flywheel_detector.core.facts import Fact

MAX_FACTS: Final = 256
"""Facts kept of a request; more are refused, so that no request can fill the state."""
KEPT: Final = 8
"""Calls and decisions of a request that others are held against: the newest."""


class Made(NamedTuple):
    """A call or a decision that others are held against. ``links``: the decision of a call; ``classes``: of a decision,
    as JSON."""

    at_us: int
    mark: str
    feature: str
    model: str
    arm: str
    links: str = ""
    classes: str = ""


@dataclass(slots=True)
class Request:
    """The facts of a request: marks of all, the newest calls and decisions, and those that wait."""

    newest_us: int = 0
    marks: list[str] = field(default_factory=list)
    calls: list[Made] = field(default_factory=list)
    decisions: list[Made] = field(default_factory=list)
    waiting: list[Fact] = field(default_factory=list)

    def add(self, fact: Fact) -> None:
        """Take a fact that is new; it waits until `released`."""
        self.newest_us = max(self.newest_us, fact.at_us)
        self.marks = sorted([*self.marks, fact.mark])
        if fact.kind == "decision":
            self.decisions = _with(self.decisions, fact)
        self.waiting.append(fact)
        self.waiting.sort(key=lambda each: (each.at_us, each.mark))

    def released(self, before_us: int) -> list[Fact]:
        """Take out the facts that wait for nothing more, or are older than a time, with what they lacked filled in."""
        out: list[Fact] = []
        for kind in ("decision", "call", "score", "probe"):
            for fact in [each for each in self.waiting if each.kind == kind]:
                found = self._completed(fact, late=fact.at_us < before_us)
                if found is not None:
                    self.waiting.remove(fact)
                    out.append(found)
                    if kind == "call":
                        self.calls = _with(self.calls, found)
        return out

    def _completed(self, fact: Fact, *, late: bool) -> Fact | None:
        if fact.kind == "decision":
            return fact._replace(arm="")  # it is about the feature: a share of its requests
        if fact.kind == "call":
            known = next((each for each in self.decisions if each.mark == fact.links), None)
            if not (fact.arm and fact.feature) and fact.links and known is None and not late:
                return None
            return _filled(fact, known)
        if fact.kind == "probe":
            return fact
        judged = [each for each in self.calls if fact.links in ("", each.mark)]
        if not judged and not late:
            return None
        known_of = judged or self.calls or self.decisions
        made = known_of[-1] if known_of else None
        known = next((each for each in self.decisions if made and each.mark in (made.links, made.mark)), None)
        if made is not None and made.links and known is None and not late:
            return None
        return _filled(fact, made)._replace(classes=json.loads(known.classes) if known else {})

    def encode(self) -> bytes:
        """Return its bytes; the same facts give the same ones."""
        parts = [self.newest_us, self.marks, self.calls, self.decisions, self.waiting]
        return json.dumps(parts, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def decode(cls, stored: bytes) -> Request:
        """Return the request of `encode`'s bytes."""
        newest_us, marks, calls, decisions, waiting = json.loads(stored)
        made = ([Made(*each) for each in calls], [Made(*each) for each in decisions])
        return cls(newest_us, marks, *made, [Fact(*each) for each in waiting])


def _with(known: list[Made], fact: Fact) -> list[Made]:
    """The newest of these and a fact."""
    return sorted([*known, _made(fact)])[-KEPT:]


def _made(fact: Fact) -> Made:
    classes = json.dumps(fact.classes, sort_keys=True) if fact.kind == "decision" else ""
    return Made(fact.at_us, fact.mark, fact.feature, fact.model, fact.arm, fact.links, classes)


def _filled(fact: Fact, made: Made | None) -> Fact:
    if made is None:
        return fact
    return fact._replace(feature=fact.feature or made.feature, model=fact.model or made.model, arm=fact.arm or made.arm)
