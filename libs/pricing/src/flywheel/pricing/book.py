"""Disjoint buckets to money, by tables of dated prices.

The public table is genai-prices' (pydantic, MIT): prices with start dates, time-of-day windows, long-context tiers and
service tiers, in ``Decimal``. A person's own table of the same shape comes before it. A non-zero bucket without a price
makes the whole cost None, never 0: NULL is unknown and 0 is really free.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version
from typing import Final

from flywheel.pricing.buckets import Buckets
from flywheel.pricing.rates import Priced, RateCard
from flywheel.pricing.tables import Context, PriceTable

# What says "nothing special" where a price may depend on it; any other value needs a price of its own.
_STANDARD: Final = {
    "service_tier": frozenset({"", "auto", "default", "standard", "on_demand"}),
    "processing": frozenset({"", "standard", "realtime"}),
    "speed": frozenset({"", "standard"}),
    "inference_geo": frozenset({"", "global", "not_available"}),
}
# Vendors whose models only they and their resellers serve: "anthropic/claude-…" with the name of another provider is
# that model through a gateway. Of open weights the same name may as well be somebody's own machine.
_CLOSED_VENDORS: Final = frozenset({"anthropic"})
_GATEWAY: Final = "openrouter"
_UNKNOWN_MODEL: Final = Priced(None, None, ("unknown_model",))


class PriceBook:
    """Prices calls by tables, the first that knows a model at the time of the call."""

    def __init__(self, tables: Sequence[PriceTable]) -> None:
        self._tables = tuple(tables)
        self.version = "+".join(table.version for table in self._tables)

    def card(self, provider: str, model: str, at_us: int, context: Context = ()) -> RateCard | None:
        """The rates of ``model`` at ``at_us`` (microseconds since the epoch); None when no table knows it."""
        for table in self._tables:
            card = table.card(provider, model, at_us, context)
            card = card or self._by_other_names(table, provider, model, at_us, context)
            if card is not None:
                return card
        return None

    def price(
        self,
        buckets: Buckets,
        *,
        provider: str,
        models: Sequence[str | None],
        at_us: int,
        context: Context = (),
        pool_seconds: Decimal | None = None,
    ) -> Priced:
        """Price ``buckets`` by the first of ``models`` that a table knows: the model that answered, then the one that
        was asked for. ``pool_seconds``: how long the call held the pool of a local model.

        Flags: ``unknown_model`` · ``unpriced_<bucket>`` something in a bucket for which the model has no price ·
        ``unpriced_<key>`` a service tier without a price · ``input_tokens_missing`` and ``output_tokens_missing`` a
        bucket that costs something was not counted · ``pool_seconds_missing`` · ``provider_from_model_name`` priced
        (the cost is given) by the vendor in the model's name, as the provider named does not have it.
        """
        if context:
            context = special(context)
        for table in self._tables:
            for model in models:
                if not model:
                    continue
                card = table.card(provider, model, at_us, context)
                if card is None:
                    card = self._by_other_names(table, provider, model, at_us, context)
                if card is not None:
                    return card.price(buckets, pool_seconds)
        for model in filter(None, models):
            card = self._through_gateway(model, at_us, context)
            if card is not None:
                priced = card.price(buckets, pool_seconds)
                return priced._replace(flags=("provider_from_model_name", *priced.flags))
        return _UNKNOWN_MODEL

    def knows(self, provider: str) -> bool:
        """Whether a table has this provider under any of its names."""
        return any(table.provider_id(provider) is not None for table in self._tables)

    def _by_other_names(
        self, table: PriceTable, provider: str, model: str, at_us: int, context: Context
    ) -> RateCard | None:
        card = None
        # A person's table may call the provider as the public one does where the call says "gcp.vertex_ai".
        known_as = self._provider_id(provider)
        if known_as is not None and known_as != provider:
            card = table.card(known_as, model, at_us, context)
        vendor, slash, rest = model.partition("/")
        if card is None and slash and (provider == "litellm" or known_as is not None):
            vendor_id = self._provider_id(vendor)
            if vendor_id is not None and (provider == "litellm" or vendor_id == known_as):
                card = table.card(vendor_id, rest, at_us, context)
        return card

    def _provider_id(self, name: str) -> str | None:
        """What the tables call a provider; the last one's word, which is the public one."""
        return next((found for each in reversed(self._tables) if (found := each.provider_id(name)) is not None), None)

    def _through_gateway(self, model: str, at_us: int, context: Context) -> RateCard | None:
        vendor, slash, rest = model.partition("/")
        if not slash or vendor not in _CLOSED_VENDORS:
            return None
        return self.card(_GATEWAY, model, at_us, context) or self.card(vendor, rest, at_us, context)


def special(context: Context) -> Context:
    """What of a context may change the price, in a stable order."""
    lowered = {key: value.lower() for key, value in context}
    return tuple(sorted((key, value) for key, value in lowered.items() if value not in _STANDARD.get(key, ())))


@lru_cache(maxsize=1)
def public_table() -> PriceTable:
    """The table that the installed genai-prices carries; no network. Loading it takes about a second, once."""
    from genai_prices.data import providers

    installed = version("genai-prices")
    return PriceTable(providers, source="genai-prices", version=f"genai-prices/{installed}", backdated=True)


@lru_cache(maxsize=1)
def bundled_prices() -> PriceBook:
    """The public table alone."""
    return PriceBook([public_table()])


def prices_with(own: PriceTable) -> PriceBook:
    """A person's own table, and the public one for what it does not have."""
    return PriceBook([own, public_table()])
