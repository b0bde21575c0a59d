"""Raw usage objects to disjoint buckets: each emitter's convention, contradictions, and what hostile input gives."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.pricing import BUCKETS, EMITTERS, Buckets, EmitterUnknown, Usage, normalise

Counts = dict[str, int]


def known(usage: Usage) -> Counts:
    """The buckets that are not empty, by short name."""
    return {name.removesuffix("_tokens"): count for name, count in zip(BUCKETS, usage.buckets, strict=True) if count}


EXAMPLES = [
    pytest.param(
        "openai",
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 128,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 5,
                "rejected_prediction_tokens": 7,
            },
        },
        "openai_chat",
        {"uncached_input": 86, "cache_read": 1920, "visible_output": 172, "reasoning": 128},
        id="openai chat",
    ),
    pytest.param("openai", {"prompt_tokens": 8, "total_tokens": 8}, "openai_chat", {"uncached_input": 8}, id="embed"),
    pytest.param(
        "openai",
        {
            "input_tokens": 75,
            "input_tokens_details": {"cached_tokens": 5},
            "output_tokens": 1186,
            "output_tokens_details": {"reasoning_tokens": 1024},
            "total_tokens": 1261,
        },
        "openai_responses",
        {"uncached_input": 70, "cache_read": 5, "visible_output": 162, "reasoning": 1024},
        id="openai responses",
    ),
    pytest.param(
        "openai",
        {
            "total_tokens": 253,
            "input_tokens": 132,
            "output_tokens": 121,
            "input_token_details": {
                "text_tokens": 119,
                "audio_tokens": 13,
                "cached_tokens": 64,
                "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4},
            },
            "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
        },
        "openai_realtime",
        {
            "uncached_input": 59,
            "cache_read": 60,
            "visible_output": 30,
            "audio_input": 9,
            "audio_output": 91,
            "audio_cache_read": 4,
        },
        id="openai realtime",
    ),
    pytest.param(
        "anthropic",
        {
            "input_tokens": 3,
            "cache_creation_input_tokens": 1100,
            "cache_read_input_tokens": 18_685,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 1000},
            "output_tokens": 550,
            "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
            "service_tier": "standard",
            "iterations": [{"input_tokens": 3, "output_tokens": 550}],
        },
        "anthropic",
        {
            "uncached_input": 3,
            "cache_read": 18_685,
            "cache_write_5m": 100,
            "cache_write_1h": 1000,
            "visible_output": 550,
            "web_searches": 2,
        },
        id="anthropic",
    ),
    pytest.param(
        "gcp.vertex_ai",
        {
            "promptTokenCount": 1000,
            "candidatesTokenCount": 100,
            "totalTokenCount": 1170,
            "thoughtsTokenCount": 50,
            "toolUsePromptTokenCount": 20,
            "cachedContentTokenCount": 400,
            "cacheTokensDetails": [
                {"modality": "TEXT", "tokenCount": 300},
                {"modality": "AUDIO", "tokenCount": 60},
                {"modality": "VIDEO", "tokenCount": 40},
            ],
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 700},
                {"modality": "AUDIO", "tokenCount": 200},
                {"modality": "VIDEO", "tokenCount": 100},
            ],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 90}],
            "trafficType": "ON_DEMAND",
        },
        "gemini",
        {
            "uncached_input": 420,
            "cache_read": 340,
            "visible_output": 10,
            "reasoning": 50,
            "audio_input": 140,
            "video_input": 60,
            "image_output": 90,
            "audio_cache_read": 60,
        },
        id="gemini",
    ),
    pytest.param(
        "google",
        {"prompt_token_count": 12, "thoughts_token_count": 30, "total_token_count": 42},
        "gemini",
        {"uncached_input": 12, "reasoning": 30},
        id="gemini leaves a zero out",
    ),
    pytest.param(
        "aws.bedrock",
        {
            "inputTokens": 10,
            "outputTokens": 20,
            "totalTokens": 330,
            "cacheReadInputTokens": 100,
            "cacheWriteInputTokens": 200,
            "cacheDetails": [
                {"ttl": "5m", "inputTokens": 50},
                {"ttl": "1h", "inputTokens": 100},
                {"ttl": "5m", "inputTokens": 50},
            ],
        },
        "bedrock",
        {
            "uncached_input": 10,
            "cache_read": 100,
            "cache_write_5m": 100,
            "cache_write_1h": 100,
            "visible_output": 20,
        },
        id="bedrock",
    ),
    pytest.param(
        "cohere",
        {"billed_units": {"input_tokens": 5.0, "output_tokens": 418.0}, "tokens": {"input_tokens": 71.0}},
        "cohere",
        {"uncached_input": 5, "visible_output": 418},
        id="cohere bills less than it counts",
    ),
    pytest.param(
        "ollama",
        {"prompt_eval_count": 26, "eval_count": 298, "eval_duration": 4_799_921_000, "total_duration": 5_191_566_416},
        "ollama",
        {"uncached_input": 26, "visible_output": 298},
        id="ollama",
    ),
    pytest.param(
        "anthropic",
        {
            "inputTokens": 4,
            "outputTokens": 926,
            "cacheReadInputTokens": 150_109,
            "cacheCreationInputTokens": 75_729,
            "webSearchRequests": 0,
            "costUSD": 0.34,
            "contextWindow": 200_000,
            "maxOutputTokens": 32_000,
        },
        "anthropic",
        {"uncached_input": 4, "cache_read": 150_109, "cache_write_5m": 75_729, "visible_output": 926},
        id="anthropic's agent sdk",
    ),
    pytest.param(
        "amazon_bedrock",
        {"usage": {"inputTokens": 4, "outputTokens": 9, "totalTokens": 113, "cacheReadInputTokens": 100}},
        "bedrock",
        {"uncached_input": 4, "cache_read": 100, "visible_output": 9},
        id="bedrock, nothing written, with its name",
    ),
    pytest.param(
        "mistral_ai",
        {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105, "prompt_token_details": None},
        "mistral",
        {"uncached_input": 100, "visible_output": 5},
        id="mistral",
    ),
    pytest.param(
        "deepseek",
        {
            "prompt_tokens": 100,
            "completion_tokens": 30,
            "total_tokens": 130,
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 36,
            "prompt_tokens_details": {"cached_tokens": 64},
            "completion_tokens_details": {"reasoning_tokens": 25},
        },
        "deepseek",
        {"uncached_input": 36, "cache_read": 64, "visible_output": 5, "reasoning": 25},
        id="deepseek says one figure twice",
    ),
    pytest.param(
        "x_ai",
        {
            "prompt_tokens": 41,
            "completion_tokens": 104,
            "total_tokens": 480,
            "prompt_tokens_details": {"cached_tokens": 8, "text_tokens": 41},
            "completion_tokens_details": {"reasoning_tokens": 335},
        },
        "xai",
        {"uncached_input": 33, "cache_read": 8, "visible_output": 104, "reasoning": 335},
        id="xai counts reasoning beside",
    ),
    pytest.param(
        "anthropic",
        {
            "input_tokens": 1000,
            "output_tokens": 50,
            "total_tokens": 1050,
            "input_token_details": {
                "cache_creation": 0,
                "cache_read": 700,
                "ephemeral_5m_input_tokens": 200,
                "ephemeral_1h_input_tokens": 0,
            },
            "output_token_details": {"reasoning": 20},
        },
        "langchain",
        {"uncached_input": 100, "cache_read": 700, "cache_write_5m": 200, "visible_output": 30, "reasoning": 20},
        id="langchain",
    ),
    pytest.param(
        "anthropic",
        {"input_tokens": 900, "output_tokens": 5, "input_token_details": {"cache_creation": 800}},
        "langchain",
        {"uncached_input": 100, "cache_write_5m": 800, "visible_output": 5},
        id="langchain without lifetimes",
    ),
    pytest.param(
        "openai",
        {"gen_ai.usage.prompt_tokens": 10, "gen_ai.usage.completion_tokens": 5, "gen_ai.request.max_tokens": 99},
        "otel",
        {"uncached_input": 10, "visible_output": 5},
        id="otel until 1.36",
    ),
    pytest.param(
        "anthropic",
        {
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 50,
            "gen_ai.usage.cache_read.input_tokens": 60,
            "gen_ai.usage.cache_creation.input_tokens": 30,
            "gen_ai.usage.cost": 0,
        },
        "otel",
        {"uncached_input": 10, "cache_read": 60, "cache_write_5m": 30, "visible_output": 50},
        id="otel 1.41",
    ),
    pytest.param(
        "anthropic",
        {
            "gen_ai": {
                "usage": {
                    "input_tokens": 100,
                    "output_tokens": 50,
                    "cache_write": {"input_tokens": 30},
                    "reasoning": {"output_tokens": 40},
                    "audio": {"input_tokens": 5},
                }
            }
        },
        "otel",
        {"uncached_input": 65, "cache_write_5m": 30, "audio_input": 5, "visible_output": 10, "reasoning": 40},
        id="otel after the rename, nested",
    ),
    pytest.param(
        "anthropic",
        {
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.input_tokens.cached": 60,
            "gen_ai.usage.input_tokens.cache_write": 30,
            "gen_ai.usage.output_tokens": 50,
            "gen_ai.usage.output_tokens.reasoning": 20,
        },
        "otel",
        {"uncached_input": 10, "cache_read": 60, "cache_write_5m": 30, "visible_output": 30, "reasoning": 20},
        id="sentry",
    ),
    pytest.param(
        "anthropic",
        {
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 50,
            "gen_ai.usage.details.cache_read_tokens": 60,
            "gen_ai.usage.details.cache_read_input_tokens": 60,
            "gen_ai.usage.details.input_tokens": 40,
        },
        "otel",
        {"uncached_input": 40, "cache_read": 60, "visible_output": 50},
        id="otel with pydantic-ai's details",
    ),
    pytest.param(
        "gemini",
        {
            "prompt_tokens": 20_209,
            "prompt_tokens_details": {"cached_tokens": 20_203, "text_tokens": 6},
            "completion_tokens": 541,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "input_tokens": 0,
        },
        "openai_chat",
        {"uncached_input": 6, "cache_read": 20_203, "visible_output": 541},
        id="a proxy's zeros in another spelling",
    ),
    pytest.param(
        "anthropic",
        {
            "gen_ai.usage.prompt_tokens": 100,
            "gen_ai.usage.completion_tokens": 50,
            "gen_ai.usage.cache_read_input_tokens": 60,
            "gen_ai.usage.cache_creation_input_tokens": 30,
            "llm.usage.total_tokens": 150,
            "llm.request.type": "chat",
        },
        "openllmetry",
        {"uncached_input": 10, "cache_read": 60, "cache_write_5m": 30, "visible_output": 50},
        id="openllmetry",
    ),
    pytest.param(
        "openai",
        {
            "llm.token_count.prompt": 100,
            "llm.token_count.completion": 50,
            "llm.token_count.total": 150,
            "llm.token_count.prompt_details.cache_read": 60,
            "llm.token_count.prompt_details.audio": 15,
            "llm.token_count.completion_details.reasoning": 20,
            "llm.cost.total": 0.1,
        },
        "openinference",
        {"uncached_input": 25, "cache_read": 60, "audio_input": 15, "visible_output": 30, "reasoning": 20},
        id="openinference",
    ),
    pytest.param(
        "anthropic",
        {
            "inputTokens": 100,
            "inputTokenDetails": {"noCacheTokens": 30, "cacheReadTokens": 60, "cacheWriteTokens": 10},
            "outputTokens": 20,
            "outputTokenDetails": {"textTokens": 15, "reasoningTokens": 5},
            "totalTokens": 120,
            "cachedInputTokens": 60,
            "raw": {"input_tokens": 30, "cache_read_input_tokens": 60},
        },
        "vercel",
        {"uncached_input": 30, "cache_read": 60, "cache_write_5m": 10, "visible_output": 15, "reasoning": 5},
        id="vercel 6",
    ),
    pytest.param(
        "anthropic",
        {"input": 30, "output": 15, "total": 115, "input_cached_tokens": 60, "output_reasoning_tokens": 10},
        "langfuse",
        {"uncached_input": 30, "cache_read": 60, "visible_output": 15, "reasoning": 10},
        id="langfuse",
    ),
    pytest.param(
        "google",
        {
            "input_tokens": 100,
            "output_tokens": 5,
            "cache_write_tokens": 0,
            "cache_read_tokens": 40,
            "details": {"thoughts_tokens": 3},
            "requests": 1,
        },
        "pydantic_ai",
        {"uncached_input": 60, "cache_read": 40, "visible_output": 5},
        id="pydantic-ai",
    ),
    pytest.param(
        "openai",
        {"uncached_input_tokens": 5, "cache_write_1h_tokens": 7, "visible_output_tokens": 1},
        "flywheel",
        {"uncached_input": 5, "cache_write_1h": 7, "visible_output": 1},
        id="our own buckets",
    ),
]


@pytest.mark.parametrize(("provider", "raw", "emitter", "expected"), EXAMPLES)
def test_each_emitter_by_example(provider: str, raw: dict[str, Any], emitter: str, expected: Counts) -> None:
    usage = normalise(raw, provider=provider)
    assert (usage.emitter, known(usage), usage.unknown_keys) == (emitter, expected, ())
    assert usage.priceable
    assert set(usage.flags) <= {"cache_write_ttl_assumed"}


def test_every_emitter_has_an_example_or_is_one_of_its_kind() -> None:
    shown = {example.values[2] for example in EXAMPLES}
    assert EMITTERS.keys() - shown == {"openrouter", "perplexity", "cohere_tokens", "vercel_v5", "pi"}


def test_the_same_keys_can_be_told_what_they_mean() -> None:
    raw = {"input_tokens": 100, "output_tokens": 5, "cache_read_tokens": 40}
    assert normalise(raw).flags == ("usage_convention_unknown",)
    assert known(normalise(raw, convention="INCLUSIVE"))["uncached_input"] == 60
    assert known(normalise(raw, convention="EXCLUSIVE"))["uncached_input"] == 100
    assert known(normalise(raw, emitter="pydantic_ai"))["uncached_input"] == 60
    with pytest.raises(EmitterUnknown, match="openia"):
        normalise(raw, emitter="openia")


def test_the_emitter_decides_and_not_the_provider() -> None:
    """Claude through an OpenAI-shaped gateway counts cached tokens inside, whoever served it."""
    raw = {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 40}}
    for provider in ("anthropic", "openrouter", "openai", ""):
        assert known(normalise(raw, provider=provider))["uncached_input"] == 60


@pytest.mark.parametrize(
    ("raw", "flag"),
    [
        (None, "usage_missing"),
        ({}, "usage_missing"),
        ({"prompt_tokens": None, "completion_tokens": None}, "usage_missing"),
        ([1], "usage_not_an_object"),
        ("12", "usage_not_an_object"),
        ({"words": 12}, "usage_format_unknown"),
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 11}}, "cache_exceeds_input"),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 16}, "total_tokens_differ"),
        ({"promptTokenCount": 10, "thoughtsTokenCount": 5, "totalTokenCount": 12}, "total_tokens_differ"),
        ({"prompt_tokens": 10, "prompt_cache_hit_tokens": 3, "cached_tokens": 4}, "conflicting_cache_read"),
        ({"inputTokens": 10, "input_tokens": 11}, "conflicting_input"),
        ({"prompt_tokens": -1}, "negative_input"),
        ({"prompt_tokens": 10**13}, "implausible_input"),
        ({"prompt_tokens": 1.5}, "not_an_integer_input"),
        ({"prompt_tokens": "10"}, "not_an_integer_input"),
        ({"prompt_tokens": True}, "not_an_integer_input"),
        ({"prompt_tokens": float("nan")}, "not_an_integer_input"),
        ({"prompt_tokens": Decimal("sNaN")}, "not_an_integer_input"),
        ({"prompt_tokens": float("inf")}, "implausible_input"),
        ({"prompt_tokens": Decimal("1e999999")}, "implausible_input"),
        ({"prompt_tokens": Decimal("-1e300")}, "negative_input"),
        (
            {"promptTokenCount": 9, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": n} for n in (1, "2")]},
            "conflicting_audio_input",
        ),
        ({"prompt_tokens": 10, "hologram_tokens": 3}, "unknown_usage_key"),
        ({"prompt_tokens": 10, "prompt_tokens_details": {"hologram_tokens": 3}}, "unknown_usage_key"),
        (
            {"input_tokens": 1, "cache_creation_input_tokens": 5, "cache_creation": {"ephemeral_1h_input_tokens": 6}},
            "cache_write_parts_differ_from_total",
        ),
        (
            {
                "promptTokenCount": 10,
                "cachedContentTokenCount": 5,
                "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 6}],
            },
            "cached_modality_unknown",
        ),
        (
            {
                "promptTokenCount": 10,
                "cachedContentTokenCount": 5,
                "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 5}],
                "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 4}],
            },
            "cached_audio_exceeds_audio",
        ),
        (
            {
                "promptTokenCount": 10,
                "cachedContentTokenCount": 2,
                "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 3}],
                "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 4}],
            },
            "cached_parts_exceed_cached",
        ),
        (
            {"input_tokens": 1, "output_tokens": 1, "iterations": [{"input_tokens": 1}, {"input_tokens": 9}]},
            "unknown_usage_key",
        ),
        ({f"tokens_{n}": n for n in range(600)}, "usage_too_large"),
        ({"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}, "usage_too_large"),
        ({"k" * 200: 1}, "usage_too_large"),
    ],
)
def test_a_contradiction_is_flagged_and_every_bucket_unknown(raw: object, flag: str) -> None:
    usage = normalise(raw)
    assert usage.flags == (flag,)
    assert not usage.priceable
    assert usage.buckets == Buckets()


def test_a_key_nobody_knows_is_reported() -> None:
    """One that says how many of something may be billed and forbids a price; one that is a time or a word does not."""
    raw = {"prompt_tokens": 1, "completion_tokens": 2, "latency_checkpoint": {"engine_ms": 17}, "colour": "red"}
    usage = normalise(raw)
    assert usage.unknown_keys == ("colour", "latency_checkpoint.engine_ms")
    assert (usage.priceable, usage.flags) == (True, ())
    usage = normalise(raw | {"video_seconds": 0})
    assert usage.priceable
    assert "video_seconds" in usage.unknown_keys
    assert not normalise(raw | {"video_seconds": 3}).priceable


def test_unknown_is_not_zero() -> None:
    assert normalise({"prompt_tokens": 10}).buckets.cache_read_tokens is None
    assert normalise({"prompt_tokens": 10}).buckets.visible_output_tokens is None
    none_read = normalise({"input_tokens": 1, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0})
    assert none_read.buckets.cache_read_tokens == 0
    assert none_read.buckets.cache_write_5m_tokens == 0


def test_a_write_without_a_lifetime_is_taken_for_five_minutes_and_says_so() -> None:
    usage = normalise({"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 9})
    assert (usage.buckets.cache_write_5m_tokens, usage.flags) == (9, ("cache_write_ttl_assumed",))


@pytest.mark.parametrize(
    ("written", "short", "long"),
    [
        ({"cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 5}}, 4, 5),
        ({"cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_1h_input_tokens": 5}}, 4, 5),
        ({"cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_5m_input_tokens": 4}}, 4, 5),
        ({"cache_creation_input_tokens": 4, "cache_creation": {"ephemeral_5m_input_tokens": 4}}, 4, None),
    ],
)
def test_of_a_total_and_one_lifetime_the_other_is_the_rest(
    written: dict[str, Any], short: int | None, long: int | None
) -> None:
    usage = normalise({"input_tokens": 1, "output_tokens": 1, **written})
    assert (usage.buckets.cache_write_5m_tokens, usage.buckets.cache_write_1h_tokens) == (short, long)
    assert usage.flags == ()


def test_writes_beside_those_whose_lifetime_is_told() -> None:
    usage = normalise({"input": 1, "output": 1, "input_cache_creation": 3, "input_cache_creation_5m": 4})
    assert (usage.buckets.cache_write_5m_tokens, usage.flags) == (7, ("cache_write_ttl_assumed",))


@pytest.mark.parametrize(
    ("given", "bill", "flags"),
    [
        ({"cost": 0.25}, Decimal("0.25"), ()),
        ({"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}}, Decimal("0.21"), ()),
        ({"cost": 0.01, "is_byok": True}, None, ("cost_invalid",)),
        ({"cost": -1}, None, ("cost_invalid",)),
        ({"cost": "free"}, None, ("cost_invalid",)),
        ({"cost": float("inf")}, None, ("cost_invalid",)),
        ({"cost": {"total_cost": 0.003, "input_tokens_cost": 0.001}}, Decimal("0.003"), ()),
    ],
)
def test_the_bill_of_a_provider(given: dict[str, Any], bill: Decimal | None, flags: tuple[str, ...]) -> None:
    usage = normalise({"prompt_tokens": 1, "completion_tokens": 1, **given})
    assert (usage.reported_cost_usd, usage.flags, usage.priceable) == (bill, flags, True)


@pytest.mark.parametrize(
    "raw",
    [
        # an xAI model through a gateway, and Gemini through LangChain in JavaScript: reasoning beside the output
        {
            "prompt_tokens": 41,
            "completion_tokens": 104,
            "total_tokens": 480,
            "completion_tokens_details": {"reasoning_tokens": 335},
        },
        {
            "input_tokens": 41,
            "output_tokens": 104,
            "total_tokens": 480,
            "output_token_details": {"reasoning": 335},
        },
        # Gemini where candidates include the thoughts
        {"promptTokenCount": 41, "candidatesTokenCount": 439, "thoughtsTokenCount": 335, "totalTokenCount": 480},
    ],
)
def test_a_total_that_fits_one_way_only_tells_where_reasoning_lies(raw: dict[str, Any]) -> None:
    usage = normalise(raw)
    assert known(usage) == {"uncached_input": 41, "visible_output": 104, "reasoning": 335}
    assert usage.flags == ("reasoning_convention_deduced",)


def test_a_total_that_has_the_cache_beside_contradicts_an_emitter_that_counts_it_inside() -> None:
    """LangChain's Bedrock before it was mended (langsmith-sdk 1858): nothing is guessed, and nothing is negative."""
    raw = {
        "input_tokens": 100,
        "output_tokens": 5,
        "total_tokens": 165,
        "input_token_details": {"cache_read": 60},
    }
    assert normalise(raw).flags == ("total_tokens_differ",)
    assert known(normalise(raw, convention="EXCLUSIVE"))["uncached_input"] == 100


def _chat(n: Counts) -> dict[str, Any]:
    return {
        "prompt_tokens": n["uncached"] + n["read"] + n["write"] + n["audio"],
        "completion_tokens": n["visible"] + n["reasoning"],
        "total_tokens": sum(n.values()),
        "prompt_tokens_details": {
            "cached_tokens": n["read"],
            "cache_write_tokens": n["write"],
            "audio_tokens": n["audio"],
        },
        "completion_tokens_details": {"reasoning_tokens": n["reasoning"]},
    }


def _anthropic(n: Counts) -> dict[str, Any]:
    return {
        "input_tokens": n["uncached"],
        "cache_read_input_tokens": n["read"],
        "cache_creation_input_tokens": n["write"],
        "output_tokens": n["visible"] + n["reasoning"],
        "output_tokens_details": {"thinking_tokens": n["reasoning"]},
    }


def _gemini(n: Counts) -> dict[str, Any]:
    return {
        "promptTokenCount": n["uncached"] + n["read"] + n["audio"],
        "cachedContentTokenCount": n["read"],
        "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": n["read"]}],
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": n["audio"]}],
        "candidatesTokenCount": n["visible"],
        "thoughtsTokenCount": n["reasoning"],
        "totalTokenCount": sum(n.values()),
    }


def _langchain(n: Counts) -> dict[str, Any]:
    return {
        "input_tokens": n["uncached"] + n["read"] + n["write"] + n["audio"],
        "output_tokens": n["visible"] + n["reasoning"],
        "total_tokens": sum(n.values()),
        "input_token_details": {"cache_read": n["read"], "cache_creation": n["write"], "audio": n["audio"]},
        "output_token_details": {"reasoning": n["reasoning"]},
    }


def _otel(n: Counts) -> dict[str, Any]:
    return {
        "gen_ai.usage.input_tokens": n["uncached"] + n["read"] + n["write"] + n["audio"],
        "gen_ai.usage.cache_read.input_tokens": n["read"],
        "gen_ai.usage.cache_write.input_tokens": n["write"],
        "gen_ai.usage.audio.input_tokens": n["audio"],
        "gen_ai.usage.output_tokens": n["visible"] + n["reasoning"],
        "gen_ai.usage.reasoning.output_tokens": n["reasoning"],
    }


def _langfuse(n: Counts) -> dict[str, Any]:
    return {
        "input": n["uncached"],
        "input_cache_read": n["read"],
        "input_cache_creation": n["write"],
        "input_audio": n["audio"],
        "output": n["visible"],
        "output_reasoning": n["reasoning"],
        "total": sum(n.values()),
    }


def _bedrock(n: Counts) -> dict[str, Any]:
    return {
        "inputTokens": n["uncached"],
        "cacheReadInputTokens": n["read"],
        "cacheWriteInputTokens": n["write"],
        "outputTokens": n["visible"],
        "totalTokens": sum(n.values()),
    }


EVERY = ("uncached", "read", "write", "audio", "visible", "reasoning")


@pytest.mark.parametrize(
    ("render", "without"),
    [
        (_chat, ()),
        (_anthropic, ("audio",)),
        (_gemini, ("write",)),
        (_langchain, ()),
        (_otel, ()),
        (_langfuse, ()),
        (_bedrock, ("audio", "reasoning")),
    ],
)
@given(numbers=st.lists(st.integers(min_value=0, max_value=10**9), min_size=6, max_size=6))
def test_what_was_used_comes_back_whoever_reports_it(
    render: Callable[[Counts], dict[str, Any]], without: tuple[str, ...], numbers: list[int]
) -> None:
    used = dict.fromkeys(EVERY, 0) | {
        name: number for name, number in zip(EVERY, numbers, strict=True) if name not in without
    }
    usage = normalise(render(used))
    assert usage.priceable
    b = usage.buckets
    found = (
        b.uncached_input_tokens,
        b.cache_read_tokens,
        b.cache_write_5m_tokens,
        b.audio_input_tokens,
        b.visible_output_tokens,
        b.reasoning_tokens,
    )
    assert [count or 0 for count in found] == [used[name] for name in EVERY]
    assert usage.input_tokens == sum(used[name] for name in EVERY[:4])
    assert usage.output_tokens == used["visible"] + used["reasoning"]


PATHS = sorted({path for emitter in EMITTERS.values() for path in emitter.fields})
VALUES = st.one_of(st.integers(-1, 40), st.none(), st.floats(), st.text(max_size=3), st.booleans(), st.integers())


@given(st.dictionaries(st.sampled_from(PATHS), VALUES, max_size=8), st.sampled_from([*EMITTERS, None]))
def test_buckets_are_never_negative_and_add_up_whatever_comes(raw: dict[str, object], emitter: str | None) -> None:
    usage = normalise(raw, emitter=emitter)
    assert usage.priceable or usage.flags
    assert all(count is None or count >= 0 for count in usage.buckets)
    named = {name: count or 0 for name, count in zip(BUCKETS, usage.buckets, strict=True)}
    output = sum(named[name] for name in BUCKETS if "output" in name) + named["reasoning_tokens"]
    if usage.priceable and usage.input_tokens is not None:
        searches = named["web_searches"]
        assert sum(named.values()) - output - searches == usage.input_tokens
    if usage.priceable and usage.output_tokens is not None:
        assert output == usage.output_tokens


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.sampled_from(PATHS), st.text()), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON, st.text(max_size=5))
def test_no_input_raises(raw: object, provider: str) -> None:
    usage = normalise(raw, provider=provider)
    assert usage.priceable or usage.flags
    assert all(key.encode() for key in usage.unknown_keys if key)
