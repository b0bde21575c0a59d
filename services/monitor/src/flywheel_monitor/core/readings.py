"""Events read as what they add to a window. Bad values are told, and never counted as something they are not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from flywheel_monitor.core.windows import Window, bin_of

FUTURE_US: Final = 5 * 60_000_000
"""What says it happened so much after the broker took it is rejected: its clock is wrong."""
MOST_TOKENS: Final = 10**9
MOST_NAME: Final = 256
_STATUS: Final = {
    "OK": (),
    "ERROR": ("failed",),
    "TIMEOUT": ("failed", "timeouts"),
    "FILTERED": ("refused",),
    "CANCELLED": ("cancelled",),
    "UNKNOWN": ("unknown",),
}
Thresholds = Mapping[str, tuple[str, float]]
"""What to hold the values of a feature's calls against: label to metric and bound."""


class Reading(NamedTuple):
    """What one event says: where it counts, when it happened (microseconds), what it adds; ``odd`` names the fields
    whose values make no sense and were left out."""

    project: str
    feature: str
    arm: str
    at_us: int
    adds: Window
    odd: tuple[str, ...] = ()


class Refused(NamedTuple):
    """An event that is not counted, by reason and field."""

    reason: str
    field: str


def call_reading(value: Mapping[str, Any], taken_us: int, thresholds: Thresholds) -> Reading | Refused:
    """Read an ``llm_call`` that the broker took at ``taken_us``."""
    refused = _misplaced(value, taken_us)
    if refused is not None:
        return refused
    adds, odd = Window(), list[str]()
    arm = value["variant"] or ""
    if value["shadow"]:
        adds.counts["shadow"] = 1
        return _reading(value, arm, adds, odd)
    adds.counts["calls"] = 1
    for name in _STATUS.get(value["status"], ("unknown",)):
        adds.counts[name] = 1
    if value["attempt"] > 1:
        adds.counts["repeated"] = 1
    _count_tokens(value, adds, odd)
    values = {
        "latency_ms": _measured(value, "latency_ms", odd),
        "ttft_ms": _measured(value, "ttft_ms", odd),
        "cost_usd": _cost(value, adds, odd),
    }
    if value["status"] in ("OK", "FILTERED"):
        # How long a failure took says nothing about how long an answer takes.
        _count_values(values, adds, thresholds)
    return _reading(value, arm, adds, odd)


def decision_reading(value: Mapping[str, Any], taken_us: int) -> Reading | Refused:
    """Read a ``decision`` that the broker took at ``taken_us``."""
    refused = _misplaced(value, taken_us)
    if refused is not None:
        return refused
    adds = Window({"decisions": 1})
    for name, said in (
        ("fallbacks", value["fallback"]),
        ("downgraded", value["downgraded_from"]),
        ("controlled", value["control"]),
    ):
        if said:
            adds.counts[name] = 1
    return _reading(value, value["arm"], adds, [])


def _reading(value: Mapping[str, Any], arm: str, adds: Window, odd: list[str]) -> Reading:
    return Reading(value["project"], value["feature"] or "", arm, value["occurred_at"], adds, tuple(odd))


def _misplaced(value: Mapping[str, Any], taken_us: int) -> Refused | None:
    for name in ("project", "feature", "variant", "arm"):
        if len(value.get(name) or "") > MOST_NAME:
            return Refused("out_of_range", name)
    if value["occurred_at"] > taken_us + FUTURE_US:
        return Refused("in_the_future", "occurred_at")
    if value["occurred_at"] < 0:
        return Refused("out_of_range", "occurred_at")
    return None


def _count_tokens(value: Mapping[str, Any], adds: Window, odd: list[str]) -> None:
    for name in ("input_tokens", "output_tokens"):
        tokens = value[name]
        if tokens is None:
            continue
        if 0 <= tokens <= MOST_TOKENS:
            adds.counts[name] = tokens
        else:
            odd.append(name)


def _count_values(values: Mapping[str, float | None], adds: Window, thresholds: Thresholds) -> None:
    latency, ttft = values["latency_ms"], values["ttft_ms"]
    if latency is not None:
        adds.latency[bin_of(latency)] = 1
    if ttft is not None:
        adds.ttft[bin_of(ttft)] = 1
    for label, (metric, below) in thresholds.items():
        found = values[metric]
        if found is not None:
            adds.within[label] = (int(found < below), 1)


def _measured(value: Mapping[str, Any], name: str, odd: list[str]) -> float | None:
    found = value[name]
    if found is None:
        return None
    if not math.isfinite(found) or found < 0:
        odd.append(name)
        return None
    return float(found)


def _cost(value: Mapping[str, Any], adds: Window, odd: list[str]) -> float | None:
    cost: Decimal | None = value["cost_usd"]
    if cost is None:
        return None
    if not cost.is_finite() or cost < 0:
        odd.append("cost_usd")
        return None
    adds.counts["cost_pico"] = int(cost.scaleb(12))
    adds.counts["priced"] = 1
    return float(cost)
