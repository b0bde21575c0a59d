"""Constraints as prices: what a dollar or a slow request costs in reward, so that a bound on its mean is kept.

Maximising reward subject to a mean use of at most ``b`` a request is, by duality, choosing the arm with the largest
``reward - price · use`` at the right price (bandits with knapsacks: Badanidiyuru, Kleinberg and Slivkins, 2013). Here
the price is found again whenever a policy is computed, as in re-solving with Thompson sampling (Ferreira, Simchi-Levi
and Wang, 2018): the price at which the kind's own choice probabilities are expected to use the target. Those fall as a
price rises, so it is found by bisection, constraint after constraint where there are several (coordinate ascent of the
convex dual), no further state being needed.

What is expected is not what happens: arms' uses are estimates, and requests differ. So the target is the bound less
what is owed: what was used beyond the bound, newer requests counting more (half after ``HALF_LIFE_REQUESTS``, or after
an hour where the charter bounds dollars an hour), paid back over a quarter of the requests that count. What is wrong in
the estimates is so made good but for a fifth of it.

A price is a pure function of the exact sums: replay finds the same one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from flywheel.policy.bounds import PricedBound
from flywheel.policy.summary import UNIT_SHIFT, Evidence, span_bounds, span_weights
from flywheel.policy.uses import UseSummary, evidence_at, newest_uses

HALF_LIFE_REQUESTS: Final = 1000.0
"""A request counts half after so many newer ones: of its arm for what an arm uses, of all for what is owed."""
HALF_LIFE_S: Final = 3600.0
_PAID_BACK: Final = 0.25
_MOST_SAVED: Final = 1.25
"""A target is at most so many times the bound, whatever was saved: what was not used at night is not used at once."""
_PRIOR_REQUESTS: Final = 2.0
_STEPS: Final = 26
_MOST_SWEEPS: Final = 12
_CLOSE: Final = 0.002
_LARGEST: Final = 1e4
"""Charge, in widths of the reward's range, of what uses the most at the largest price."""
_UNIT_S: Final = (1 << UNIT_SHIFT) / 1e6

Chosen = Callable[[tuple[float, ...]], Sequence[float]]
"""The probabilities of the arms that serve, at a charge of each."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A bound in terms of a request. ``uses``: what each arm that serves is believed to use in the mean; ``used``: what
    requests used lately; ``bound`` and ``target`` what one may use; ``requests_per_hour``: 0 but for a rate."""

    bound: PricedBound
    uses: tuple[float, ...]
    used: float
    most: float
    target: float
    requests_per_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class Price:
    """``price``: reward that a unit must bring; ``expected``: what a request uses in the mean at all prices."""

    demand: Demand
    price: float
    expected: float


def demands(
    bounds: Sequence[PricedBound], measures: Sequence[str], summary: UseSummary, arms: Sequence[str]
) -> list[Demand]:
    """Return what each bound asks of the arms that serve; a bound of which nothing is known yet is left out."""
    found = []
    believed = newest_uses(summary, len(measures), half_life=HALF_LIFE_REQUESTS)
    for bound in bounds:
        place = measures.index(bound.measure)
        by_arm = {arm: uses[place] for arm, uses in believed.items()}
        pooled = sum((by_arm[arm] for arm in sorted(by_arm)), Evidence())
        if pooled.weight <= 0:
            continue
        prior = _PRIOR_REQUESTS * pooled.total / pooled.weight
        each = [by_arm.get(arm, Evidence()) for arm in arms]
        uses = tuple((prior + own.total) / (_PRIOR_REQUESTS + own.weight) for own in each)
        demand = _hourly(bound, place, summary, uses) if bound.hourly else _mean(bound, place, summary, uses)
        if demand is not None:
            found.append(demand)
    return found


def _mean(bound: PricedBound, place: int, summary: UseSummary, uses: tuple[float, ...]) -> Demand:
    counts = {span: sum(sums[0] for sums in arms.values()) for span, arms in summary.spans.items()}
    weights = dict(span_weights(counts, summary.newest, half_life_outcomes=HALF_LIFE_REQUESTS, half_life_s=None))
    lately = _over(summary, place, weights)
    owed = lately.total - bound.most * lately.weight
    requests = _PAID_BACK * HALF_LIFE_REQUESTS / math.log(2)
    used = lately.total / lately.weight if lately.weight > 0 else 0.0
    return Demand(bound, uses, used, bound.most, _target(bound.most, owed / requests))


def _hourly(bound: PricedBound, place: int, summary: UseSummary, uses: tuple[float, ...]) -> Demand | None:
    """Return the demand of a rate in event time. The newest span is still filling, and of the oldest nobody knows when
    in it requests began, so neither tells a rate."""
    spans = sorted(summary.spans)
    closed = spans[1:-1] or spans[:-1]
    if not closed:
        return None
    since, until = span_bounds(closed[0])[0], span_bounds(closed[-1])[1]
    hours = {half_life: _weight(since, until, until, half_life) * _UNIT_S / 3600 for half_life in _RATES}
    counted, rates, lately = [], [], Evidence()
    for half_life in _RATES:
        weights = {span: _mean_weight(span, until, half_life) for span in closed}
        requests = sum(weights[span] * sums[0] for span in closed for sums in summary.spans[span].values())
        counted.append(requests)
        rates.append(requests / hours[half_life])
        lately = _over(summary, place, weights)
    rate = rates[0] if counted[0] >= _ENOUGH else rates[1]
    owed_an_hour = lately.total - bound.most * hours[HALF_LIFE_S]
    target = _target(bound.most, owed_an_hour / (_PAID_BACK * HALF_LIFE_S / 3600 / math.log(2)))
    used = lately.total / lately.weight if lately.weight > 0 else 0.0
    return Demand(bound, uses, used, bound.most / rate, target / rate, rate)


_RATES: Final = (HALF_LIFE_S / 4, HALF_LIFE_S)
"""Half-lives, in seconds, of the rate of requests: of the last quarter hour where it has ``_ENOUGH``, else of the last
hour, which is also that of what is owed."""
_ENOUGH: Final = 50.0


def _target(most: float, owed: float) -> float:
    return min(max(most - owed, 0.0), _MOST_SAVED * most)


def _weight(start: int, stop: int, now: int, half_life_s: float) -> float:
    """Return the sum of ``2 ** (-age / half_life)`` over the units from ``start`` to ``stop``, as an integral."""
    rate = math.log(2) * _UNIT_S / half_life_s
    return (math.exp(-rate * (now - stop)) - math.exp(-rate * (now - start))) / rate


def _mean_weight(span: int, now: int, half_life_s: float) -> float:
    start, stop = span_bounds(span)
    return _weight(start, stop, now, half_life_s) / (stop - start)


def _over(summary: UseSummary, place: int, weights: Mapping[int, float]) -> Evidence:
    """Return what all arms used, each span weighing so much."""
    total = Evidence()
    for span in sorted(weights):
        for _, sums in sorted(summary.spans[span].items()):
            total = total + evidence_at(sums, place, weights[span])
    return total


def solve(asked: Sequence[Demand], chosen: Chosen, width: float) -> list[Price]:
    """Return the prices at which the arms' probabilities are expected to use each demand's target, none where less is
    used anyway. Where no price is large enough, the smallest at which nearly the least possible is used.

    Args:
        chosen: the kind's probabilities at a charge of each arm; use must not rise with a charge in proportion to it.
        width: of the range of rewards.
    """
    prices = [0.0] * len(asked)

    def expected(place: int, price: float) -> float:
        tried = [*prices[:place], price, *prices[place + 1 :]]
        return _dot(chosen(charges(asked, tried)), asked[place].uses)

    for _ in range(_MOST_SWEEPS if len(asked) > 1 else 1):
        before = list(prices)
        for place, demand in enumerate(asked):
            prices[place] = _priced(demand, partial(expected, place), width)
        if all(abs(new - old) <= _CLOSE * old for new, old in zip(prices, before, strict=True)):
            break
    return [Price(demand, prices[n], expected(n, prices[n])) for n, demand in enumerate(asked)]


def _priced(demand: Demand, expected: Callable[[float], float], width: float) -> float:
    free = expected(0.0)
    spread = max(demand.uses) - min(demand.uses)
    if free <= demand.target or spread <= 0:
        return 0.0
    high = _LARGEST * width / spread
    least = expected(high)
    target = max(demand.target, least + _CLOSE * (free - least))
    if free <= target:
        return 0.0
    low = high * 1e-10
    for _ in range(_STEPS):
        price = math.sqrt(low * high)
        low, high = (price, high) if expected(price) > target else (low, price)
    # A kind that draws nothing at random jumps here: by turns, as something is owed or not, its use is in between.
    return high if demand.target < demand.most else low


def charges(asked: Sequence[Demand], prices: Sequence[float]) -> tuple[float, ...]:
    """Return what each arm that serves is charged, in reward; the one that uses least of a demand pays nothing for
    it."""
    total = [0.0] * len(asked[0].uses) if asked else []
    for demand, price in zip(asked, prices, strict=True):
        least = min(demand.uses)
        for arm, used in enumerate(demand.uses):
            total[arm] += price * (used - least)
    return tuple(total)


def _dot(shares: Sequence[float], uses: Sequence[float]) -> float:
    return math.fsum(share * used for share, used in zip(shares, uses, strict=True))
