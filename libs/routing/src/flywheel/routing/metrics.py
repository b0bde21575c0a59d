"""How well a router trades quality for cost: PGR, APGR, CPT between two models, AIQ and frontiers between any number.

Two models: each query has a *gain*, the strong model's score less the weak one's, and a router gives each query a
number, higher where the strong model is wanted more. Equal numbers are sent in proportion: ties have no order.

Ong et al. 2024 (RouteLLM, arXiv 2406.18665) for PGR, APGR and CPT; Hu et al. 2024 (RouterBench, arXiv 2403.12031) for
AIQ and the Zero router.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

BINS: Final = 10
"""Thresholds of RouteLLM's own evaluation: the edges of so many equally filled bins."""


class NoGain(ValueError):
    """The strong model is no better than the weak one, so no share of the gain between them can be told."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Share of queries sent to the strong model (rising from 0 to 1), and the performance gap recovered at it."""

    share: Floats
    pgr: Floats


def pgr(quality: float, weak: float, strong: float) -> float:
    """Performance gap recovered: 0 as good as the weak model, 1 as the strong one; above 1 better than both.

    Raises:
        NoGain: the strong model is not better.
    """
    if strong <= weak:
        raise NoGain("the strong model's mean score is not above the weak one's")
    return (quality - weak) / (strong - weak)


def curve(wanted: Floats, gain: Floats) -> Curve:
    """PGR over the share sent to the strong model, at every threshold; a corner for each distinct number.

    Raises:
        NoGain: the gains do not sum to more than 0.
    """
    total = float(gain.sum())
    if total <= 0:
        raise NoGain("the strong model's mean score is not above the weak one's")
    order = np.argsort(-wanted, kind="stable")
    ends = _tie_ends(wanted[order])
    reached = np.cumsum(gain[order])[ends] / total
    return Curve(np.concatenate(([0.0], (ends + 1) / len(wanted))), np.concatenate(([0.0], reached)))


def curve_in_bins(wanted: Floats, gain: Floats, *, bins: int = BINS) -> Curve:
    """The curve as RouteLLM's code draws it: thresholds at the edges of ``bins`` equally filled bins of the numbers.

    A query goes to the strong model when its number is at the threshold or above; above it at the last. Edges that fall
    together count once.

    Raises:
        NoGain: the gains do not sum to more than 0.
    """
    total = float(gain.sum())
    if total <= 0:
        raise NoGain("the strong model's mean score is not above the weak one's")
    edges = np.unique(np.quantile(wanted, np.linspace(0, 1, bins + 1)))
    chosen = [wanted >= edge for edge in edges[:-1]] + [wanted > edges[-1]]
    share = np.array([picked.mean() for picked in reversed(chosen)])
    return Curve(share, np.array([gain[picked].sum() / total for picked in reversed(chosen)]))


def apgr(found: Curve) -> float:
    """The integral of PGR over the share, 0 to 1: one half for a router that draws lots. nan for one corner."""
    if len(found.share) < 2:
        return float("nan")
    return float(np.trapezoid(found.pgr, found.share))


def cpt(found: Curve, target: float) -> float:
    """Call-performance threshold: the smallest share sent to the strong model at which PGR reaches ``target``; nan if
    never."""
    at = np.flatnonzero(found.pgr >= target)
    if not len(at):
        return float("nan")
    place = int(at[0])
    if place == 0:
        return float(found.share[0])
    low, high = found.pgr[place - 1], found.pgr[place]
    step = (target - low) / (high - low)
    return float(found.share[place - 1] + step * (found.share[place] - found.share[place - 1]))


def weighted_apgr(wanted: Floats, gain: Floats, weights: Floats) -> Floats:
    """APGR of each row of ``weights`` (draws, queries): how often each query counts. nan where there is no gain.

    One sort serves all draws, which is what makes a bootstrap cheap.
    """
    order = np.argsort(-wanted, kind="stable")
    ends = _tie_ends(wanted[order])
    ordered = weights[:, order]
    share = np.cumsum(ordered, axis=1)[:, ends]
    reached = np.cumsum(ordered * gain[order], axis=1)[:, ends]
    zero = np.zeros((len(weights), 1))
    share, reached = np.hstack((zero, share)), np.hstack((zero, reached))
    area = ((reached[:, 1:] + reached[:, :-1]) / 2 * np.diff(share, axis=1)).sum(axis=1)
    scale = share[:, -1] * reached[:, -1]
    return np.where(reached[:, -1] > 0, area / np.where(scale > 0, scale, 1.0), np.nan)


def _tie_ends(ordered: Floats) -> npt.NDArray[np.intp]:
    """The last place of each run of equal numbers."""
    return np.append(np.flatnonzero(np.diff(ordered) != 0), len(ordered) - 1)


@dataclass(frozen=True, slots=True)
class Frontier:
    """Points of mean cost (USD a query, rising) and mean quality."""

    cost: Floats
    quality: Floats


def frontier(cost: Floats, quality: Floats) -> Frontier:
    """The non-decreasing upper hull of points: what can be had by drawing lots between them.

    It starts at the cheapest point and ends at the best one.
    """
    order = np.lexsort((-quality, cost))
    kept: list[tuple[float, float]] = []
    for x, y in zip(cost[order].tolist(), quality[order].tolist(), strict=True):
        if kept and y <= kept[-1][1]:
            continue
        while len(kept) >= 2 and _left_turn(kept[-2], kept[-1], (x, y)):
            kept.pop()
        kept.append((x, y))
    return Frontier(np.array([x for x, _ in kept]), np.array([y for _, y in kept]))


def _left_turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or below the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def aiq(found: Frontier, *, least_cost: float, most_cost: float) -> float:
    """Average improvement in quality, the paper's form: the mean quality of the frontier over [least_cost, most_cost].

    Beyond its best point a frontier is flat; below its cheapest one, so is it here. With no range of cost it is the
    best
    quality.
    """
    if most_cost <= least_cost:
        return float(found.quality[-1])
    inner = found.cost[(found.cost > least_cost) & (found.cost < most_cost)]
    xs = np.concatenate(([least_cost], inner, [most_cost]))
    return float(np.trapezoid(np.interp(xs, found.cost, found.quality), xs) / (most_cost - least_cost))


def aiq_as_in_repository(found: Frontier, *, most_cost: float) -> float:
    """AIQ as RouterBench's code has it: the area from the frontier's first point on, over the highest cost.

    It takes total costs, but a mean divides out; what lies below the first point's cost counts as nothing, so it is
    lower.
    """
    if most_cost <= 0:
        return float(found.quality[-1])
    xs, ys = found.cost, found.quality
    if xs[-1] < most_cost:
        xs, ys = np.append(xs, most_cost), np.append(ys, ys[-1])
    return float(np.trapezoid(ys, xs) / most_cost)


def zero_router(scores: Floats, costs: Floats) -> Frontier:
    """The frontier of the single models, with lots drawn between them: scores and costs (queries, models)."""
    return frontier(costs.mean(axis=0), scores.mean(axis=0))


def gap_closed(quality: float, scores: Floats) -> float:
    """The share of the way from the best single model to the oracle, which takes the best model for every query.

    Raises:
        NoGain: no query is answered better by another model than the best single one.
    """
    single, oracle = float(scores.mean(axis=0).max()), float(scores.max(axis=1).mean())
    if oracle <= single:
        raise NoGain("the oracle is no better than the best single model")
    return (quality - single) / (oracle - single)
