"""One call, from the raw usage object to money."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final, Literal, NamedTuple

from flywheel.pricing.book import PriceBook
from flywheel.pricing.buckets import Convention
from flywheel.pricing.rates import COST_PLACES, Rates
from flywheel.pricing.tables import Context
from flywheel.pricing.usage import Usage, normalise

CostSource = Literal["UNKNOWN", "PROVIDER", "LOCAL"]
"""Whose figure a cost is, as in the call's schema."""

DIFFERS: Final = Decimal("0.01")
"""A bill that is further than this share from our own figure is flagged."""


class PricedCall(NamedTuple):
    """A call's disjoint usage and its cost.

    ``cost_usd`` None is unknown, 0 is really free. Where the provider put its bill into the usage object, that is the
    cost (``cost_source`` PROVIDER); ``computed_usd`` is what the tables say either way. ``price_source`` is
    ``genai-prices``, ``own`` or ``provider``; ``rates`` those that were applied; ``flags`` of usage and price together.
    """

    usage: Usage
    cost_usd: Decimal | None
    cost_source: CostSource
    computed_usd: Decimal | None = None
    price_source: str | None = None
    price_version: str | None = None
    rates: Rates | None = None
    flags: tuple[str, ...] = ()


def price_call(
    raw_usage: object,
    prices: PriceBook,
    *,
    provider: str,
    models: Sequence[str | None],
    at_us: int,
    emitter: str | None = None,
    convention: Convention | None = None,
    context: Context = (),
    pool_seconds: Decimal | None = None,
) -> PricedCall:
    """Normalise a raw usage object and price it.

    ``models``: the one that answered, then the one asked for; ``at_us`` microseconds since the epoch; ``emitter`` and
    ``convention`` as for ``normalise``; ``context`` adds to what the usage object says (a service tier);
    ``pool_seconds`` how long a local model's pool was held: such a call has a price without usage.

    Flags beside those of both steps: ``reported_cost_differs`` the provider's bill is over a hundredth away from ours.

    Raises:
        EmitterUnknown: ``emitter`` is no convention.
    """
    usage = normalise(raw_usage, provider=provider, emitter=emitter, convention=convention)
    return price_usage(
        usage,
        prices,
        provider=provider,
        models=models,
        at_us=at_us,
        context=context,
        pool_seconds=pool_seconds,
    )


def price_usage(
    usage: Usage,
    prices: PriceBook,
    *,
    provider: str,
    models: Sequence[str | None],
    at_us: int,
    context: Context = (),
    pool_seconds: Decimal | None = None,
    bill: Decimal | None = None,
) -> PricedCall:
    """Price a usage that is normalised already. ``bill``: what the provider charged in USD, told beside the usage; it
    stands before one inside. For the rest see ``price_call``.
    """
    flags = usage.flags
    priced = None
    if usage.priceable or (pool_seconds is not None and flags == ("usage_missing",)):
        # What the response says was done stands before what the caller says was asked for.
        priced = prices.price(
            usage.buckets,
            provider=provider,
            models=models,
            at_us=at_us,
            context=tuple({**dict(context), **dict(usage.context)}.items()) if context else usage.context,
            pool_seconds=pool_seconds,
        )
        flags += priced.flags
    computed = None if priced is None else priced.cost_usd
    rates = None if priced is None else priced.rates
    if bill is None:
        bill = usage.reported_cost_usd
    if bill is not None:
        if computed is not None and abs(computed - bill) > DIFFERS * bill:
            flags += ("reported_cost_differs",)
        return PricedCall(usage, bill.quantize(COST_PLACES), "PROVIDER", computed, "provider", None, rates, flags)
    if priced is None or computed is None:
        return PricedCall(usage, None, "UNKNOWN", rates=rates, flags=flags)
    source = None if rates is None else rates.source
    return PricedCall(usage, computed, "LOCAL", computed, source, priced.price_version, rates, flags)
