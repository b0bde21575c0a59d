"""A table of dated prices: which rates a provider asked for a model at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from flywheel.pricing.rates import RateCard, card_of

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

DAY_US: Final = 86_400_000_000
MINUTE_US: Final = 60_000_000
Context = tuple[tuple[str, str], ...]
"""What else was asked for and changes the price, as pairs: ``(("service_tier", "flex"),)``."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# OTel's gen_ai.provider.name (semantic conventions, 2026) and names of SDKs where the table has another, or where one
# of its patterns would take the name for a different provider.
_PROVIDER_NAMES: Final = {
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "azure_openai": "azure",
    "azure-openai": "azure",
    "azureopenai": "azure",
    "fireworks_ai": "fireworks",
    "togetherai": "together",
    "gcp.gen_ai": "google",
    "x_ai": "x-ai",
}


class PriceTable:
    """Prices of one source, in the shape of genai-prices.

    Looking a model up costs up to a millisecond, so the card of each (provider, model, day) is kept; for a model whose
    price depends on the hour, of each minute. The caches are bounded: names come from outside.

    ``backdated``: a price holds before its start date where there is no earlier one. So the public table means its
    entries; a person's own price with a start date means no more than it says.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        source: str,
        version: str,
        backdated: bool,
        cached_cards: int = 8192,
    ) -> None:
        self.source = source
        self.version = version
        self._backdated = backdated
        self._providers = list(providers)
        self._provider: Callable[[str], Provider | None] = lru_cache(cached_cards)(self._find_provider)
        self._model: Callable[[str, str], _Found | None] = lru_cache(cached_cards)(self._find)
        self._of_day: Callable[[str, str, int, Context], RateCard | _Found | None] = lru_cache(cached_cards)(
            self._read_day
        )
        self._of_minute: Callable[[str, str, int, Context], RateCard | None] = lru_cache(cached_cards)(
            self._read_minute
        )

    def card(self, provider: str, model: str, at_us: int, context: Context = ()) -> RateCard | None:
        """The rates of ``model`` at ``at_us`` (microseconds since the epoch); None when the table has none."""
        card = self._of_day(provider, model, at_us // DAY_US, context)
        return self._of_minute(provider, model, at_us // MINUTE_US, context) if isinstance(card, _Found) else card

    def provider_id(self, provider: str) -> str | None:
        """The table's own name of a provider, by any of its names; None when it has none."""
        found = self._provider(provider)
        return None if found is None else found.id

    def _find_provider(self, provider: str) -> Provider | None:
        # Straight at the table rather than through its snapshot, which keeps every name it ever saw.
        from genai_prices.data_snapshot import find_provider_by_id

        name = provider.lower().strip()
        alias = _PROVIDER_NAMES.get(name)
        found = find_provider_by_id(self._providers, name if alias is None else alias)
        if found is None and alias is not None:
            found = find_provider_by_id(self._providers, name)
        return found

    def _find(self, provider: str, model: str) -> _Found | None:
        from genai_prices.types import TimeOfDateConstraint

        known = self._provider(provider)
        entry = None if known is None else known.find_model(model, all_providers=self._providers)
        if known is None or entry is None:
            return None
        dated = [*(entry.prices if isinstance(entry.prices, list) else []), *(entry.price_variants or [])]
        by_hour = any(isinstance(each.constraint, TimeOfDateConstraint) for each in dated)
        # A model that is found with another provider keeps that one's prices, but not the tiers sold beside them.
        return _Found(entry, by_hour, any(entry is each for each in known.models))

    def _read_day(self, provider: str, model: str, day: int, context: Context) -> RateCard | _Found | None:
        found = self._model(provider, model)
        if found is None or found.by_time_of_day:
            return found
        return self._read(found, _EPOCH + timedelta(microseconds=day * DAY_US), context)

    def _read_minute(self, provider: str, model: str, minute: int, context: Context) -> RateCard | None:
        found = self._model(provider, model)
        return found and self._read(found, _EPOCH + timedelta(microseconds=minute * MINUTE_US), context)

    def _read(self, found: _Found, at: datetime, context: Context) -> RateCard | None:
        entry = found.entry
        if not self._backdated and not _in_force(entry, at):
            return None
        missing: tuple[str, ...] = ()
        prices: ModelPrice = entry.get_prices(at)
        if context:
            sold = _sold(entry, at, context) if found.own_entry else frozenset[str]()
            missing = tuple(f"unpriced_{key}" for key, _ in context if key not in sold)
            prices = entry.get_prices(at, dict(context))
        return card_of(prices, source=self.source, version=self.version, model=entry.id, missing=missing)


class _Found(NamedTuple):
    entry: ModelInfo
    by_time_of_day: bool
    own_entry: bool


def _in_force(entry: ModelInfo, at: datetime) -> bool:
    if not isinstance(entry.prices, list):
        return True
    return any(each.constraint is None or each.constraint.active(at) for each in entry.prices)


def _sold(entry: ModelInfo, at: datetime, context: Context) -> frozenset[str]:
    """The keys of the context for which the entry has a price at that time."""
    asked = dict(context)
    return frozenset(
        key
        for variant in entry.price_variants or ()
        if (variant.constraint is None or variant.constraint.active(at)) and variant.when.items() <= asked.items()
        for key in variant.when
    )
