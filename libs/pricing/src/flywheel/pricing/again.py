"""A call that was priced on arrival, priced again by other tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal

from flywheel.pricing.book import PriceBook
from flywheel.pricing.calls import CostSource, PricedCall, price_usage
from flywheel.pricing.tables import Context
from flywheel.pricing.usage import Usage, counted

Verdict = Literal["changed", "same", "billed", "contradictory", "no_price"]
"""What pricing again came to: another cost, or one where there was none; the same; the provider's bill stands; usage
that contradicts itself cannot be priced; these tables have no price, so what was known stays."""

# Flags under which the buckets of a call are disjoint and add up. A list of those that forbid a price would let a new
# flag pass.
_SOUND: Final = frozenset(
    {
        "usage_convention_deduced",
        "cache_write_ttl_assumed",
        "reasoning_convention_deduced",
        "unknown_model",
        "input_tokens_missing",
        "output_tokens_missing",
        "pool_seconds_missing",
        "provider_from_model_name",
        "reported_cost_differs",
        "cost_invalid",
        "ttft_exceeds_latency",
        "latency_invalid",
        "attribute_invalid",
        "content_dropped",
        "contains_call",
        "cost_not_usd",
        "provider_missing",
        "request_model_missing",
    }
)


@dataclass(frozen=True, slots=True)
class ArrivedCall:
    """A call as it is stored: ``counts`` by the names of ``split_usage`` with totals that include every bucket,
    ``flags`` those of its arrival, ``cost_usd`` and ``cost_source`` the newest known. ``at_us``: microseconds since the
    epoch."""

    provider: str
    models: Sequence[str | None]
    at_us: int
    counts: Mapping[str, int | None]
    cost_usd: Decimal | None
    cost_source: CostSource
    flags: tuple[str, ...] = ()
    context: Context = ()
    pool_seconds: Decimal | None = field(default=None)


def price_again(call: ArrivedCall, prices: PriceBook) -> tuple[Verdict, PricedCall | None]:
    """What ``call`` costs by ``prices`` at the time it was made, and whether that is news."""
    if call.cost_source == "PROVIDER":
        return "billed", None
    usage = _usage(call)
    if usage is None:
        return "contradictory", None
    priced = price_usage(
        usage,
        prices,
        provider=call.provider,
        models=call.models,
        at_us=call.at_us,
        context=call.context,
        pool_seconds=call.pool_seconds,
    )
    if priced.cost_usd is None:
        return "no_price", priced
    return ("same" if priced.cost_usd == call.cost_usd else "changed"), priced


def _usage(call: ArrivedCall) -> Usage | None:
    flags = {flag for flag in call.flags if not flag.startswith("unpriced_")} - _SOUND
    if flags == {"usage_missing"}:
        return Usage(flags=("usage_missing",))
    if flags:
        return None
    usage = counted(call.counts, "INCLUSIVE")
    return usage if usage.priceable or usage.flags == ("usage_missing",) else None
