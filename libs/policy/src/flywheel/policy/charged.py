"""What constraints make of a policy: from exact sums of use to the ``prices`` and ``standings`` of its event, and from
the event to what choosing each arm is charged.

An arm's charge is added to what a budget's price of money charges (``flywheel.policy.pressure``); the kind chooses by
reward less both, and the propensities are those of that choice. Arms that a strict floor holds to exploring are charged
more than any reward can bring, as long as another may serve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flywheel.policy.bounds import floors, measures, priced_bounds
from flywheel.policy.charter import Charter
from flywheel.policy.experiment import KINDS_BY_SHARES
from flywheel.policy.prices import Price, charges, demands, solve
from flywheel.policy.propensity import Propensities
from flywheel.policy.standings import known_measures, standings
from flywheel.policy.summary import Evidence
from flywheel.policy.uses import UseSummary, weigh_uses

WITHHELD: Final = 1e10
"""Charge of an arm that gets the floor of exploring only: above the score of any other, an untried one's included."""

Choose = Callable[[tuple[float, ...]], Propensities]
"""The probabilities of the arms that serve, at what each is charged; nothing charged: empty."""


@dataclass(frozen=True, slots=True)
class OwnCharges:
    """What a policy's own constraints charge each of its arms, in reward; ``unproven``: those held to exploring, a bit
    each."""

    charges: tuple[float, ...]
    unproven: int

    @classmethod
    def of(cls, policy_event: Mapping[str, Any]) -> OwnCharges | None:
        """Return the charges of a ``policy`` event, None where nothing is charged.

        Raises ``ValueError`` naming the field that makes no sense.
        """
        found = policy_event.get("standings", ())
        if not any(arm["charge"] or arm["unproven"] for arm in found):
            return None
        if [arm["name"] for arm in found] != [arm["name"] for arm in policy_event["arms"]]:
            raise ValueError("standings: must have the arms of the policy, in their order")
        if not all(0 <= arm["charge"] < WITHHELD for arm in found):
            raise ValueError(f"standings: a charge lies between 0 and {WITHHELD:g}")
        unproven = sum(1 << place for place, arm in enumerate(found) if arm["unproven"])
        return cls(tuple(float(arm["charge"]) for arm in found), unproven)

    def over(self, places: Sequence[int], besides: Sequence[float] = ()) -> tuple[float, ...]:
        """Return what the arms at ``places`` are charged, with what each is charged ``besides``."""
        held = [self.unproven >> place & 1 for place in places]
        withheld = WITHHELD if not all(held) else 0.0
        return tuple(
            self.charges[place] + withheld * bit + extra
            for place, bit, extra in zip(places, held, besides or (0.0,) * len(held), strict=True)
        )


def with_constraints(
    charter: Charter,
    event: dict[str, Any],
    uses: UseSummary,
    choose: Callable[[Sequence[int]], Choose],
    *,
    expected: Callable[[Sequence[int]], Choose],
    alike: Mapping[str, float],
) -> Propensities:
    """Add ``prices`` and ``standings`` to a ``policy`` event, take arms out that break a floor, and return the
    probabilities of the arms that serve, in order.

    Args:
        event: the event with all arms' beliefs.
        uses: sums of the charter's own measures.
        choose: the kind's probabilities over the arms at some places.
        expected: likewise, in the mean over contexts, by which use is expected.
        alike: what arms are charged already, by name, as their answers are alike.
    """
    arms: list[dict[str, Any]] = event["arms"]
    spec, names = charter.policy, measures(charter.constraints)
    weighed = weigh_uses(uses, len(names), half_life_outcomes=spec.half_life_outcomes, half_life_s=spec.half_life_s)
    nothing = [Evidence()] * len(names)
    found = standings(
        [arm["name"] for arm in arms],
        [arm["enabled"] for arm in arms],
        [known_measures(names, weighed.get(arm["name"], nothing)) for arm in arms],
        floors(charter.constraints),
        charter.default_arm,
    )
    for arm, standing in zip(arms, found, strict=True):
        arm["enabled"] = arm["enabled"] and standing.breaks is None
    places = [place for place, arm in enumerate(arms) if arm["enabled"]]
    before = tuple(alike.get(arm["name"], 0.0) for arm in arms)
    own = OwnCharges(before, sum(1 << n for n, each in enumerate(found) if each.unproven))
    chosen = choose(places)
    priced = places and spec.kind not in KINDS_BY_SHARES  # shares know no reward
    bounds = priced_bounds(charter.constraints) if priced else ()
    asked = demands(bounds, names, uses, [arms[place]["name"] for place in places])
    low, high = charter.reward_range
    prices = solve(asked, _within(expected(places), own, places), high - low) if asked else []
    charged = dict(zip(places, charges([p.demand for p in prices], [p.price for p in prices]), strict=False))
    event["prices"] = [_price_record(price) for price in prices]
    event["standings"] = [
        {
            "name": standing.arm,
            "charge": charged.get(place, 0.0) + before[place],
            "breaks": standing.breaks,
            "unproven": standing.unproven,
            "efficient": standing.efficient,
            "dominated_by": list(standing.dominated_by),
            "measures": [{"measure": name, **known._asdict()} for name, known in standing.known.items()],
        }
        for place, standing in enumerate(found)
    ]
    compiled = OwnCharges.of(event)
    return chosen(compiled.over(places) if compiled is not None else ())


def _within(chosen: Choose, own: OwnCharges, places: Sequence[int]) -> Callable[[tuple[float, ...]], Sequence[float]]:
    return lambda charged: chosen(own.over(places, charged)).values


def _price_record(price: Price) -> dict[str, Any]:
    demand = price.demand
    return {
        "constraint": demand.bound.constraint,
        "measure": demand.bound.measure,
        "price": price.price,
        "bound": demand.most,
        "target": demand.target,
        "expected": price.expected,
        "used": demand.used,
        "requests_per_hour": demand.requests_per_hour,
    }
