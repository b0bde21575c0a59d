"""Usage to disjoint token buckets to money. Own price files are read by ``flywheel.pricing.own``."""

from flywheel.pricing.book import PriceBook, bundled_prices, prices_with
from flywheel.pricing.buckets import BUCKETS, Buckets, Convention, Split, split_usage
from flywheel.pricing.calls import PricedCall, price_call, price_usage
from flywheel.pricing.conventions import EMITTERS
from flywheel.pricing.emitter import Emitter
from flywheel.pricing.rates import Priced, RateCard, Rates
from flywheel.pricing.tables import Context, PriceTable
from flywheel.pricing.usage import EmitterUnknown, Usage, counted, normalise

__all__ = [
    "BUCKETS",
    "EMITTERS",
    "Buckets",
    "Context",
    "Convention",
    "Emitter",
    "EmitterUnknown",
    "PriceBook",
    "PriceTable",
    "Priced",
    "PricedCall",
    "RateCard",
    "Rates",
    "Split",
    "Usage",
    "bundled_prices",
    "counted",
    "normalise",
    "price_call",
    "price_usage",
    "prices_with",
    "split_usage",
]
