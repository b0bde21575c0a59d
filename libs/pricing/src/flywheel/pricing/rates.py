"""What one model costs at one time: a rate for each bucket, and the price of a call by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from flywheel.pricing.buckets import BUCKETS, Buckets

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice, TieredPrices

COST_PLACES: Final = Decimal("1e-12")
"""Costs are kept to the picodollar, the scale of ``cost_usd`` in the call's schema; halves go to the even digit."""

_ZERO: Final = Decimal(0)

# Which price of the table pays for which bucket, best first. Reasoning is billed as output, images and video as input
# wherever a provider publishes no price of its own for them; cached and audio tokens and images that a model makes
# never are, so they have no second choice.
PRICE_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "uncached_input_tokens": ("input_mtok",),
    "cache_read_tokens": ("cache_read_mtok",),
    "cache_write_5m_tokens": ("cache_write_5m_mtok", "cache_write_mtok"),
    "cache_write_1h_tokens": ("cache_write_1h_mtok",),
    "visible_output_tokens": ("output_mtok",),
    "reasoning_tokens": ("output_reasoning_mtok", "output_mtok"),
    "audio_input_tokens": ("input_audio_mtok",),
    "audio_output_tokens": ("output_audio_mtok",),
    "image_input_tokens": ("input_image_mtok", "input_mtok"),
    "video_input_tokens": ("input_video_mtok", "input_mtok"),
    "image_output_tokens": ("output_image_mtok",),
    "video_output_tokens": ("output_video_mtok",),
    "audio_cache_read_tokens": ("cache_audio_read_mtok",),
    "image_cache_read_tokens": ("cache_image_read_mtok", "cache_read_mtok"),
    "web_searches": ("web_searches_kcount",),
}
REQUESTS_KEY: Final = "requests_kcount"
POOL_SECONDS_KEY: Final = "pool_seconds"
"""USD per second of the pool that serves a local model; ours, the public table has no such price."""

_KEYS: Final = tuple(PRICE_KEYS[name] for name in BUCKETS)
_SCALES: Final = tuple(-3 if keys[0].endswith("_kcount") else -6 for keys in _KEYS)
_UNPRICED: Final = tuple(f"unpriced_{name}" for name in BUCKETS)
_VISIBLE: Final = BUCKETS.index("visible_output_tokens")


@dataclass(frozen=True, slots=True)
class Rates:
    """Where rates come from, and USD per unit of each bucket (in the order of ``Buckets``; None: no price).

    ``source`` is ``genai-prices`` or ``own``, ``model`` the entry of that table, ``above_tokens`` the long-context
    threshold that was exceeded, if one was.
    """

    source: str
    version: str
    model: str
    usd: tuple[Decimal | None, ...]
    per_request_usd: Decimal = _ZERO
    per_pool_second_usd: Decimal | None = None
    above_tokens: int | None = None

    def named(self) -> dict[str, Decimal]:
        """USD per unit by bucket, for those that have a price."""
        return {name: rate for name, rate in zip(BUCKETS, self.usd, strict=True) if rate is not None}


class Priced(NamedTuple):
    """A price, or why there is none: ``cost_usd`` None is unknown, 0 is really free. ``rates``: those applied."""

    cost_usd: Decimal | None
    price_version: str | None
    flags: tuple[str, ...] = ()
    rates: Rates | None = None


@dataclass(frozen=True, slots=True)
class RateCard:
    """A model's rates at one time.

    ``tiers`` are other rates for the whole call, from the largest threshold down: the first whose total of input
    tokens, cached ones included, is exceeded holds (the "cliff" that OpenAI, Google and Anthropic bill by).
    ``missing`` names what was asked of the model (a service tier) that the table has no price for.
    """

    base: Rates
    tiers: tuple[tuple[int, Rates], ...] = ()
    missing: tuple[str, ...] = ()

    def price(self, buckets: Buckets, pool_seconds: Decimal | None = None) -> Priced:
        """Cost in USD and flags; None where a bucket that costs something is unknown or has no price."""
        rates = self._applicable(buckets) if self.tiers else self.base
        cost = rates.per_request_usd
        flags = self.missing
        per_second = rates.per_pool_second_usd
        usd = rates.usd
        for place, count in enumerate(buckets):
            if count:
                rate = usd[place]
                if rate is not None:
                    cost += rate * count
                elif per_second is None:
                    flags += (_UNPRICED[place],)
        if buckets[0] is None and usd[0]:
            flags += ("input_tokens_missing",)
        if buckets[_VISIBLE] is None and usd[_VISIBLE]:
            flags += ("output_tokens_missing",)
        if per_second is not None:
            if pool_seconds is None:
                flags += ("pool_seconds_missing",)
            else:
                cost += per_second * pool_seconds
        if flags:
            return Priced(None, None, flags, rates)
        return Priced(cost.quantize(COST_PLACES), rates.version, (), rates)

    def _applicable(self, buckets: Buckets) -> Rates:
        total_input = (
            (buckets.uncached_input_tokens or 0)
            + (buckets.cache_read_tokens or 0)
            + (buckets.cache_write_5m_tokens or 0)
            + (buckets.cache_write_1h_tokens or 0)
            + (buckets.audio_input_tokens or 0)
            + (buckets.image_input_tokens or 0)
            + (buckets.video_input_tokens or 0)
            + (buckets.audio_cache_read_tokens or 0)
            + (buckets.image_cache_read_tokens or 0)
        )
        for start, rates in self.tiers:
            if total_input > start:
                return rates
        return self.base


def card_of(prices: ModelPrice, *, source: str, version: str, model: str, missing: tuple[str, ...] = ()) -> RateCard:
    """The rate card of one entry of a table."""
    # __dict__, not getattr: the table's own attribute access falls back in ways that hide a missing price.
    stored = prices.__dict__
    entries = [_first(stored, keys) for keys in _KEYS]
    starts = sorted({tier.start for entry in entries for tier in getattr(entry, "tiers", ())}, reverse=True)
    per_request, per_second = stored.get(REQUESTS_KEY), stored.get(POOL_SECONDS_KEY)

    def rates(total_input: int, above: int | None) -> Rates:
        return Rates(
            source=source,
            version=version,
            model=model,
            usd=tuple(_per_unit(entry, scale, total_input) for entry, scale in zip(entries, _SCALES, strict=True)),
            per_request_usd=per_request.scaleb(-3) if isinstance(per_request, Decimal) else _ZERO,
            per_pool_second_usd=per_second if isinstance(per_second, Decimal) else None,
            above_tokens=above,
        )

    return RateCard(rates(0, None), tuple((start, rates(start + 1, start)) for start in starts), missing)


def _first(stored: Mapping[str, object], keys: Sequence[str]) -> Decimal | TieredPrices | None:
    for key in keys:
        found = stored.get(key)
        if found is not None:
            return cast("Decimal | TieredPrices", found)
    return None


def _per_unit(entry: Decimal | TieredPrices | None, scale: int, total_input: int) -> Decimal | None:
    if entry is None:
        return None
    if isinstance(entry, Decimal):
        return entry.scaleb(scale)
    price = entry.base
    for tier in entry.tiers:
        if total_input > tier.start:
            price = tier.price
    return Decimal(price).scaleb(scale)
