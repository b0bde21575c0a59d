"""The composite reward of a request: quality less priced cost and latency, from whatever parts are there.

``reward = quality - cost / ref_cost_usd * w_cost - latency / ref_latency_ms * w_latency``, clipped to the charter's
range. Money is added up as ``Decimal`` and becomes a float only in the last division. Unobserved is never 0: what a
missing part means is declared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from flywheel.policy.charter import Charter
from flywheel.policy.summary import NANO


class Attempt(NamedTuple):
    """One call that counted for the request (shadow calls do not). Null is unknown."""

    status: str
    cost_usd: Decimal | None
    latency_ms: float | None


class Composition(NamedTuple):
    """A reward with its parts.

    ``ready``: whether an outcome can be told; ``reward_nano`` is null when a part it needs is missing.
    ``parts``: each quality part as observed, and ``quality``, ``cost`` and ``latency`` as they entered the sum.
    ``missing``: quality parts that had not arrived.
    """

    ready: bool
    reward_nano: int | None
    quality: float | None
    cost_usd: Decimal | None
    latency_ms: float | None
    parts: dict[str, float]
    missing: tuple[str, ...]

    @property
    def reward(self) -> float | None:
        """Reward as a float: exactly what the summaries add up."""
        return None if self.reward_nano is None else self.reward_nano / NANO


@dataclass(frozen=True, slots=True)
class RewardRule:
    """A charter's reward, ready to be applied many times."""

    quality: tuple[tuple[str, float], ...]
    cost_weight: float
    latency_weight: float
    reference_cost_usd: float
    reference_latency_ms: float
    low: float
    high: float
    wait: bool
    renormalise: bool
    omit_cost: bool
    omit_latency: bool
    failed_is_zero: bool

    @classmethod
    def of(cls, charter: Charter) -> RewardRule:
        """Return the rule of a charter."""
        low, high = charter.reward_range
        missing = charter.missing
        return cls(
            quality=tuple(charter.quality.items()),
            cost_weight=charter.weights.cost,
            latency_weight=charter.weights.latency,
            reference_cost_usd=charter.reference.cost_usd,
            reference_latency_ms=charter.reference.latency_ms,
            low=low,
            high=high,
            wait=missing.wait,
            renormalise=missing.quality == "renormalise" or not missing.wait,
            omit_cost=missing.cost == "omit",
            omit_latency=missing.latency == "omit",
            failed_is_zero=missing.failed == "zero",
        )


def compose(
    rule: RewardRule,
    quality: Mapping[str, float],
    attempts: Sequence[tuple[str, Decimal | None, float | None]],
    *,
    closed: bool,
) -> Composition:
    """Return the reward of a request from its quality parts (by name, 0 to 1) and the attempts made for it
    (``Attempt``, or the like as plain tuples).

    ``closed``: the attribution window has passed, nothing more is waited for. Without an attempt nothing is ready
    until then.
    """
    cost, latency, tried, failures = _totals(attempts)
    zero = rule.failed_is_zero and failures > 0 and failures == tried
    parts: dict[str, float] = {}
    missing: list[str] = []
    total = weight = 0.0
    for name, share in rule.quality:
        value = quality.get(name)
        if value is not None:
            parts[name] = value
        elif zero:
            value = 0.0
        else:
            missing.append(name)
            continue
        total += share * value
        weight += share
    ready = closed or (tried > 0 and (not missing or not rule.wait or (rule.failed_is_zero and failures > 0)))
    mean = _quality(rule, total, weight, missing, closed)
    reward_nano = _reward(rule, mean, cost, latency, parts) if tried and ready else None
    return Composition(ready, reward_nano, mean, cost, latency, parts, tuple(missing))


def _quality(rule: RewardRule, total: float, weight: float, missing: list[str], closed: bool) -> float | None:
    if not missing:
        return total
    if rule.renormalise and weight > 0 and (closed or not rule.wait):
        return total / weight
    return None


def _reward(
    rule: RewardRule, quality: float | None, cost: Decimal | None, latency: float | None, parts: dict[str, float]
) -> int | None:
    """Return the reward in nano units and write the terms into ``parts``."""
    reward: float | None = quality
    if quality is None and not rule.quality:
        reward = 0.0
    elif quality is not None:
        parts["quality"] = quality
    if rule.cost_weight:
        if cost is not None:
            parts["cost"] = term = -float(cost) / rule.reference_cost_usd * rule.cost_weight
            reward = None if reward is None else reward + term
        elif not rule.omit_cost:
            reward = None
    if rule.latency_weight:
        if latency is not None:
            parts["latency"] = term = -latency / rule.reference_latency_ms * rule.latency_weight
            reward = None if reward is None else reward + term
        elif not rule.omit_latency:
            reward = None
    if reward is None:
        return None
    return round(min(max(reward, rule.low), rule.high) * NANO)


def _totals(
    attempts: Sequence[tuple[str, Decimal | None, float | None]],
) -> tuple[Decimal | None, float | None, int, int]:
    """Return cost and latency of all attempts, their number and how many failed.

    An attempt the provider refused with an error and gave no cost for cost nothing; any other unknown makes the sum
    unknown.
    """
    if len(attempts) == 1:
        status, cost_usd, latency_ms = attempts[0]
        free = cost_usd is None and status == "ERROR"
        return Decimal(0) if free else cost_usd, latency_ms, 1, int(status in ("ERROR", "TIMEOUT"))
    cost: Decimal | None = Decimal(0)
    latency: float | None = 0.0
    tried = failures = 0
    for status, attempt_cost, attempt_latency in attempts:
        tried += 1
        failed = status in ("ERROR", "TIMEOUT")
        failures += failed
        if cost is not None and not (attempt_cost is None and status == "ERROR"):
            cost = None if attempt_cost is None else cost + attempt_cost
        if latency is not None:
            latency = None if attempt_latency is None else latency + attempt_latency
    return (cost, latency, tried, failures) if tried else (None, None, 0, 0)
