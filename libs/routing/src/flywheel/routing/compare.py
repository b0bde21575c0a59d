"""Routers beside each other on one set of queries: the rows of the table, with intervals, and their frontiers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from flywheel.routing.bootstrap import Draws, Interval, apgr_draws, difference, gap_draws, interval, query_weights
from flywheel.routing.features import ReadTexts
from flywheel.routing.metrics import (
    Frontier,
    NoGain,
    aiq,
    aiq_as_in_repository,
    apgr,
    cpt,
    curve,
    curve_in_bins,
    frontier,
    gap_closed,
    zero_router,
)
from flywheel.routing.queries import RoutingSet
from flywheel.routing.routers import OURS, ROUTERS, Task
from flywheel.routing.trials import Trial, after_budget, cross_fit, online, online_one_model, stream_order

Floats = npt.NDArray[np.float64]
Progress = Callable[[str], None]
Mode = Literal["offline", "online"]

ONLINE: Final = "ours, online"
ONE_MODEL: Final = "ours, online, one model's label"
SWEEP: Final = 40
"""So many prices of quality are tried for a frontier."""
CHECKPOINTS: Final = (50, 100, 200, 400, 800, 1500, 3000)


@dataclass(frozen=True, slots=True)
class Options:
    """How to compare. ``budget`` labels (``None``: all of the other folds; online half of the queries); online, the
    first
    ``budget`` queries of the stream are labelled, and routers are judged on the rest. ``one_model`` adds feedback on
    the
    asked model alone; ``strong`` names the model that APGR counts calls to (default: the dearer, else the better
    one)."""

    mode: Mode
    budget: int | None = None
    folds: int = 5
    seeds: int = 3
    draws: int = 500
    one_model: bool = False
    strong: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One router. ``figure`` is APGR between two models, else the share of the gap closed; ``ours_less`` is how much
    higher
    ours is; ``quality`` the mean score of always taking the best prediction. The rest is nan or ``None`` where it
    does not
    apply."""

    name: str
    figure: Interval
    ours_less: Interval | None
    quality: float
    apgr_in_bins: float
    cpt50: float
    cpt80: float
    aiq: float
    aiq_repository: float
    frontier: Frontier | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rows, and what they are of. ``learning`` is (labels, figure) of ours online; ``resets`` how often, over all
    seeds, it
    believed that the models had changed."""

    figure: Literal["apgr", "gap_closed"]
    queries: int
    models: tuple[str, ...]
    means: tuple[float, ...]
    strong: str
    ours: str
    budget: int | None
    rows: tuple[Row, ...]
    zero: Frontier | None
    learning: tuple[tuple[int, float], ...]
    resets: int


def compare(data: RoutingSet, options: Options, progress: Progress, *, embeddings: Floats | None = None) -> Comparison:
    """Try every router under the same seeds, labels and draws.

    Raises:
        ValueError: too few queries for the folds or the budget, or no model of the name in ``strong``.
        NoGain: of two models the strong one is no better; of more, there is nothing to gain from choosing.
    """
    budget = _checked_budget(data, options)
    strong = strong_model(data, options.strong)
    if len(data.models) == 2 and data.scores[:, strong].mean() <= data.scores[:, 1 - strong].mean():
        raise NoGain(f"{data.models[strong]} scores no better on the whole: no gap to recover; name the other")
    if len(data.models) > 2:
        gap_closed(0.0, data.scores)
    progress("reading texts")
    read = ReadTexts.of(data.texts, data.groups, embeddings)
    none = np.zeros(0, dtype=np.intp)
    bases = [Task(read, data.scores, none, none, none, strong, seed) for seed in range(options.seeds)]
    trials = _trials(data, options, bases, budget, progress)
    learning: list[tuple[int, float]] = []
    resets = 0
    if options.mode == "online" and budget is not None:
        trials[ONLINE], learning, resets = _streamed(data, bases, budget, strong, progress)
        if options.one_model:
            trials[ONE_MODEL] = [_one_model(data, base, budget, progress) for base in bases]
    progress("drawing again")
    weights = query_weights(len(data), draws=options.draws)
    drawn = {name: _figure(found, data, strong, weights) for name, found in trials.items()}
    ours = ONLINE if ONLINE in trials else OURS
    costs = _costs(data, strong)
    rows = [
        _row(name, found, data, strong, mine=drawn[name], ours=None if name == ours else drawn[ours], costs=costs)
        for name, found in trials.items()
    ]
    return Comparison(
        figure="apgr" if len(data.models) == 2 else "gap_closed",
        queries=len(data),
        models=data.models,
        means=tuple(data.scores.mean(axis=0).tolist()),
        strong=data.models[strong],
        ours=ours,
        budget=budget,
        rows=tuple(rows),
        zero=None if costs is None else zero_router(data.scores, costs),
        learning=tuple(learning),
        resets=resets,
    )


def strong_model(data: RoutingSet, named: str | None) -> int:
    """The place of the strong model: as named, else the dearest one on the whole, else the best.

    Raises:
        ValueError: there is no model of that name.
    """
    if named is not None:
        if named not in data.models:
            raise ValueError(f"no model {named!r}; there are {', '.join(data.models)}")
        return data.models.index(named)
    by = data.scores if data.costs is None else data.costs
    return int(by.mean(axis=0).argmax())


def _checked_budget(data: RoutingSet, options: Options) -> int | None:
    if len(data) < max(50, 2 * options.folds):
        raise ValueError("fewer than 50 queries, or than twice the folds: nothing can be told apart")
    if options.mode == "offline":
        return options.budget
    budget = options.budget if options.budget is not None else len(data) // 2
    if not 25 <= budget <= len(data) - 25:
        raise ValueError(f"of {len(data)} queries, 25 to {len(data) - 25} can be the label budget of a stream")
    return budget


def _trials(
    data: RoutingSet, options: Options, bases: list[Task], budget: int | None, progress: Progress
) -> dict[str, list[Trial]]:
    trials: dict[str, list[Trial]] = {}
    for name, router in ROUTERS.items():
        if name == "prompt length" and len(data.models) != 2:
            continue
        if name == "subject mean" and not any(data.groups):
            continue
        for base in bases:
            progress(f"{name}, seed {base.seed + 1} of {len(bases)}")
            if options.mode == "online" and budget is not None:
                found = after_budget(router, base, budget=budget)
            else:
                found = cross_fit(router, base, folds=options.folds, budget=budget)
            trials.setdefault(name, []).append(found)
    return trials


def _streamed(
    data: RoutingSet, bases: list[Task], budget: int, strong: int, progress: Progress
) -> tuple[list[Trial], list[tuple[int, float]], int]:
    at = (*(n for n in CHECKPOINTS if n < budget), budget)
    streams = []
    for base in bases:
        progress(f"{ONLINE}, seed {base.seed + 1} of {len(bases)}")
        streams.append(
            online(base.read, data.scores, stream_order(len(data), seed=base.seed), budget=budget, checkpoints=at)
        )
    once = np.ones((1, len(data)))
    curves = [[trial for _, trial in stream.checkpoints] for stream in streams]
    learned = [
        (labels, float(_figure([found[place] for found in curves], data, strong, once).values.mean()))
        for place, labels in enumerate(at)
    ]
    return [stream.trial for stream in streams], learned, sum(len(stream.resets) for stream in streams)


def _one_model(data: RoutingSet, base: Task, budget: int, progress: Progress) -> Trial:
    progress(f"{ONE_MODEL}, seed {base.seed + 1}")
    return online_one_model(
        base.read, data.scores, stream_order(len(data), seed=base.seed), budget=budget, seed=base.seed
    ).trial


def _figure(trials: list[Trial], data: RoutingSet, strong: int, weights: Floats) -> Draws:
    if len(data.models) == 2:
        return apgr_draws(trials, data.scores, strong, weights)
    return gap_draws(trials, data.scores, weights)


def _costs(data: RoutingSet, strong: int) -> Floats | None:
    """Costs (queries, models); between two models without costs, calls to the strong one."""
    if data.costs is not None or len(data.models) != 2:
        return data.costs
    calls = np.zeros_like(data.scores)
    calls[:, strong] = 1.0
    return calls


def _row(
    name: str,
    trials: list[Trial],
    data: RoutingSet,
    strong: int,
    *,
    mine: Draws,
    ours: Draws | None,
    costs: Floats | None,
) -> Row:
    quality = float(np.mean([data.scores[t.places, t.predicted.argmax(axis=1)].mean() for t in trials]))
    binned = cpt50 = cpt80 = area = area_repository = float("nan")
    if len(data.models) == 2:
        binned, cpt50, cpt80 = _between_two(trials, data, strong)
    front = None
    if costs is not None:
        front = swept_frontier(trials[0], data.scores, costs)
        low, high = float(costs.mean(axis=0).min()), float(costs.mean(axis=0).max())
        area = aiq(front, least_cost=low, most_cost=high)
        area_repository = aiq_as_in_repository(front, most_cost=high)
    less = None if ours is None else difference(ours, mine)
    return Row(name, interval(mine), less, quality, binned, cpt50, cpt80, area, area_repository, front)


def _between_two(trials: list[Trial], data: RoutingSet, strong: int) -> tuple[float, float, float]:
    """APGR in RouteLLM's bins, CPT 50 % and CPT 80 %: means over seeds."""
    found = []
    for trial in trials:
        scores, predicted = data.scores[trial.places], trial.predicted
        gain, wanted = scores[:, strong] - scores[:, 1 - strong], predicted[:, strong] - predicted[:, 1 - strong]
        if gain.sum() <= 0:
            continue
        exact = curve(wanted, gain)
        found.append((apgr(curve_in_bins(wanted, gain)), cpt(exact, 0.5), cpt(exact, 0.8)))
    binned, cpt50, cpt80 = np.mean(found, axis=0).tolist() if found else (float("nan"),) * 3
    return binned, cpt50, cpt80


def swept_frontier(trial: Trial, scores: Floats, costs: Floats) -> Frontier:
    """Mean cost and quality as the price of quality sweeps: each query to argmax(price x prediction - cost).

    RouterBench sweeps 32 fixed prices; here they are quantiles of those at which some query changes its model, so
    that the
    frontier is told where it bends.
    """
    mine, cost, predicted = scores[trial.places], costs[trial.places], trial.predicted
    gain = predicted[:, :, None] - predicted[:, None, :]
    dearer = cost[:, :, None] - cost[:, None, :]
    turning = (dearer > 0) & (gain > 1e-12)
    prices = np.array([0.0, 1e12])
    if turning.any():
        found = dearer[turning] / gain[turning]
        prices = np.concatenate((prices, np.quantile(found, np.linspace(0, 1, SWEEP)) * (1 + 1e-9)))
    rows = np.arange(len(mine))
    points = []
    for price in np.unique(prices):
        chosen = (price * predicted - cost).argmax(axis=1)
        points.append((cost[rows, chosen].mean(), mine[rows, chosen].mean()))
    xs, ys = np.array(points).T
    return frontier(xs, ys)
