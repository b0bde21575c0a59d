"""Disjoint buckets to money, by a table of dated prices.

The table is genai-prices' (pydantic, MIT): prices with start dates, time-of-day windows and long-context tiers, in
``Decimal``. What it says of one model at one time becomes a ``RateCard``: the price per token of each bucket, or None
where the table names none. A non-zero bucket without a price makes the whole cost None, never 0: NULL is unknown and 0
is really free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from flywheel.pricing.buckets import BUCKETS, Buckets

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

DAY_US: Final = 86_400_000_000
MINUTE_US: Final = 60_000_000
COST_PLACES: Final = Decimal("1e-12")
"""Costs are kept to the picodollar, the scale of ``cost_usd`` in the call's schema; halves go to the even digit."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO: Final = Decimal(0)

# Which price of the table pays for which bucket, best first. Reasoning is billed as output and images as input wherever
# a provider publishes no price of its own for them; cached and audio tokens never are, so they have no second choice.
_PRICE_KEYS: Final[tuple[tuple[str, ...], ...]] = (
    ("input_mtok",),
    ("cache_read_mtok",),
    ("cache_write_5m_mtok", "cache_write_mtok"),
    ("cache_write_1h_mtok",),
    ("output_mtok",),
    ("output_reasoning_mtok", "output_mtok"),
    ("input_audio_mtok",),
    ("output_audio_mtok",),
    ("input_image_mtok", "input_mtok"),
)
_UNPRICED: Final = tuple(f"unpriced_{name}" for name in BUCKETS)

# OTel's gen_ai.provider.name (semantic conventions, 2026) where the table calls the provider something else.
_PROVIDER_NAMES: Final = {
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "gcp.gen_ai": "google",
    "x_ai": "x-ai",
}


class Priced(NamedTuple):
    """A price, or why there is none: ``cost_usd`` None is unknown, 0 is really free."""

    cost_usd: Decimal | None
    price_version: str | None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RateCard:
    """USD per token of each bucket (in the order of ``Buckets``; None: no price) and per request.

    ``tiers`` are other rates for the whole call, from the largest threshold down: the first whose total of input
    tokens, cached ones included, is exceeded holds (the "cliff" that OpenAI, Google and Anthropic bill by).
    """

    rates_usd: tuple[Decimal | None, ...]
    per_request_usd: Decimal = _ZERO
    tiers: tuple[tuple[int, tuple[Decimal | None, ...]], ...] = ()

    def price(self, buckets: Buckets) -> tuple[Decimal | None, tuple[str, ...]]:
        """Cost in USD and flags; None where a bucket that costs something is unknown or has no price."""
        rates = self.rates_usd
        if self.tiers:
            total_input = (
                (buckets.uncached_input_tokens or 0)
                + (buckets.cache_read_tokens or 0)
                + (buckets.cache_write_5m_tokens or 0)
                + (buckets.cache_write_1h_tokens or 0)
                + (buckets.audio_input_tokens or 0)
                + (buckets.image_input_tokens or 0)
            )
            for start, tier_rates in self.tiers:
                if total_input > start:
                    rates = tier_rates
                    break
        cost = self.per_request_usd
        flags: tuple[str, ...] = ()
        for count, rate, unpriced in zip(buckets, rates, _UNPRICED, strict=True):
            if count:
                if rate is None:
                    flags += (unpriced,)
                else:
                    cost += rate * count
        if buckets.uncached_input_tokens is None and rates[0]:
            flags += ("input_tokens_missing",)
        if buckets.visible_output_tokens is None and rates[4]:
            flags += ("output_tokens_missing",)
        return (None, flags) if flags else (cost.quantize(COST_PLACES), ())


def card_of(prices: ModelPrice) -> RateCard:
    """The rate card of one entry of the table."""
    # __dict__, not getattr: the table's own attribute access falls back in ways that hide a missing price.
    entries = [_first(prices.__dict__, keys) for keys in _PRICE_KEYS]
    starts = sorted({tier.start for entry in entries for tier in getattr(entry, "tiers", ())}, reverse=True)
    per_request = prices.__dict__.get("requests_kcount")
    return RateCard(
        rates_usd=tuple(_per_token(entry, 0) for entry in entries),
        per_request_usd=per_request.scaleb(-3) if isinstance(per_request, Decimal) else _ZERO,
        tiers=tuple((start, tuple(_per_token(entry, start + 1) for entry in entries)) for start in starts),
    )


def _first(stored: dict[str, object], keys: Sequence[str]) -> Decimal | TieredPrices | None:
    for key in keys:
        found = stored.get(key)
        if found is not None:
            return cast("Decimal | TieredPrices", found)
    return None


def _per_token(entry: Decimal | TieredPrices | None, total_input: int) -> Decimal | None:
    if entry is None:
        return None
    if isinstance(entry, Decimal):
        return entry.scaleb(-6)
    per_million = entry.base
    for tier in entry.tiers:
        if total_input > tier.start:
            per_million = tier.price
    return Decimal(per_million).scaleb(-6)


class PriceBook:
    """Prices calls by a table.

    Looking a model up costs up to a millisecond, so the card of each (provider, model, day) is kept; for a model whose
    price depends on the hour, of each minute. The caches are bounded: names come from outside.
    """

    def __init__(self, providers: Sequence[Provider], version: str, *, cached_cards: int = 8192) -> None:
        self.version = version
        self._providers = list(providers)
        self._provider: Callable[[str], Provider | None] = lru_cache(cached_cards)(self._find_provider)
        self._model: Callable[[str, str], _Found | None] = lru_cache(cached_cards)(self._find)
        self._of_day: Callable[[str, str, int], RateCard | _Found | None] = lru_cache(cached_cards)(self._read_day)
        self._of_minute: Callable[[str, str, int], RateCard | None] = lru_cache(cached_cards)(self._read_minute)

    def card(self, provider: str, model: str, at_us: int) -> RateCard | None:
        """The rates of ``model`` at ``at_us`` (microseconds since the epoch); None when the table does not know it."""
        card = self._of_day(provider, model, at_us // DAY_US)
        return self._of_minute(provider, model, at_us // MINUTE_US) if isinstance(card, _Found) else card

    def price(self, buckets: Buckets, *, provider: str, models: Sequence[str | None], at_us: int) -> Priced:
        """Price ``buckets`` by the first of ``models`` that the table knows: the model that answered, then the one
        that was asked for.

        Flags: ``unknown_model`` · ``unpriced_<bucket>`` tokens in a bucket for which the model has no price ·
        ``input_tokens_missing`` and ``output_tokens_missing`` a bucket that costs something was not counted.
        """
        for model in models:
            if model is None:
                continue
            card = self.card(provider, model, at_us)
            if card is not None:
                cost_usd, flags = card.price(buckets)
                return Priced(cost_usd, None if cost_usd is None else self.version, flags)
        return Priced(None, None, ("unknown_model",))

    def knows(self, provider: str) -> bool:
        """Whether the table has this provider under any of its names."""
        return self._provider(provider) is not None

    def _find_provider(self, provider: str) -> Provider | None:
        # Straight at the table rather than through its snapshot, which keeps every name it ever saw.
        from genai_prices.data_snapshot import find_provider_by_id

        name = provider.lower().strip()
        return find_provider_by_id(self._providers, _PROVIDER_NAMES.get(name, name))

    def _find(self, provider: str, model: str) -> _Found | None:
        from genai_prices.types import TimeOfDateConstraint

        known = self._provider(provider)
        entry = None if known is None else known.find_model(model, all_providers=self._providers)
        if entry is None:
            return None
        dated = entry.prices if isinstance(entry.prices, list) else []
        return _Found(entry, any(isinstance(each.constraint, TimeOfDateConstraint) for each in dated))

    def _read_day(self, provider: str, model: str, day: int) -> RateCard | _Found | None:
        found = self._model(provider, model)
        if found is None or found.by_time_of_day:
            return found
        return card_of(found.entry.get_prices(_EPOCH + timedelta(microseconds=day * DAY_US)))

    def _read_minute(self, provider: str, model: str, minute: int) -> RateCard | None:
        found = self._model(provider, model)
        return found and card_of(found.entry.get_prices(_EPOCH + timedelta(microseconds=minute * MINUTE_US)))


class _Found(NamedTuple):
    entry: ModelInfo
    by_time_of_day: bool


@lru_cache(maxsize=1)
def bundled_prices() -> PriceBook:
    """The table that the installed genai-prices carries; no network. Loading it takes about a second."""
    from genai_prices.data import providers

    return PriceBook(providers, f"genai-prices/{version('genai-prices')}")
