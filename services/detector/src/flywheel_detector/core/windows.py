"""Windows of event time that are still open: exact counts, and a sample that detectors are fed.

The sample is the 16 observations with the smallest marks: marks are hashes of ids, so it is a random one, and the same
in whatever order they came. Sixteen in ten seconds are more than the detectors' stated delays ask for; they see single
values, for which their rate of false alarms is stated, and cost the same at any traffic.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from flywheel.stream import StateView
from flywheel_detector.core.guarded import Seen
from flywheel_detector.core.ledger import Observation

SAMPLE: Final = 16
_KEY: Final = 16


class Kept(NamedTuple):
    """One observation of a sample, ordered by its mark."""

    mark: str
    at_us: int
    value: float
    request_id: str
    classes: str = ""


class Sampled(NamedTuple):
    """One measure in a window: exact count, and the sample."""

    taken: int = 0
    kept: tuple[Kept, ...] = ()


class Window:
    """One cell's open window, by measure."""

    __slots__ = ("measured",)

    def __init__(self, measured: dict[str, Sampled] | None = None) -> None:
        self.measured = measured or {}

    def add(self, observation: Observation) -> None:
        """Take in an observation; a repeat of one in the sample has no effect."""
        classes = json.dumps(observation.classes, sort_keys=True) if observation.classes else ""
        for name, value in observation.measured.items():
            taken, kept = self.measured.get(name, Sampled())
            made = Kept(observation.mark, observation.at_us, value, observation.request_id, classes)
            if made not in kept:
                self.measured[name] = Sampled(taken + 1, tuple(sorted([*kept, made])[:SAMPLE]))

    def sample(self, name: str) -> list[Seen]:
        """The sample of a measure, in order of time."""
        kept = sorted(self.measured[name].kept, key=lambda each: (each.at_us, each.mark))
        return [Seen(*each[1:]) for each in kept]

    def encode(self) -> bytes:
        """Return its bytes."""
        return json.dumps(self.measured, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def decode(cls, stored: bytes) -> Window:
        """Return the window of `encode`'s bytes."""
        found = json.loads(stored).items()
        return cls({name: Sampled(taken, tuple(Kept(*each) for each in kept)) for name, (taken, kept) in found})


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
        self.write()
        found = list(self._state.scan("open", book, f"{book}{max(before_us, 0):020d}"))
        for key, _ in found:
            self._state.delete("open", key)
        return [(int(key[_KEY : _KEY + 20]), key[_KEY + 20 :], Window.decode(stored)) for key, stored in found]

    def write(self) -> None:
        """Put what changed into the state."""
        for key, window in self._held.items():
            self._state.put("open", key, window.encode())
        self._held = {}
