"""What happens when models change under a router: in the middle of the labels their scores change places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from flywheel.routing.features import ReadTexts
from flywheel.routing.trials import online, stream_order

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

FIRST: Final = 150
"""Labels after the change that are told apart from the later ones."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """Mean score of the models taken: before the change, in the first 150 queries after it, later (nan: none came).

    ``resets`` are the numbers of labels at which it forgot.
    """

    name: str
    before: float
    first: float
    later: float
    resets: tuple[int, ...]


def swapped(scores: Floats, order: Places, at: int) -> Floats:
    """Scores whose models change places for the queries from place ``at`` of the stream on: the best becomes the
    worst, …"""
    ranks = scores.mean(axis=0).argsort()
    changed = scores.copy()
    changed[np.ix_(order[at:], ranks)] = scores[np.ix_(order[at:], ranks[::-1])]
    return changed


def recover(read: ReadTexts, scores: Floats, *, labels: int, seed: int = 0) -> tuple[Recovery, ...]:
    """A stream of ``labels`` whose models change in the middle: ours, ours without forgetting, and what cannot
    learn."""
    order, at = stream_order(len(scores), seed=seed), labels // 2
    changed = swapped(scores, order, at)
    seen = changed[order[:labels]]
    found = []
    for name, forget in (("ours, online", True), ("ours, never forgetting", False)):
        stream = online(read, changed, order, budget=labels, forget=forget)
        found.append(_recovery(name, seen, stream.chosen, at, stream.resets))
    before = int(seen[:at].mean(axis=0).argmax())
    after = int(seen[at:].mean(axis=0).argmax())
    found.append(_recovery("best single before the change", seen, np.full(labels, before), at, ()))
    found.append(_recovery("best single of each part", seen, np.repeat([before, after], (at, labels - at)), at, ()))
    return tuple(found)


def _recovery(name: str, seen: Floats, chosen: Places, at: int, resets: tuple[int, ...]) -> Recovery:
    had = seen[np.arange(len(seen)), chosen]
    return Recovery(name, _mean(had[:at]), _mean(had[at : at + FIRST]), _mean(had[at + FIRST :]), resets)


def _mean(scores: Floats) -> float:
    """The mean, nan of none."""
    return float(scores.mean()) if len(scores) else float("nan")
