"""Usage to disjoint token buckets to money."""

from flywheel.pricing.book import PriceBook, Priced, RateCard, bundled_prices, card_of
from flywheel.pricing.buckets import BUCKETS, Buckets, Convention, Split, split_usage

__all__ = [
    "BUCKETS",
    "Buckets",
    "Convention",
    "PriceBook",
    "Priced",
    "RateCard",
    "Split",
    "bundled_prices",
    "card_of",
    "split_usage",
]
