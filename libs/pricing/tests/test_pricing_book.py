"""Buckets to money: published bills, to the last digit, and what is not known."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from flywheel.pricing import Buckets, Convention, PriceBook, Priced, bundled_prices, split_usage


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


NOW = at("2026-11-21T12:00:00")


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return bundled_prices()


def cost(book: PriceBook, name: str, reported: dict[str, int], convention: Convention, *, at_us: int = NOW) -> Priced:
    """The price of a model given as ``provider:model``."""
    provider, _, model = name.partition(":")
    split = split_usage(reported, convention)
    assert split.priceable
    return book.price(split.buckets, provider=provider, models=(model,), at_us=at_us)


# The public reports of wrong costs, each with the bill that is right. Where the report names no model, one is taken
# whose prices give its figures.
BILLS = [
    pytest.param(  # the peer counted reasoning twice: $0.0001102
        "gcp.gemini:gemini-2.5-flash",
        {"input_tokens": 9, "output_tokens": 22, "reasoning_tokens": 21},
        "INCLUSIVE",
        "0.0000577",
        id="posthog-71065",
    ),
    pytest.param(  # the peer charged cached tokens as input too: $0.1146; the bill of $0.0342 has cache writes besides,
        # which the report does not count
        "openrouter:anthropic/claude-sonnet-4.5",
        {"input_tokens": 32_611, "output_tokens": 561, "cache_read_tokens": 27_929},
        "INCLUSIVE",
        "0.0308397",
        id="posthog-js-3615",
    ),
    pytest.param(  # the peer ignored both cache buckets: $0.014
        "anthropic:claude-sonnet-4-0",
        {
            "input_tokens": 4,
            "output_tokens": 926,
            "cache_read_tokens": 150_109,
            "cache_write_5m_tokens": 75_729,
        },
        "EXCLUSIVE",
        "0.34291845",
        id="ai-plugin-92",
    ),
    pytest.param(  # 92 % of the bill is the write to the cache
        "anthropic:claude-opus-4-5",
        {"input_tokens": 0, "output_tokens": 0, "cache_write_5m_tokens": 118_208},
        "EXCLUSIVE",
        "0.7388",
        id="pi-langfuse-19",
    ),
    pytest.param(  # 86 uncached + 17 817 cached, not 35 720
        "openai:gpt-4o",
        {"input_tokens": 17_903, "output_tokens": 0, "cache_read_tokens": 17_817},
        "INCLUSIVE",
        "0.02248625",
        id="langfuse-10592",
    ),
    pytest.param(  # cached tokens of Gemini through a framework: priced, not $0
        "google:gemini-2.5-flash",
        {"input_tokens": 1_000_000, "output_tokens": 0, "cache_read_tokens": 1_000_000},
        "INCLUSIVE",
        "0.03",
        id="langfuse-17148",
    ),
]


@pytest.mark.parametrize(("name", "reported", "convention", "bill_usd"), BILLS)
def test_published_bills(
    book: PriceBook, name: str, reported: dict[str, int], convention: Convention, bill_usd: str
) -> None:
    priced = cost(book, name, reported, convention)
    assert (priced.cost_usd, priced.price_version, priced.flags) == (Decimal(bill_usd), book.version, ())


def test_the_write_to_the_cache_is_92_percent_of_that_bill(book: PriceBook) -> None:
    priced = cost(book, "anthropic:claude-opus-4-5", BILLS[3].values[1], "EXCLUSIVE")  # type: ignore[arg-type]
    assert priced.cost_usd is not None
    assert round(priced.cost_usd / (priced.cost_usd + Decimal("0.064")), 2) == Decimal("0.92")


def test_a_model_without_a_price_is_unknown_not_free(book: PriceBook) -> None:
    assert cost(book, "openai:in-house-7b", {"input_tokens": 1, "output_tokens": 1}, "INCLUSIVE") == Priced(
        None, None, ("unknown_model",)
    )
    assert cost(book, "nobody:gpt-4o", {"input_tokens": 1, "output_tokens": 1}, "INCLUSIVE").cost_usd is None


def test_nothing_used_is_really_free(book: PriceBook) -> None:
    assert cost(book, "openai:gpt-4o", {"input_tokens": 0, "output_tokens": 0}, "INCLUSIVE").cost_usd == 0


def test_a_used_bucket_without_a_price_makes_the_cost_unknown(book: PriceBook) -> None:
    priced = cost(book, "openai:gpt-4", {"input_tokens": 10, "output_tokens": 1, "cache_read_tokens": 3}, "INCLUSIVE")
    assert (priced.cost_usd, priced.price_version) == (None, None)
    assert priced.flags == ("unpriced_cache_read_tokens",)


def test_a_missing_count_that_would_cost_something_makes_the_cost_unknown(book: PriceBook) -> None:
    assert cost(book, "openai:gpt-4o", {"input_tokens": 10}, "INCLUSIVE").flags == ("output_tokens_missing",)
    assert cost(book, "openai:gpt-4o", {"output_tokens": 10}, "INCLUSIVE").flags == ("input_tokens_missing",)
    embedded = cost(book, "openai:text-embedding-3-small", {"input_tokens": 1000}, "INCLUSIVE")
    assert embedded.cost_usd == Decimal("0.00002")


def test_prices_have_dates(book: PriceBook) -> None:
    used = {"input_tokens": 300_000, "output_tokens": 1_000}
    before = cost(book, "anthropic:claude-sonnet-4-6", used, "EXCLUSIVE", at_us=at("2026-03-12T23:59:59"))
    after = cost(book, "anthropic:claude-sonnet-4-6", used, "EXCLUSIVE", at_us=at("2026-03-13T00:00:00"))
    assert before.cost_usd == Decimal("1.8225")  # a long context re-prices the whole call
    assert after.cost_usd == Decimal("0.915")


def test_a_tier_is_chosen_by_all_input_cached_or_not(book: PriceBook) -> None:
    def used(read: int) -> Priced:
        reported = {"input_tokens": 1_000, "output_tokens": 0, "cache_read_tokens": read}
        return cost(book, "anthropic:claude-sonnet-4-5", reported, "EXCLUSIVE")

    assert used(199_000).cost_usd == Decimal("0.003") + Decimal("0.0597")
    assert used(199_001).cost_usd == Decimal("0.006") + Decimal("0.1194006")


def test_prices_have_hours(book: PriceBook) -> None:
    used = {"input_tokens": 1_000_000, "output_tokens": 0}
    night = cost(book, "deepseek:deepseek-chat", used, "INCLUSIVE", at_us=at("2025-06-01T00:29:59"))
    day = cost(book, "deepseek:deepseek-chat", used, "INCLUSIVE", at_us=at("2025-06-01T00:30:00"))
    assert night.cost_usd is not None
    assert day.cost_usd is not None
    assert night.cost_usd < day.cost_usd


def test_the_answering_model_is_priced_before_the_one_asked_for(book: PriceBook) -> None:
    buckets = Buckets(uncached_input_tokens=1_000_000, visible_output_tokens=0)
    models = ("gpt-4o-mini-2024-07-18", "gpt-4o")
    assert book.price(buckets, provider="openai", models=models, at_us=NOW).cost_usd == Decimal("0.15")
    assert book.price(buckets, provider="openai", models=("ft-x", "gpt-4o"), at_us=NOW).cost_usd == Decimal("2.5")
    assert book.price(buckets, provider="openai", models=(None, "gpt-4o"), at_us=NOW).cost_usd == Decimal("2.5")


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o"),
        ("azure.ai.openai", "gpt-4o"),
        ("azure.ai.inference", "gpt-4o"),
        ("azure_openai", "gpt-4o"),
        ("fireworks_ai", "accounts/fireworks/models/deepseek-r1-0528"),
        ("aws.bedrock", "anthropic.claude-3-5-sonnet-20240620-v1:0"),
        ("gcp.gemini", "gemini-2.5-flash"),
        ("gcp.vertex_ai", "gemini-2.5-flash"),
        ("gcp.gen_ai", "gemini-2.5-flash"),
        ("mistral_ai", "mistral-large-latest"),
        ("x_ai", "grok-3"),
        ("deepseek", "deepseek-chat"),
        ("groq", "llama-3.3-70b-versatile"),
        ("cohere", "command-r"),
        ("Anthropic ", "claude-3-5-haiku-latest"),
    ],
)
def test_providers_go_by_their_opentelemetry_names(book: PriceBook, provider: str, model: str) -> None:
    card = book.card(provider, model, NOW)
    assert card is not None
    assert card.base.usd[0] is not None


ONE_MILLION = Buckets(uncached_input_tokens=1_000_000, visible_output_tokens=0)


@pytest.mark.parametrize(
    ("provider", "model", "cost_usd", "flags"),
    [
        ("litellm", "openai/gpt-4o", "2.5", ()),
        ("litellm", "anthropic/claude-opus-4-8", "5", ()),
        ("openai", "openai/gpt-4o", "2.5", ()),
        ("openai", "anthropic/claude-sonnet-4.6", "3", ("provider_from_model_name",)),
        ("vllm", "anthropic/claude-opus-4-8", "5", ("provider_from_model_name",)),
        # Open weights of that name may run on somebody's own machine: no price is made up for them.
        ("openai", "meta-llama/llama-3.3-70b-instruct", None, ("unknown_model",)),
        ("openai", "/", None, ("unknown_model",)),
        ("", "", None, ("unknown_model",)),
    ],
)
def test_a_vendor_in_the_name_of_a_model(
    book: PriceBook, provider: str, model: str, cost_usd: str | None, flags: tuple[str, ...]
) -> None:
    priced = book.price(ONE_MILLION, provider=provider, models=(model,), at_us=NOW)
    assert (priced.cost_usd, priced.flags) == (cost_usd and Decimal(cost_usd), flags)


def test_a_tier_of_service_that_says_nothing_special_changes_nothing(book: PriceBook) -> None:
    for context in ((("service_tier", "Default"),), (("speed", "standard"), ("inference_geo", "global"))):
        priced = book.price(ONE_MILLION, provider="openai", models=("gpt-4o",), at_us=NOW, context=context)
        assert priced.cost_usd == Decimal("2.5")


def test_a_model_found_with_another_provider_has_none_of_that_ones_service_tiers(book: PriceBook) -> None:
    def at_azure(context: tuple[tuple[str, str], ...]) -> Priced:
        return book.price(ONE_MILLION, provider="azure", models=("gpt-5",), at_us=NOW, context=context)

    assert at_azure(()).cost_usd is not None
    assert at_azure((("service_tier", "flex"),)).flags == ("unpriced_service_tier",)


def test_a_book_knows_its_providers_and_says_its_version(book: PriceBook) -> None:
    assert book.knows("gcp.vertex_ai")
    assert not book.knows("nobody")
    assert book.version.startswith("genai-prices/")
    assert book.card("openai", "no-such-model", NOW) is None
