"""Bounds that a charter declares under ``constraints``, as far as single calls and scores can break them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from flywheel_detector.core.facts import MAX_NAME, MOST
from flywheel_detector.core.measures import SCORE, is_measure, measure_of

GUARDRAIL: Final = "guardrail"
MAX_GUARDRAILS: Final = 32
"""Of a feature; a charter's further ones are not watched."""
_QUANTILE: Final = re.compile(r"^p(50|75|90|95|99)_(\w+)$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One bound. ``quantile``: the share of values that must lie at or below ``limit``; None where the mean must keep
    it. It is watched as the mean of figures of 0 or more (`figure`), which must not lie above `bound`."""

    name: str
    measure: str
    side: Literal["max", "min"]
    limit: float
    quantile: float | None = None

    @property
    def label(self) -> str:
        """What it is known by, whatever the limit."""
        return f"{self.name} {self.side}"

    @property
    def bound(self) -> float:
        """What the mean of figures may be at most."""
        if self.quantile is not None:
            return round(1.0 - self.quantile, 9)
        if self.side == "min":
            return 1.0 - self.limit
        return self.limit if measure_of(self.measure).least is None else 1.0

    def figure(self, value: float) -> float:
        """The figure of a value: above the limit or not, how far below 1, or the value (of money, time and tokens in
        units of the limit)."""
        if self.quantile is not None:
            return float(value > self.limit)
        if self.side == "min":
            return max(1.0 - value, 0.0)
        return value if measure_of(self.measure).least is None else value / self.limit

    def shown(self, mean: float) -> float:
        """A mean of figures as a person knows it: a share of calls, or a mean in the measure's unit."""
        if self.quantile is not None:
            return mean
        if self.side == "min":
            return 1.0 - mean
        return mean if measure_of(self.measure).least is None else mean * self.limit

    def said(self, mean: float) -> str:
        """How it stands, in words."""
        unit = measure_of(self.measure).unit
        limit = f"{self.limit:.4g}{' ' + unit if unit else ''}"
        if self.quantile is not None:
            return f"{mean:.1%} of {self.measure} above {limit}, {self.bound:.3g} may be"
        return f"{self.name} {self.shown(mean):.4g}, at {'most' if self.side == 'max' else 'least'} {limit} declared"


def guardrails_of(bounds: Mapping[str, Any]) -> tuple[Guardrail, ...]:
    """Return the guardrails of a ledger entry's bounds, ``{name: [min, max]}``.

    ``p95_latency_ms`` (also 50, 75, 90, 99; any measure of money, time or tokens) bounds a quantile from above; a
    measure's own name its mean; any other name is that of an evaluator or kind of feedback, whose mean score it
    bounds. What nothing can break (a rate of at most 1), what is not of calls (``usd_per_hour``) and lower bounds of
    money, time and tokens are left out. Raises ``ValueError`` for what are no bounds.
    """
    found: list[Guardrail] = []
    for name, limits in sorted(bounds.items()):
        if not isinstance(limits, list) or len(limits) != 2 or not all(_is_limit(each) for each in limits):
            raise ValueError("bounds: for each name a least and a largest value, or null")
        low, high = limits
        if 0 < len(name) <= MAX_NAME:
            found += [each for each in (_above(name, high), _below(name, low)) if each is not None]
    return tuple(found[:MAX_GUARDRAILS])


def _above(name: str, limit: float | None) -> Guardrail | None:
    if limit is None or not 0 <= limit < MOST:
        return None
    quantile = _QUANTILE.match(name)
    if quantile and is_measure(quantile[2]) and measure_of(quantile[2]).least is not None:
        return Guardrail(name, quantile[2], "max", float(limit), int(quantile[1]) / 100.0)
    measure = _measure(name)
    sensible = limit < 1 if measure_of(measure).least is None else limit > 0
    return Guardrail(name, measure, "max", float(limit)) if sensible else None


def _below(name: str, limit: float | None) -> Guardrail | None:
    measure = _measure(name)
    if limit is None or not 0 < limit <= 1 or measure_of(measure).least is not None:
        return None
    return Guardrail(name, measure, "min", float(limit))


def _measure(name: str) -> str:
    return name if is_measure(name) else f"{SCORE}{name}"


def _is_limit(value: Any) -> bool:
    return value is None or type(value) in (int, float)
