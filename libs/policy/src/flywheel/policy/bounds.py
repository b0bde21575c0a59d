"""What a charter's ``constraints`` ask of deciding: means that prices keep, and floors that arms must not be below.

- Priced, kept in the mean over all requests of the feature (``flywheel.policy.prices``): ``p95_latency_ms: L`` (also
  50, 75, 90, 99: at most 5 % of requests slower than L), ``latency_ms``, ``cost_usd`` (means a request) and
  ``usd_per_hour``. The calls of a request are added up.
- Floors, held by every arm that serves (``flywheel.policy.standings``): ``quality`` (the charter's own) or the name of
  an evaluator or kind of feedback, with ``min``, or with ``max`` where less is better (safety).

Any other name is only watched by the detector.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol

from flywheel.policy.declared_values import Declared, Number
from flywheel.policy.experiment import KINDS_BY_SHARES
from flywheel.policy.summary import NANO

QUALITY, COST, LATENCY = "quality", "cost_usd", "latency_ms"
SCORE = "score:"
_FRONT = (QUALITY, COST, LATENCY)
"""Measures of the Pareto front, the first of every charter's."""
MOST_MEASURED = 256
"""Arms times measures of a charter. The sums of ten years, every one at its widest and arms' names of six letters, make
a message of 2.0 MB then, which is what topics take (2 MiB)."""
SUMS_OF_MEASURE = 6
"""Sums with features that take the room of a measure's in an event."""
_PER_HOUR = "usd_per_hour"
_SLOW = re.compile(r"^p(50|75|90|95|99)_latency_ms$", re.ASCII)
_OF_CALLS = re.compile(
    r"^(p\d+_\w+|error_rate|refusal_rate|ttft_ms|latency_ms|cost_usd|usd_per_hour|input_tokens|output_tokens|cache_share)$",
    re.ASCII,
)


class Limit(Declared):
    """A bound on a metric; a bare number is a maximum. ``strict``: an arm must be proven to keep a floor before it gets
    more than the floor of exploring."""

    min: Number | None = None
    max: Number | None = None
    strict: bool = False


class Composed(Protocol):
    """The parts of a request, see ``flywheel.policy.reward.Composition``; null is unknown."""

    @property
    def quality(self) -> float | None: ...
    @property
    def cost_usd(self) -> Decimal | None: ...
    @property
    def latency_ms(self) -> float | None: ...


class PricedBound(NamedTuple):
    """A constraint that has a price: the mean of ``measure`` is at most ``most`` (US dollars, milliseconds, or a share
    of requests; US dollars an hour where ``hourly``)."""

    constraint: str
    measure: str
    most: float
    hourly: bool = False


class Floor(NamedTuple):
    """A constraint on each arm: its mean of ``measure`` (0 to 1) lies between ``least`` and ``most``."""

    constraint: str
    measure: str
    least: float
    most: float
    strict: bool


def priced_bounds(constraints: Mapping[str, Limit]) -> tuple[PricedBound, ...]:
    """Return the constraints that have a price, by name."""
    found = []
    for name, limit in sorted(constraints.items()):
        slow = _SLOW.match(name)
        if limit.max is None or limit.max <= 0:
            continue
        if slow:
            found.append(PricedBound(name, slower_than(limit.max), round(1.0 - int(slow[1]) / 100.0, 9)))
        elif name == _PER_HOUR:
            found.append(PricedBound(name, COST, limit.max, hourly=True))
        elif name in (COST, LATENCY):
            found.append(PricedBound(name, name, limit.max))
    return tuple(found)


def floors(constraints: Mapping[str, Limit]) -> tuple[Floor, ...]:
    """Return the constraints on each arm, by name; what nothing can break is left out."""
    found = [
        Floor(
            name,
            name if name == QUALITY else f"{SCORE}{name}",
            0.0 if limit.min is None else limit.min,
            1.0 if limit.max is None else limit.max,
            limit.strict,
        )
        for name, limit in sorted(constraints.items())
        if not _OF_CALLS.match(name)
    ]
    return tuple(
        floor for floor in found if 0 <= floor.least <= floor.most <= 1 and (floor.least > 0 or floor.most < 1)
    )


def measures(constraints: Mapping[str, Limit]) -> tuple[str, ...]:
    """Return the measures that sums are kept of: those of the front, then what constraints need besides."""
    needed = [bound.measure for bound in priced_bounds(constraints)] + [f.measure for f in floors(constraints)]
    return tuple(dict.fromkeys((*_FRONT, *needed)))


def slower_than(limit_ms: float) -> str:
    """Return the measure that is 1 for a request slower than ``limit_ms`` and else 0."""
    return f"{LATENCY}>{limit_ms:.12g}"


def constraint_problem(constraints: Mapping[str, Limit], kind: str, explore_floor: float, arms: int) -> str | None:
    """Return what cannot be held among the constraints of a charter, with its field; None where all can."""
    held = {floor.constraint for floor in floors(constraints)}
    for name, limit in sorted(constraints.items()):
        if limit.strict and name not in held:
            return f"constraints.{name}.strict: only a floor of quality or of a score, between 0 and 1, can be"
        if limit.strict and (kind in KINDS_BY_SHARES or explore_floor <= 0):
            return (
                f"constraints.{name}.strict: needs policy.explore_floor and a kind that chooses by reward, "
                "as what is never tried is never proven"
            )
    count = len(measures(constraints))
    if arms * count > MOST_MEASURED:
        return f"constraints: {arms} arms with {count} measures keep sums of {arms * count}, at most {MOST_MEASURED}"
    return None


def uses_of(names: Sequence[str], composed: Composed, scores: Mapping[str, float]) -> list[int | None]:
    """Return what a request used of each measure, in units of 1e-9; null where it was not observed."""
    quality, cost_usd, latency_ms = composed.quality, composed.cost_usd, composed.latency_ms
    found = [
        None if quality is None else round(quality * NANO),
        None if cost_usd is None else round(cost_usd * NANO),
        None if latency_ms is None else round(latency_ms * NANO),
    ]
    for name in names[len(_FRONT) :]:
        if name.startswith(SCORE):
            score = scores.get(name[len(SCORE) :])
            found.append(None if score is None else round(score * NANO))
        else:
            found.append(None if latency_ms is None else NANO * (latency_ms > float(name.partition(">")[2])))
    return found
