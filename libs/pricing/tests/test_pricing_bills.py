"""The public reports of wrong costs: the usage as it came over the wire, and the right bill, to the last digit."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from flywheel.pricing import PricedCall, bundled_prices, price_call


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def priced(provider: str, model: str, usage: dict[str, Any], when: str = "2026-11-21T12:00:00") -> PricedCall:
    return price_call(usage, bundled_prices(), provider=provider, models=(model,), at_us=at(when))


ROUTED = {"prompt_tokens": 32_611, "completion_tokens": 561, "total_tokens": 33_172}

BILLS = [
    pytest.param(  # the peer added the 21 reasoning tokens to an output that had them: $0.0001102
        "gcp.gemini",
        "gemini-2.5-flash",
        {"promptTokenCount": 9, "candidatesTokenCount": 1, "thoughtsTokenCount": 21, "totalTokenCount": 31},
        "0.0000577",
        id="posthog-71065",
    ),
    pytest.param(  # the very object of the report, of an SDK whose output includes the reasoning
        "google",
        "gemini-2.5-flash",
        {
            "inputTokens": 9,
            "outputTokens": 22,
            "outputTokenDetails": {"textTokens": 1, "reasoningTokens": 21},
            "totalTokens": 31,
            "raw": {"thoughtsTokenCount": 21, "promptTokenCount": 9, "candidatesTokenCount": 1, "totalTokenCount": 31},
        },
        "0.0000577",
        id="posthog-71065-vercel",
    ),
    pytest.param(  # the same call through an instrumentation, where the output includes the reasoning
        "gcp.gemini",
        "gemini-2.5-flash",
        {
            "gen_ai.usage.input_tokens": 9,
            "gen_ai.usage.output_tokens": 22,
            "gen_ai.usage.reasoning.output_tokens": 21,
        },
        "0.0000577",
        id="posthog-71065-otel",
    ),
    pytest.param(  # Claude through OpenRouter by OpenAI's SDK; the peer charged cached tokens twice: $0.1146
        "openai",
        "anthropic/claude-sonnet-4.6",
        ROUTED | {"prompt_tokens_details": {"cached_tokens": 27_929}},
        "0.0308397",
        id="posthog-js-3615-as-reported",
    ),
    pytest.param(  # The bill of $0.0342 has cache writes besides, which the peer did not record; so many would give it.
        "openrouter",
        "anthropic/claude-sonnet-4.6",
        ROUTED | {"prompt_tokens_details": {"cached_tokens": 27_929, "cache_write_tokens": 4_480}},
        "0.0341997",
        id="posthog-js-3615-with-writes",
    ),
    pytest.param(  # OpenRouter says itself what it charged, and that is the bill
        "openrouter",
        "anthropic/claude-sonnet-4.6",
        ROUTED | {"prompt_tokens_details": {"cached_tokens": 27_929}, "cost": 0.0342, "is_byok": False},
        "0.0342",
        id="posthog-js-3615-with-the-bill",
    ),
    pytest.param(  # 86 uncached and 17 817 cached, not 35 720
        "openai",
        "gpt-4o",
        {"prompt_tokens": 17_903, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 17_817}},
        "0.02248625",
        id="langfuse-10592",
    ),
    pytest.param(  # the peer did not know the keys and ignored both cache buckets: $0.014
        "anthropic",
        "claude-sonnet-4-0",
        {
            "input_tokens": 4,
            "output_tokens": 926,
            "cache_read_input_tokens": 150_109,
            "cache_creation_input_tokens": 75_729,
        },
        "0.34291845",
        id="ai-plugin-92",
    ),
    pytest.param(  # 92 % of the bill is the write to the cache; the peer showed $0.064
        "anthropic",
        "claude-opus-4-8",
        {
            "input": 2,
            "output": 2_546,
            "cacheRead": 0,
            "cacheWrite": 118_208,
            "totalTokens": 120_756,
            "cost": {"input": 0.00001, "output": 0.06365, "cacheRead": 0, "cacheWrite": 0.7388, "total": 0.80246},
        },
        "0.80246",
        id="pi-langfuse-19",
    ),
    pytest.param(  # Gemini through LangChain: priced, not $0 in silence
        "google",
        "gemini-2.5-flash",
        {"input": 1_000_000, "output": 0, "input_cache_read": 9_000_000},
        "0.57",
        id="langfuse-17148",
    ),
    pytest.param(  # and as LangChain itself tells it
        "google",
        "gemini-2.5-flash",
        {
            "input_tokens": 10_000_000,
            "output_tokens": 0,
            "total_tokens": 10_000_000,
            "input_token_details": {"cache_read": 9_000_000},
        },
        "0.57",
        id="langfuse-17148-langchain",
    ),
    pytest.param(  # a proxy that spells each cache figure twice; the peer charged neither
        "anthropic",
        "claude-opus-4-5",
        {
            "total_tokens": 103_925,
            "prompt_tokens": 98_805,
            "completion_tokens": 5_120,
            "prompt_tokens_details": {
                "text_tokens": None,
                "cached_tokens": 66_360,
                "cache_creation_tokens": 32_435,
            },
            "cache_read_input_tokens": 66_360,
            "cache_creation_input_tokens": 32_435,
            "completion_tokens_details": {"reasoning_tokens": 1_710},
        },
        "0.36394875",
        id="litellm-11364",
    ),
]


@pytest.mark.parametrize(("provider", "model", "usage", "bill_usd"), BILLS)
def test_published_bills(provider: str, model: str, usage: dict[str, Any], bill_usd: str) -> None:
    assert priced(provider, model, usage).cost_usd == Decimal(bill_usd)


def test_the_bill_of_a_provider_stands_beside_our_own_figure() -> None:
    call = priced("openrouter", "anthropic/claude-sonnet-4.6", BILLS[5].values[2])  # type: ignore[arg-type]
    assert (call.cost_source, call.price_source, call.computed_usd) == ("PROVIDER", "provider", Decimal("0.0308397"))
    assert call.flags == ("reported_cost_differs",)


def test_the_cache_write_is_92_percent_of_that_bill() -> None:
    call = priced("anthropic", "claude-opus-4-8", BILLS[8].values[2])  # type: ignore[arg-type]
    assert call.rates is not None
    write_usd = call.rates.named()["cache_write_5m_tokens"] * 118_208
    assert call.cost_usd is not None
    assert round(write_usd / call.cost_usd, 2) == Decimal("0.92")


def test_more_cached_than_input_is_never_a_negative_cost() -> None:
    """posthog-python 369, mastra 16876: the peers subtracted the cache twice and showed −$0.0159."""
    usage = {"prompt_tokens": 10_470, "completion_tokens": 2_998, "prompt_tokens_details": {"cached_tokens": 48_384}}
    call = priced("openai", "gpt-5.2-chat-latest", usage)
    assert (call.cost_usd, call.flags) == (None, ("cache_exceeds_input",))
    assert all(count is None for count in call.usage.buckets)


def test_the_same_figures_of_an_emitter_that_counts_beside_are_a_price() -> None:
    usage = {"inputTokens": 10_470, "outputTokens": 2_998, "cachedInputTokens": 48_384}
    call = priced("openai", "gpt-5.2-chat-latest", usage)
    assert (call.cost_usd, call.flags) == (Decimal("0.0687617"), ("usage_convention_deduced",))
    assert call.usage.convention == "EXCLUSIVE"


def test_a_model_with_no_price_is_unknown_and_not_free() -> None:
    """curie 547: zero could not be told from unknown."""
    call = priced("openai", "in-house-7b", {"prompt_tokens": 10, "completion_tokens": 1})
    assert (call.cost_usd, call.cost_source, call.price_version) == (None, "UNKNOWN", None)
    assert call.flags == ("unknown_model",)
    assert call.usage.buckets.uncached_input_tokens == 10


def test_a_long_context_prices_the_whole_call_anew() -> None:
    usage = {"promptTokenCount": 200_001, "candidatesTokenCount": 1_000, "cachedContentTokenCount": 200_000}
    call = priced("google", "gemini-2.5-pro", usage)
    assert call.rates is not None
    assert call.rates.above_tokens == 200_000
    assert call.cost_usd == Decimal("0.0000025") + Decimal("0.05") + Decimal("0.015")
    usage["promptTokenCount"] = 200_000
    assert priced("google", "gemini-2.5-pro", usage).cost_usd == Decimal("0.025") + Decimal("0.01")


def test_a_service_tier_has_its_own_price_or_none() -> None:
    usage = {"input_tokens": 1_000_000, "output_tokens": 0, "service_tier": "default"}
    assert priced("openai", "gpt-5", usage).cost_usd == Decimal("1.25")
    assert priced("openai", "gpt-5", usage | {"service_tier": "flex"}).cost_usd == Decimal("0.625")
    before = priced("openai", "gpt-5", usage | {"service_tier": "flex"}, "2026-10-11T23:59:59")
    assert (before.cost_usd, before.flags) == (None, ("unpriced_service_tier",))
    batch = {"input_tokens": 1_000_000, "output_tokens": 0, "cache_read_input_tokens": 0, "service_tier": "batch"}
    assert priced("anthropic", "claude-opus-4-8", batch).cost_usd == Decimal("2.5")


def test_searches_are_billed_beside_the_tokens() -> None:
    usage = {"input_tokens": 0, "output_tokens": 0, "server_tool_use": {"web_search_requests": 3}}
    assert priced("anthropic", "claude-opus-4-8", usage).cost_usd == Decimal("0.03")
