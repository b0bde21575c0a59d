"""What an incident did to the figures: each measure before, during and after it, and what it came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Final, Literal

from flywheel.incident.records import Figures
from flywheel.incident.timeline import Phase, PhaseName

Worse = Literal["up", "down", "either"]
DURING: Final[tuple[PhaseName, ...]] = ("unnoticed", "noticed", "acted on")


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure that is watched: ``read`` takes it out of ``Figures``; ``worse`` says which way is bad."""

    name: str
    label: str
    unit: str
    worse: Worse
    read: Callable[[Figures], float | None]


MEASURES: Final[tuple[Measure, ...]] = (
    Measure("calls", "calls", "", "either", lambda of: float(of.calls)),
    Measure("error_rate", "error rate", "%", "up", lambda of: _percent(of.error_rate)),
    Measure("refusal_rate", "refusal rate", "%", "up", lambda of: _percent(of.refusal_rate)),
    Measure("cost_per_call", "cost per call", "USD", "up", lambda of: of.cost_per_call),
    Measure("p50_ms", "latency p50", "ms", "up", lambda of: of.p50_ms),
    Measure("p95_ms", "latency p95", "ms", "up", lambda of: of.p95_ms),
    Measure("reward", "mean reward", "", "down", lambda of: of.reward),
    Measure("quality", "mean quality", "", "down", lambda of: of.quality),
)
BY_KIND: Final[Mapping[str, str]] = MappingProxyType(
    {
        "error_rate": "error_rate", "circuit": "error_rate", "refusal_rate": "refusal_rate",
        "cost_per_call": "cost_per_call", "budget_threshold": "cost_per_call", "budget_exhausted": "cost_per_call",
        "budget_forecast": "cost_per_call", "latency": "p95_ms", "quality": "quality", "silence": "calls",
        "traffic": "calls", "arm_share": "calls",
    }
)  # fmt: skip
"""Which measure shows what an alert of this kind is about; ``reward`` for any other kind."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The figures of one arm in one phase or bucket; ``arm`` None: of all arms together."""

    start_us: int
    arm: str | None
    figures: Figures


@dataclass(frozen=True, slots=True)
class PhaseFigures:
    """A phase with the figures of all arms together and of each."""

    phase: Phase
    whole: Figures
    arms: Mapping[str, Figures]


@dataclass(frozen=True, slots=True)
class Impact:
    """What came on top of what would have been as before, from the beginning to the end of an incident.

    Each is (rate during - rate before) x how many there were: negative where it was better than before, None where
    either is not known. ``extra_cost_usd`` is of the calls with a price; ``lost_reward`` of outcomes with a reward.
    """

    calls: int
    extra_errors: float | None
    extra_refusals: float | None
    extra_cost_usd: Decimal | None
    lost_reward: float | None


def measure_named(name: str) -> Measure:
    """The measure of this name. Raises ``KeyError``."""
    return {each.name: each for each in MEASURES}[name]


def measure_of(kind: str) -> Measure:
    """The measure that shows what an alert of this kind is about."""
    return measure_named(BY_KIND.get(kind, "reward"))


def by_phase(phases: Sequence[Phase], cells: Sequence[Cell]) -> tuple[PhaseFigures, ...]:
    """Put the figures of each phase beside it; a phase that nothing was seen in has figures of zero calls."""
    whole = {cell.start_us: cell.figures for cell in cells if cell.arm is None}
    arms: dict[int, dict[str, Figures]] = {}
    for cell in cells:
        if cell.arm is not None:
            arms.setdefault(cell.start_us, {})[cell.arm] = cell.figures
    return tuple(
        PhaseFigures(each, whole.get(each.start_us, Figures()), MappingProxyType(arms.get(each.start_us, {})))
        for each in phases
    )


def impact(found: Sequence[PhaseFigures]) -> Impact | None:
    """Return what an incident came to; None where nothing was called before it or during it."""
    before = next((each.whole for each in found if each.phase.name == "before"), Figures())
    during = [each.whole for each in found if each.phase.name in DURING]
    calls = sum(each.calls for each in during)
    if not before.calls or not calls:
        return None
    priced = sum(each.priced for each in during)
    cost = sum((each.cost_usd for each in during if each.cost_usd is not None), Decimal(0))
    extra_cost = None
    if priced and before.priced and before.cost_usd is not None:
        extra_cost = cost - before.cost_usd * priced / before.priced
    rewarded = [each for each in during if each.reward is not None]
    lost = None
    if rewarded and before.reward is not None:
        lost = sum((before.reward - each.reward) * each.rewarded for each in rewarded if each.reward is not None)
    return Impact(
        calls=calls,
        extra_errors=sum(each.errors for each in during) - before.errors / before.calls * calls,
        extra_refusals=sum(each.refused for each in during) - before.refused / before.calls * calls,
        extra_cost_usd=extra_cost,
        lost_reward=lost,
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share
