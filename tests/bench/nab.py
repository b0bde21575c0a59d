"""NAB's rule for scoring anomaly detectors (Lavin & Ahmad 2015), from its published definition.

A series has labelled windows. Of the detections inside a window only the best counts, more the earlier it is; one
outside costs, less if it comes soon after a window; a window without any costs. 100 is perfect, 0 is silence.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

LABELS = ("labels/combined_windows.json", "combined_windows.json")


class Profile(NamedTuple):
    """What a window found, a false alarm and a window missed weigh."""

    found: float
    false: float
    missed: float


PROFILES = {"standard": Profile(1, 0.11, 1), "low FP": Profile(1, 0.22, 1), "low FN": Profile(1, 0.11, 2)}


@dataclass(frozen=True, slots=True)
class Labelled:
    """A series: seconds since the epoch, values, and the first and last row of each window."""

    name: str
    at_s: tuple[int, ...]
    values: tuple[float, ...]
    windows: tuple[tuple[int, int], ...]


class Row(NamedTuple):
    """A row that counts: its score, what an alarm here is worth (−1 to 1), and the window it lies in, if any."""

    score: float
    worth: float
    window: tuple[str, int] | None


def corpus(folder: Path) -> list[Labelled]:
    """The labelled series of a folder laid out as NAB's (``data/`` and ``labels/``, or both at its top)."""
    labels = json.loads(next(folder / name for name in LABELS if (folder / name).exists()).read_text())
    data = folder / "data" if (folder / "data").is_dir() else folder
    return [_labelled(name, data / name, windows) for name, windows in sorted(labels.items())]


def _labelled(name: str, path: Path, labels: Sequence[Sequence[str]]) -> Labelled:
    with path.open(newline="") as lines:
        rows = [(_seconds(row["timestamp"]), float(row["value"])) for row in csv.DictReader(lines)]
    windows = []
    for first, last in labels:
        inside = [place for place, (at, _) in enumerate(rows) if _seconds(first) <= at <= _seconds(last)]
        if inside:
            windows.append((inside[0], inside[-1]))
    return Labelled(name, tuple(at for at, _ in rows), tuple(value for _, value in rows), tuple(windows))


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text.split(".", maxsplit=1)[0]).replace(tzinfo=UTC).timestamp())


def _sigmoid(place: float) -> float:
    return 2.0 / (1.0 + math.exp(min(5.0 * place, 500.0))) - 1.0


def rows_that_count(series: Labelled, scores: Sequence[float]) -> list[Row]:
    """Every row after the probation of 15 % (at most 750) with what an alarm there is worth."""
    rows, last, coming = [], None, list(series.windows)
    for place in range(min(math.floor(0.15 * len(scores)), 750), len(scores)):
        while coming and place > coming[0][1]:
            last = coming.pop(0)
        if coming and place >= coming[0][0]:
            first, end = coming[0]
            rows.append(Row(scores[place], _sigmoid(-(end - place + 1) / (end - first + 1)), (series.name, first)))
        else:
            after = (place - last[1]) / max(last[1] - last[0], 1) if last else math.inf
            rows.append(Row(scores[place], -1.0 if after > 3 else _sigmoid(after), None))
    return rows


def points(rows: Iterable[Row], count: int, profile: Profile) -> list[tuple[float, float]]:
    """NAB's score at every threshold, the highest threshold first: (threshold, score). ``count``: windows in all."""
    best: dict[tuple[str, int], float] = {}
    total, null, curve = -profile.missed * count, -profile.missed * count, []
    rows = sorted((row for row in rows if row.score > 0), key=lambda row: -row.score)
    for place, row in enumerate(rows):
        if row.window is None:
            total += row.worth * profile.false
        else:
            worth, before = row.worth * profile.found / _sigmoid(-1.0), best.get(row.window, -profile.missed)
            best[row.window] = max(worth, before)
            total += best[row.window] - before
        if place + 1 == len(rows) or rows[place + 1].score != row.score:
            curve.append((row.score, 100.0 * (total - null) / (profile.found * count - null)))
    return curve


def at(curve: Sequence[tuple[float, float]], threshold: float) -> float:
    """The score at a fixed threshold."""
    return next((score for least, score in reversed(curve) if least >= threshold), 0.0)


def optimised(curve: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The best score and its threshold, as NAB publishes: chosen with the labels in hand."""
    best = max(curve, key=lambda point: point[1], default=(math.inf, 0.0))
    return (best[1], best[0]) if best[1] > 0 else (0.0, math.inf)
