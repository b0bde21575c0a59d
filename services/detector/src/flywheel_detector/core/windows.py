"""Windows of event time that are still open: exact counts and sums, and a sample that detectors are fed.

The sample is the 16 observations with the smallest marks: marks are hashes of ids, so it is a random one, and the same
in whatever order they came. Sixteen in ten seconds are more than the detectors' stated delays ask for; they see single
values, for which their rate of false alarms is stated, and cost the same at any traffic.
"""

from __future__ import annotations

import json
from bisect import insort
from typing import Final

from flywheel.stream import StateView
from flywheel_detector.core.ledger import Observation
from flywheel_detector.core.series import Seen

SAMPLE: Final = 16
_KEY: Final = 16


class Window:
    """One cell's open window: by measure the count, the sum and the sample."""

    __slots__ = ("measured",)

    def __init__(self, measured: dict[str, tuple[int, float, list[list[object]]]] | None = None) -> None:
        self.measured = measured or {}

    def add(self, observation: Observation) -> None:
        """Take in an observation; a repeat of one in the sample has no effect."""
        for name, value in observation.measured.items():
            count, total, kept = self.measured.get(name, (0, 0.0, []))
            made: list[object] = [observation.mark, observation.at_us, value, observation.request_id]
            if made in kept:
                continue
            insort(kept, made)
            self.measured[name] = (count + 1, total + value, kept[:SAMPLE])

    def sample(self, name: str) -> list[Seen]:
        """The sample of a measure, in order of time."""
        kept = sorted(self.measured[name][2], key=lambda each: (each[1], each[0]))
        return [Seen(int(str(at)), float(str(value)), str(request)) for _, at, value, request in kept]

    def encode(self) -> bytes:
        """Return its bytes."""
        return json.dumps(self.measured, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def decode(cls, stored: bytes) -> Window:
        """Return the window of `encode`'s bytes."""
        return cls({name: (count, total, kept) for name, (count, total, kept) in json.loads(stored).items()})


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
