"""Where a feature's arms stand: what is known of what they trade off, with intervals; floors; the Pareto front.

Intervals of an arm's mean hold at any number of its requests, however the policy came to choose them (95 % for each):

- of what lies between 0 and 1 (quality, scores, the share of slow requests): exactly, by a mixture of likelihood ratios
  (Robbins, 1970; a Beta(1, 1) mixture, whose value is a supermartingale for any mean of values from 0 to 1, and Ville's
  inequality);
- of money and time, which have no largest value: asymptotically, by a normal mixture with the arm's own variance
  (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, 2024).

With a half-life they are those of what is left after forgetting, and hold for about so many requests.

Floors: an arm proven to break one does not serve, as long as another is left. Of a strict floor, arms that are not
proven to keep it get the floor of exploring only, as long as another is proven; the default arm is trusted until it is
proven to break it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from scipy import special

from flywheel.policy.bounds import COST, LATENCY, QUALITY, Floor
from flywheel.policy.summary import Evidence

ALPHA: Final = 0.05
_BEST_AT: Final = 500.0
_FEWEST: Final = 2.0
_DOUBLINGS: Final = 50


class Known(NamedTuple):
    """The mean of a measure and its interval, in the measure's unit; ``weight``: requests behind it."""

    weight: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Standing:
    """One arm. ``breaks``: constraint that it is proven to break; ``unproven``: strict one that it is not proven to
    keep; ``efficient`` and ``dominated_by``: see ``front``."""

    arm: str
    known: Mapping[str, Known]
    breaks: str | None = None
    unproven: str | None = None
    efficient: bool = True
    dominated_by: tuple[str, ...] = ()


def share_interval(total: float, count: float, alpha: float = ALPHA) -> tuple[float, float]:
    """Return the interval of a mean of values from 0 to 1 that add up to ``total`` over ``count``."""
    mean = min(1.0, max(0.0, total / count))
    won = float(special.betaln(1.0 + count * mean, 1.0 + count * (1.0 - mean)))

    def excluded(p: float) -> bool:
        likelihood = float(special.xlogy(count * mean, p) + special.xlog1py(count * (1.0 - mean), -p))
        return won - likelihood >= -math.log(alpha)

    return _edge(excluded, mean, 0.0), _edge(excluded, mean, 1.0)


def _edge(excluded: Any, inside: float, outside: float) -> float:
    if not excluded(outside):
        return outside
    for _ in range(_DOUBLINGS):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if excluded(middle) else (middle, outside)
    return outside


def mean_interval(found: Evidence, alpha: float = ALPHA) -> tuple[float, float]:
    """Return the interval of a mean of values of 0 or more, from their sums; at least two of them."""
    mean = found.total / found.weight
    deviations = max(0.0, found.squares - found.total * found.total / found.weight)
    # Two values more, as far from the mean as it is from 0: a few that happen to be alike prove little.
    variance = (deviations + _FEWEST * mean * mean) / (found.weight + _FEWEST)
    rho = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / _BEST_AT
    grown = found.weight * rho + 1
    half = math.sqrt(variance * 2 * grown / (found.weight**2 * rho) * math.log(math.sqrt(grown) / alpha))
    return max(0.0, mean - half), mean + half


def known_measures(measures: Sequence[str], uses: Sequence[Evidence]) -> dict[str, Known]:
    """Return what is known of one arm, by measure; one with fewer than two requests is left out."""
    found = {}
    for measure, evidence in zip(measures, uses, strict=True):
        if evidence.weight >= _FEWEST:
            free = measure in (COST, LATENCY)
            low, high = mean_interval(evidence) if free else share_interval(evidence.total, evidence.weight)
            found[measure] = Known(evidence.weight, evidence.total / evidence.weight, low, high)
    return found


def standings(
    arms: Sequence[str],
    serving: Sequence[bool],
    known: Sequence[Mapping[str, Known]],
    floors: Sequence[Floor],
    default: str,
) -> list[Standing]:
    """Return the arms' standings, in their order. ``serving``: whether each may serve, floors aside."""
    found = [Standing(arm, each) for arm, each in zip(arms, known, strict=True)]
    found = _broken(found, serving, floors)
    found = _unproven(found, serving, floors, default)
    return _front(found, serving)


def _broken(found: list[Standing], serving: Sequence[bool], floors: Sequence[Floor]) -> list[Standing]:
    """Mark the arms that are proven to break a floor, but for the one nearest to keeping it where all are."""
    marked = [replace(each, breaks=next((f.constraint for f in floors if _below(f, each)), None)) for each in found]
    left = [place for place, each in enumerate(marked) if serving[place] and each.breaks is None]
    if not left and any(serving):
        able = [place for place in range(len(marked)) if serving[place]]
        nearest = min(able, key=lambda place: max(_distance(floor, marked[place]) for floor in floors))
        marked[nearest] = replace(marked[nearest], breaks=None)
    return marked


def _below(floor: Floor, standing: Standing) -> bool:
    known = standing.known.get(floor.measure)
    return known is not None and (known.high < floor.least or known.low > floor.most)


def _proven(floor: Floor, standing: Standing) -> bool:
    known = standing.known.get(floor.measure)
    return known is not None and known.low >= floor.least and known.high <= floor.most


def _distance(floor: Floor, standing: Standing) -> float:
    known = standing.known.get(floor.measure)
    return 0.0 if known is None else max(floor.least - known.high, known.low - floor.most, 0.0)


def _unproven(found: list[Standing], serving: Sequence[bool], floors: Sequence[Floor], default: str) -> list[Standing]:
    """Mark the arms that get the floor of exploring only: none where no arm that serves is trusted."""
    strict = [floor for floor in floors if floor.strict]

    def lacking(each: Standing) -> str | None:
        trusted = each.arm == default
        return next((floor.constraint for floor in strict if not trusted and not _proven(floor, each)), None)

    marked = [replace(each, unproven=lacking(each)) for each in found]
    trusted = any(serving[place] and each.breaks is None and each.unproven is None for place, each in enumerate(marked))
    return marked if trusted else found


def _front(found: list[Standing], serving: Sequence[bool]) -> list[Standing]:
    """Say of each arm which of those that serve are better: ``efficient`` as far as means tell, ``dominated_by`` where
    the intervals of quality, cost and latency prove it of each; what no arm has is left aside."""
    sides = {measure: sign for measure, sign in _BETTER.items() if any(measure in each.known for each in found)}
    rivals = [each for each, able in zip(found, serving, strict=True) if able and each.breaks is None]
    marked = []
    for each in found:
        others = [other for other in rivals if other.arm != each.arm]
        marked.append(
            replace(
                each,
                efficient=not any(_as_good(other, each, sides) for other in others),
                dominated_by=tuple(sorted(other.arm for other in others if _proven_better(other, each, sides))),
            )
        )
    return marked


_BETTER: Final[Mapping[str, float]] = {QUALITY: 1.0, COST: -1.0, LATENCY: -1.0}


def _as_good(other: Standing, each: Standing, sides: Mapping[str, float]) -> bool:
    """Whether the other's means are as good in every measure and better in one; where one is unknown it is not."""
    if not sides or any(measure not in arm.known for measure in sides for arm in (other, each)):
        return False
    gains = [sign * (other.known[measure].mean - each.known[measure].mean) for measure, sign in sides.items()]
    return min(gains) >= 0 and max(gains) > 0


def _proven_better(other: Standing, each: Standing, sides: Mapping[str, float]) -> bool:
    if not sides or any(measure not in arm.known for measure in sides for arm in (other, each)):
        return False
    return all(
        other.known[measure].low > each.known[measure].high
        if sign > 0
        else other.known[measure].high < each.known[measure].low
        for measure, sign in sides.items()
    )
