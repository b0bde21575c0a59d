"""Windows of event time that are still open: exact counts, and a sample that detectors are fed.

The sample is the 16 observations with the smallest marks: marks are hashes of ids, so it is a random one, and the same
in whatever order they came. Sixteen in ten seconds are more than the detectors' stated delays ask for; they see single
values, for which their rate of false alarms is stated, and cost the same at any traffic.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from operator import itemgetter
from typing import Final, NamedTuple

from flywheel.stream import StateView
from flywheel_detector.core.guarded import Seen
from flywheel_detector.core.ledger import Observation

SAMPLE: Final = 16
_KEY: Final = 16
_IN_ORDER: Final = itemgetter(1, 0)


class Kept(NamedTuple):
    """One observation of a sample, ordered by its mark."""

    mark: str
    at_us: int
    value: float
    request_id: str
    classes: str = ""


class Sampled(NamedTuple):
    """One measure in a window: exact count, and the sample, which is sorted and added to in place."""

    taken: int
    kept: list[Kept]


class Window:
    """One cell's open window, by measure."""

    __slots__ = ("measured",)

    def __init__(self, measured: dict[str, Sampled] | None = None) -> None:
        self.measured = measured or {}

    def add(self, observation: Observation) -> None:
        """Take in an observation; a repeat of one in the sample has no effect."""
        classes = json.dumps(observation.classes, sort_keys=True) if observation.classes else ""
        _, at_us, mark, request_id, figures, *_ = observation
        for name, value in figures.items():
            taken, kept = self.measured.get(name) or Sampled(0, [])
            if len(kept) < SAMPLE or mark <= kept[-1].mark:
                made = Kept(mark, at_us, value, request_id, classes)
                place = bisect_left(kept, made)
                if kept[place : place + 1] == [made]:
                    continue
                kept.insert(place, made)
                del kept[SAMPLE:]
            self.measured[name] = Sampled(taken + 1, kept)

    def sample(self, name: str) -> list[Seen]:
        """The sample of a measure, in order of time."""
        return [Seen._make(each[1:]) for each in sorted(self.measured[name].kept, key=_IN_ORDER)]

    def encode(self) -> bytes:
        """Return its bytes."""
        return json.dumps(self.measured, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def decode(cls, stored: bytes) -> Window:
        """Return the window of `encode`'s bytes."""
        found = json.loads(stored).items()
        return cls({name: Sampled(taken, [Kept(*each) for each in kept]) for name, (taken, kept) in found})


class OpenWindows:
    """The open windows of a shard during a batch, by feature, start and cell."""

    def __init__(self, state: StateView) -> None:
        self._state = state
        self._held: dict[str, Window] = {}

    def window(self, book: str, start_us: int, place: str) -> Window:
        """Return a window, opened where there is none."""
        key = f"{book}{start_us:020d}{place}"
        if key not in self._held:
            stored = self._state.get("open", key)
            self._held[key] = Window() if stored is None else Window.decode(stored)
        return self._held[key]

    def take(self, book: str, before_us: int) -> list[tuple[int, str, Window]]:
        """Take out a feature's windows that start before a time: start, place and window, in order."""
        end, found = f"{book}{max(before_us, 0):020d}", dict[str, Window]()
        for key, stored in list(self._state.scan("open", book, end)):
            self._state.delete("open", key)
            if key not in self._held:
                found[key] = Window.decode(stored)
        for key in [each for each in self._held if book <= each < end]:
            found[key] = self._held.pop(key)
        return [(int(key[_KEY : _KEY + 20]), key[_KEY + 20 :], found[key]) for key in sorted(found)]

    def write(self) -> None:
        """Put what changed into the state."""
        for key, window in self._held.items():
            self._state.put("open", key, window.encode())
        self._held = {}
