"""River's drift detectors with a state that is bounded and plain JSON: what they were fed, replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

from river.anomaly import HalfSpaceTrees
from river.drift import ADWIN, KSWIN, PageHinkley
from river.drift.binary import DDM, EDDM, FHDDM, HDDMA, HDDMW

from flywheel.detect.state import StateInvalid

Name = Literal["adwin", "kswin", "page_hinkley", "ddm", "eddm", "fhddm", "hddm_a", "hddm_w"]
MOST_KEPT: Final = 2_000
BINARY: Final = frozenset({"ddm", "eddm", "fhddm", "hddm_a", "hddm_w"})
_MADE: Final[dict[str, Callable[..., Any]]] = {
    "adwin": ADWIN,
    "kswin": KSWIN,
    "page_hinkley": PageHinkley,
    "ddm": DDM,
    "eddm": EDDM,
    "fhddm": FHDDM,
    "hddm_a": HDDMA,
    "hddm_w": HDDMW,
}


class RiverDrift:
    """One of River's detectors by name; ``ddm`` to ``hddm_w`` take errors (0 or 1), the others any numbers.

    The state is the inputs since the last alarm, at most 2,000: when they are full the detector starts again from the
    newer half, and so does one that is read from JSON, so both go on alike. None of them states a run length to a
    false alarm, and autocorrelation breaks them all: feed them means of blocks, and as a second opinion only.
    """

    __slots__ = ("_live", "fed", "name", "settings")

    def __init__(self, name: Name, **settings: float) -> None:
        if name not in _MADE:
            raise ValueError(f"name: no detector {name}; there are {', '.join(_MADE)}")
        self.name: str = name
        self.settings = ({"seed": 0} if name == "kswin" else {}) | settings
        self.fed: list[float] = []
        self._live = _MADE[name](**self.settings)

    def update(self, value: float) -> bool:
        """Take in a value; whether the detector alarms at it, after which it starts anew."""
        if self.name in BINARY and value not in {0, 1}:
            raise ValueError(f"value: {self.name} takes errors, 0 or 1")
        self.fed.append(value)
        if self._feed(value):
            self.fed, self._live = [], _MADE[self.name](**self.settings)
            return True
        if len(self.fed) >= MOST_KEPT:
            self._restart(self.fed[MOST_KEPT // 2 :])
        return False

    def _feed(self, value: float) -> bool:
        # River's FHDDM is told of right answers, the other binary ones of errors; here all are told of errors.
        self._live.update(bool(value) != (self.name == "fhddm") if self.name in BINARY else value)
        return bool(self._live.drift_detected)

    def _restart(self, fed: list[float]) -> None:
        self.fed, self._live = fed, _MADE[self.name](**self.settings)
        for each in fed:
            self._feed(each)

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values."""
        return {"name": self.name, "settings": dict(self.settings), "fed": list(self.fed)}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> RiverDrift:
        """The detector of a state. Raises ``StateInvalid``."""
        if not isinstance(found, dict) or set(found) != {"name", "settings", "fed"} or found["name"] not in _MADE:
            raise StateInvalid("RiverDrift: a state has exactly a name, settings and fed")
        made = cls(found["name"], **found["settings"])
        made._restart(list(found["fed"]))
        return made


class HalfSpaceWindows:
    """Half-space trees (Tan, Ting & Liu 2011) over summaries of windows: mean, spread, smallest and largest.

    River's trees learn some thousands of rows a second, too few for every call; a summary of 20 is one. Each summary
    is scaled by the range of those kept. The state is the last 500 summaries.
    """

    __slots__ = ("_trees", "kept", "open", "size")
    MOST: Final = 500

    def __init__(self, size: int = 20) -> None:
        self.size = size
        self.open: list[float] = []
        self.kept: list[list[float]] = []
        self._trees = _trees(self.kept)

    def update(self, value: float) -> float | None:
        """Take in a value; the anomaly score in [0, 1] of the window that it completes, else None."""
        self.open.append(value)
        if len(self.open) < self.size:
            return None
        summary, self.open = _summary(self.open), []
        row = _scaled(summary, [*self.kept, summary])
        score = float(self._trees.score_one(row)) if self.kept else 0.0
        self.kept.append(summary)
        if len(self.kept) >= self.MOST:
            self.kept = self.kept[self.MOST // 2 :]
            self._trees = _trees(self.kept)
        else:
            self._trees.learn_one(row)
        return score

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values."""
        return {"size": self.size, "open": list(self.open), "kept": [list(each) for each in self.kept]}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> HalfSpaceWindows:
        """The detector of a state. Raises ``StateInvalid``."""
        if not isinstance(found, dict) or set(found) != {"size", "open", "kept"}:
            raise StateInvalid("HalfSpaceWindows: a state has exactly size, open and kept")
        made = cls(found["size"])
        made.open, made.kept = list(found["open"]), [list(each) for each in found["kept"]]
        made._trees = _trees(made.kept)
        return made


def _summary(values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    spread = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
    return [mean, spread, min(values), max(values)]


def _scaled(row: list[float], rows: list[list[float]]) -> dict[str, float]:
    made = {}
    for place, value in enumerate(row):
        low, high = min(each[place] for each in rows), max(each[place] for each in rows)
        made[str(place)] = (value - low) / ((high - low) or 1.0)
    return made


def _trees(rows: list[list[float]]) -> Any:
    trees = HalfSpaceTrees(n_trees=10, height=6, window_size=50, seed=1)
    for place, row in enumerate(rows):
        trees.learn_one(_scaled(row, rows[: place + 1]))
    return trees
