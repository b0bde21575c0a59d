"""A call's usage to disjoint buckets, and those to money: the one place where ingest meets pricing. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from flywheel.pricing import BUCKETS, EMITTERS, EmitterUnknown, PriceBook, Usage, counted, normalise, price_usage
from flywheel_ingest.items import FieldError
from flywheel_ingest.values import ValueInvalid, fractions, seconds, usd

PRICE_CONTEXT: Final = ("service_tier", "processing", "speed", "inference_geo")
"""What a call may say of its price besides usage, provider and model."""

# Free text has no place in a field that nobody redacts; what is no word is no tier that has a price either.
_WORD: Final = re.compile(r"[A-Za-z0-9_.:-]{1,32}", re.ASCII)
_NO_WORD: Final = "other"
_COUNTS: Final = ("input_tokens", "output_tokens", *BUCKETS)


class CostInvalid(ValueError):
    """A field of a call that makes its cost impossible to tell; ``error`` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.error = FieldError(field, message)


def put_cost(event: dict[str, Any], prices: PriceBook) -> None:
    """Fill a call's buckets, its cost where it was not told, whose price that is, and the flags.

    Usage comes as counts by our own names, or as the provider's raw object (``usage``, which is taken out). What
    contradicts itself stays as it was told, flagged and without a price.

    Raises:
        CostInvalid: a raw object beside counts, an emitter nobody declared, shares that do not add up to 1, …
    """
    if "shares" in event:
        event["shares"] = _checked(event, "shares", fractions)
    told = event.pop("usage", None)
    if told is not None:
        usage = _normalised(event, told)
    elif "usage_emitter" in event:
        raise CostInvalid("usage_emitter", "is given only beside usage")
    else:
        usage = counted(event, event.get("usage_convention", "UNKNOWN"))
    if usage.priceable:
        event["input_tokens"] = usage.input_tokens
        event["output_tokens"] = usage.output_tokens
        for name, count in zip(BUCKETS, usage.buckets, strict=True):
            if count is not None:
                event[name] = count
    _price(event, usage, prices)


def _normalised(event: dict[str, Any], told: object) -> Usage:
    if not isinstance(told, Mapping):
        raise CostInvalid("usage", "is the provider's usage object")
    beside = next((name for name in _COUNTS if name in event), None)
    if beside is not None:
        raise CostInvalid("usage", f"is not given beside {beside}")
    emitter, convention = event.get("usage_emitter"), event.get("usage_convention")
    try:
        usage = normalise(told, provider=event["provider"], emitter=emitter, convention=convention)
    except EmitterUnknown:
        raise CostInvalid("usage_emitter", f"is none of {', '.join(sorted(EMITTERS))}") from None
    if usage.emitter is not None:
        event["usage_emitter"] = usage.emitter
    if convention is None:
        event["usage_convention"] = usage.convention
    event.setdefault("usage_source", "PROVIDER")
    event.update({name: count for name, count in usage.reported.items() if count is not None})
    return usage


def _price(event: dict[str, Any], usage: Usage, prices: PriceBook) -> None:
    bill = _checked(event, "cost_usd", usd) if "cost_usd" in event else None
    priced = price_usage(
        usage,
        prices,
        provider=event["provider"],
        models=(event.get("response_model"), event["request_model"]),
        at_us=event["occurred_at"],
        context=_context(event, usage) if usage.context or "price_context" in event else (),
        pool_seconds=_checked(event, "pool_seconds", seconds) if "pool_seconds" in event else None,
        bill=bill,
    )
    rates = priced.rates
    if rates is not None:
        event["price_source"], event["price_model"] = rates.source, rates.model
        if rates.above_tokens is not None:
            event["price_above_tokens"] = rates.above_tokens
    if bill is None:
        event["cost_source"] = priced.cost_source
        event["price_version"] = None if rates is None else rates.version
    elif event.setdefault("cost_source", "PROVIDER") == "PROVIDER" and rates is not None:
        event["price_version"] = rates.version
    if event["cost_source"] == "PROVIDER":
        event["price_source"] = "provider"
        event["computed_usd"] = priced.computed_usd
    event["cost_usd"] = priced.cost_usd
    flags = priced.flags
    ttft_ms, latency_ms = event.get("ttft_ms"), event.get("latency_ms")
    if ttft_ms is not None and latency_ms is not None and ttft_ms > latency_ms:
        flags += ("ttft_exceeds_latency",)
    if flags:
        event["flags"] = list(flags)


def _context(event: dict[str, Any], usage: Usage) -> tuple[tuple[str, str], ...]:
    """What the item says, and over it what the usage object says was done; both are kept with the call."""
    told = event.get("price_context", {})
    for key, value in told.items():
        if key not in PRICE_CONTEXT:
            raise CostInvalid(f"price_context.{key}", f"is none of {', '.join(PRICE_CONTEXT)}")
        if _WORD.fullmatch(value) is None:
            raise CostInvalid(f"price_context.{key}", "is one word of at most 32 letters, digits and .:_-")
    context = {**told, **{key: word(value) for key, value in usage.context}}
    event["price_context"] = context
    return tuple(context.items())


def word(value: str) -> str:
    """What a tier is called, or ``other`` for what is no name: that has no price of its own either."""
    return value if _WORD.fullmatch(value) else _NO_WORD


def _checked(event: dict[str, Any], name: str, check: Callable[[object], Any]) -> Any:
    try:
        event[name] = check(event[name])
    except ValueInvalid as error:
        raise CostInvalid(name, str(error)) from None
    return event[name]
