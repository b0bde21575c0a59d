"""Is a score lower because other things are asked, or because the same things are answered worse?

Scores carry the context of their request's decision (a language, a plan). Of each field with few values it is counted
how many scores each value had and what they came to, lately and before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flywheel.detect.label_shift import Explained, explain
from flywheel_detector.core.guarded import Seen

ALPHA: Final = 0.01
"""At which each of a field's two tests errs, divided by the number of fields."""
MAX_FIELDS: Final = 4
MAX_CLASSES: Final = 12
TRAIL: Final = 16
"""Spans remembered of a field; older ones are put together, two and two."""
LEAST_BEFORE: Final = 50
LEAST_SINCE: Final = 10
TOLD: Final = 3

Span = tuple[int, dict[str, list[float]]]
"""When it starts; of each value the number of scores and their sum."""
Counts = dict[str, list[float]]


@dataclass(slots=True)
class Mix:
    """The spans of each field; None for one with more values than can be counted."""

    fields: dict[str, list[Span] | None] = field(default_factory=dict)

    def add(self, start_us: int, seen: Sequence[Seen]) -> None:
        """Take in the scores of a window."""
        found: dict[str, Counts] = {}
        for each in seen:
            for name, text in (json.loads(each.classes) if each.classes else {}).items():
                count = found.setdefault(name, {}).setdefault(text, [0.0, 0.0])
                count[0] += 1
                count[1] += min(each.value, 1.0)
        for name, counts in sorted(found.items()):
            if name not in self.fields and len(self.fields) < MAX_FIELDS:
                self.fields[name] = []
            spans = self.fields.get(name)
            if spans is None:
                continue
            spans.append((start_us, counts))
            known = {text for _, each in spans for text in each}
            self.fields[name] = _thinned(spans) if len(known) <= MAX_CLASSES else None

    def told(self, since_us: int) -> dict[str, str]:
        """What is certain of a change that began then, as an alert's attributes; empty where nothing is."""
        counted = [
            (name, *_parted(spans, since_us)) for name, spans in sorted(self.fields.items()) if spans is not None
        ]
        judged = [
            (name, before, since, explain(*_right_and_wrong(before, since), alpha=ALPHA / len(counted)))
            for name, before, since in counted
            if _number(before) >= LEAST_BEFORE and _number(since) >= LEAST_SINCE
        ]
        certain = [each for each in judged if each[3].verdict != "nothing"]
        if not certain:
            return {}
        shifted = [each for each in certain if each[3].verdict != "accuracy"]
        lead = min(shifted or certain, key=lambda each: (-abs(each[3].from_mix), each[0]))
        return {"mix_verdict": lead[3].verdict, "mix": "; ".join(_said(*each) for each in certain)}

    def plain(self) -> dict[str, Any]:
        """Return its parts as JSON values."""
        return dict(self.fields)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Mix:
        """Return what `plain` gave."""
        fields = {
            name: None if spans is None else [(start_us, counts) for start_us, counts in spans]
            for name, spans in plain.items()
        }
        return cls(fields)


def _thinned(spans: list[Span]) -> list[Span]:
    if len(spans) <= TRAIL:
        return spans
    older, newer = spans[: TRAIL // 2], spans[TRAIL // 2 :]
    return [*((one[0], _sum([one, two])) for one, two in zip(older[::2], older[1::2], strict=True)), *newer]


def _sum(spans: Sequence[Span]) -> Counts:
    total: Counts = {}
    for _, counts in spans:
        for text, (number, of_scores) in counts.items():
            known = total.setdefault(text, [0.0, 0.0])
            known[0] += number
            known[1] += of_scores
    return total


def _parted(spans: Sequence[Span], since_us: int) -> tuple[Counts, Counts]:
    before = [each for each in spans if each[0] < since_us]
    return _sum(before), _sum(spans[len(before) :])


def _number(counts: Counts) -> float:
    return sum(number for number, _ in counts.values())


def _right_and_wrong(before: Counts, since: Counts) -> Iterator[list[tuple[float, float]]]:
    """Of each value the sum of scores and what they lack of 1: graded scores vary less than right and wrong ones, so
    the tests err less often than they say."""
    for counts in (before, since):
        pairs = [counts.get(text, [0.0, 0.0]) for text in sorted({*before, *since})]
        yield [(of_scores, max(number - of_scores, 0.0)) for number, of_scores in pairs]


def _said(name: str, before: Counts, since: Counts, found: Explained) -> str:
    of_before, of_since = _number(before), _number(since)
    moved = sorted(
        (-abs(_share(since, text, of_since) - _share(before, text, of_before)), text) for text in {*before, *since}
    )
    shares = ", ".join(
        f"{text} {_share(before, text, of_before):.0%} to {_share(since, text, of_since):.0%}"
        for _, text in moved[:TOLD]
    )
    parts = f"{found.from_mix:+.3f} from the mix, {found.from_accuracy:+.3f} from the scores of each"
    return f"{name}: {found.verdict}, {parts} ({shares})"


def _share(counts: Counts, text: str, total: float) -> float:
    return counts.get(text, [0.0, 0.0])[0] / total
