"""Laws of prices: exact, linear below the tiers, never negative; and the table's own arithmetic beside ours."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices.data import providers
from genai_prices.types import ModelPrice, Tier, TieredPrices
from hypothesis import given
from hypothesis import strategies as st

from flywheel.pricing import BUCKETS, Buckets, Priced, RateCard, bundled_prices, price_call
from flywheel.pricing.rates import card_of

NOW_US = 1_795_262_400_000_000  # 2026-11-21T12:00:00Z
COUNTS = st.integers(min_value=0, max_value=10**7)
MODELS = [
    ("openai", "gpt-4o-audio-preview"),
    ("openai", "gpt-realtime"),
    ("anthropic", "claude-opus-4-8"),
    ("google", "gemini-2.5-flash"),
    ("google", "gemini-2.5-flash-image"),
    ("deepseek", "deepseek-chat"),
    ("perplexity", "sonar"),
]


def card(provider: str, model: str) -> RateCard:
    found = bundled_prices().card(provider, model, NOW_US)
    assert found is not None
    assert found.tiers == ()
    return found


def usd(priced: Priced) -> Decimal:
    assert priced.cost_usd is not None, priced.flags
    return priced.cost_usd


@st.composite
def used(draw: st.DrawFn) -> tuple[RateCard, Buckets]:
    """A card and counts in the buckets that it prices; 0 in the others."""
    found = card(*draw(st.sampled_from(MODELS)))
    return found, Buckets(*(0 if rate is None else draw(COUNTS) for rate in found.base.usd))


@given(used(), st.integers(0, len(BUCKETS) - 1), st.integers(1, 10**6))
def test_a_price_is_linear_in_each_bucket_below_the_tiers(case: tuple[RateCard, Buckets], at: int, more: int) -> None:
    found, counts = case
    grown = Buckets(*(count + more * (place == at) for place, count in enumerate(counts)))
    rate = found.base.usd[at]
    if rate is None:
        assert found.price(grown).flags == (f"unpriced_{BUCKETS[at]}",)
    else:
        assert usd(found.price(grown)) == usd(found.price(counts)) + rate * more


@given(used())
def test_a_cost_is_the_exact_sum_and_never_negative(case: tuple[RateCard, Buckets]) -> None:
    found, counts = case
    cost = usd(found.price(counts))
    # Whole picodollars in Python's integers: nothing is rounded on the way.
    pico = sum(int((rate or 0) * 10**12) * count for rate, count in zip(found.base.usd, counts, strict=True))
    assert cost * 10**12 == pico + int(found.base.per_request_usd * 10**12)
    assert cost >= 0
    assert cost.as_tuple().exponent == -12


@given(st.lists(st.integers(0, 150_000), min_size=3, max_size=3), st.integers(0, 10**6))
def test_a_tier_prices_the_whole_call_by_all_its_input(inputs: list[int], output: int) -> None:
    prices = ModelPrice(
        input_mtok=TieredPrices(Decimal(3), [Tier(400_000, Decimal(9)), Tier(200_000, Decimal(6))]),
        cache_read_mtok=Decimal("0.3"),
        cache_write_mtok=TieredPrices(Decimal("3.75"), [Tier(200_000, Decimal("7.5"))]),
        output_mtok=TieredPrices(Decimal(15), [Tier(200_000, Decimal("22.5"))]),
    )
    tiered = card_of(prices, source="own", version="own/1", model="m")
    uncached, read, write = inputs
    call = Buckets(
        uncached_input_tokens=uncached,
        cache_read_tokens=read,
        cache_write_5m_tokens=write,
        visible_output_tokens=output,
    )
    priced = tiered.price(call)
    total = sum(inputs)
    base, written, made, above = (3, "3.75", "15", None)
    if total > 200_000:
        base, written, made, above = (6, "7.5", "22.5", 200_000)
    if total > 400_000:
        base, above = 9, 400_000
    expected = base * uncached + Decimal("0.3") * read + Decimal(written) * write + Decimal(made) * output
    assert usd(priced) == expected / 10**6
    assert priced.rates is not None
    assert priced.rates.above_tokens == above


# What the table's own package makes of a response, flavour by flavour: a second opinion on reading and on arithmetic.
RESPONSES = [
    (
        "openai",
        "chat",
        "gpt-4o",
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
    ),
    (
        "openai",
        "responses",
        "gpt-5",
        {
            "input_tokens": 75,
            "input_tokens_details": {"cached_tokens": 5},
            "output_tokens": 1186,
            "output_tokens_details": {"reasoning_tokens": 1024},
        },
    ),
    (
        "anthropic",
        "default",
        "claude-opus-4-8",
        {
            "input_tokens": 3,
            "cache_creation_input_tokens": 1100,
            "cache_read_input_tokens": 18_685,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 1000},
            "output_tokens": 550,
            "server_tool_use": {"web_search_requests": 2},
        },
    ),
    (
        "google",
        "default",
        "gemini-2.5-flash",
        {
            "promptTokenCount": 1000,
            "candidatesTokenCount": 100,
            "thoughtsTokenCount": 50,
            "toolUsePromptTokenCount": 20,
            "cachedContentTokenCount": 400,
            "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 340}, {"modality": "AUDIO", "tokenCount": 60}],
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 800}, {"modality": "AUDIO", "tokenCount": 200}],
        },
    ),
    (
        "google",
        "default",
        "gemini-2.5-flash-image",
        {
            "promptTokenCount": 10,
            "candidatesTokenCount": 1300,
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
        },
    ),
    (
        "aws",
        "default",
        "anthropic.claude-sonnet-4-5-20250929-v1:0",
        {
            "inputTokens": 10,
            "outputTokens": 20,
            "cacheReadInputTokens": 100,
            "cacheWriteInputTokens": 200,
            "cacheDetails": [{"ttl": "5m", "inputTokens": 150}, {"ttl": "1h", "inputTokens": 50}],
        },
    ),
    ("cohere", "default", "command-r", {"billed_units": {"input_tokens": 5, "output_tokens": 418}}),
    ("mistral", "default", "mistral-large-latest", {"prompt_tokens": 100, "completion_tokens": 5}),
    (
        "deepseek",
        "chat",
        "deepseek-chat",
        {
            "prompt_tokens": 100,
            "completion_tokens": 30,
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 36,
            "prompt_tokens_details": {"cached_tokens": 64},
        },
    ),
    (
        "x-ai",
        "chat",
        "grok-4",
        {
            "prompt_tokens": 41,
            "completion_tokens": 104,
            "prompt_tokens_details": {"cached_tokens": 8},
            "completion_tokens_details": {"reasoning_tokens": 335},
        },
    ),
    (
        "openrouter",
        "chat",
        "anthropic/claude-sonnet-4.6",
        {
            "prompt_tokens": 32_611,
            "completion_tokens": 561,
            "prompt_tokens_details": {"cached_tokens": 27_929, "cache_write_tokens": 4_480},
        },
    ),
]


@pytest.mark.parametrize(("provider", "flavour", "model", "usage"), RESPONSES)
def test_the_package_of_the_table_comes_to_the_same_cost(
    provider: str, flavour: str, model: str, usage: dict[str, Any]
) -> None:
    theirs = next(each for each in providers if each.id == provider)
    root = next(each.root for each in theirs.extractors or [] if each.api_flavor == flavour)
    path = [root] if isinstance(root, str) else list(root)
    response: Any = usage["billed_units"] if path[-1] == "billed_units" else usage
    for step in reversed(path):
        response = {step: response}
    _, read = theirs.extract_usage(response, api_flavor=flavour)
    found = theirs.find_model(model, all_providers=providers)
    assert found is not None
    at = datetime.fromtimestamp(NOW_US / 1e6, UTC)
    expected = found.calc_price(read, theirs, genai_request_timestamp=at).total_price
    ours = price_call(usage, bundled_prices(), provider=provider, models=(model,), at_us=NOW_US)
    assert ours.cost_usd == expected
