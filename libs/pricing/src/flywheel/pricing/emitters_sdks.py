"""The usage objects and attributes of SDKs and instrumentations."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from flywheel.pricing.buckets import BUCKETS
from flywheel.pricing.emitter import CACHE_LIFETIMES, Emitter, under

_LANGCHAIN: Final = Emitter(
    "langchain",
    "INCLUSIVE",
    {
        "input_tokens": "input",
        "output_tokens": "output",
        "total_tokens": "total",
        "input_token_details.cache_read": "cache_read",
        # Zero where the lifetimes below are told, else all of it; never both.
        "input_token_details.cache_creation": "cache_write_rest",
        **under("input_token_details.", CACHE_LIFETIMES),
        "input_token_details.audio": "audio_input",
        "input_token_details.image": "image_input",
        "input_token_details.video": "video_input",
        "output_token_details.reasoning": "reasoning",
        "output_token_details.audio": "audio_output",
        "output_token_details.image": "image_output",
    },
    ignored=("input_token_details.text", "output_token_details.text"),
)
_OTEL_FIELDS: Final = under(
    "gen_ai.usage.",
    {
        "input_tokens": "input",
        "prompt_tokens": "input",
        "output_tokens": "output",
        "completion_tokens": "output",
        "total_tokens": "total",
        "cache_read.input_tokens": "cache_read",
        "cache_creation.input_tokens": "cache_write",
        "cache_write.input_tokens": "cache_write",
        "reasoning.output_tokens": "reasoning",
        "audio.input_tokens": "audio_input",
        "image.input_tokens": "image_input",
        "video.input_tokens": "video_input",
        "audio.output_tokens": "audio_output",
        "image.output_tokens": "image_output",
        "video.output_tokens": "video_output",
        "input_tokens.cached": "cache_read",
        "input_tokens.cache_write": "cache_write",
        "output_tokens.reasoning": "reasoning",
        "input_cached_tokens": "cache_read",
        # pydantic-ai puts what the provider said beside the standard names.
        "details.cache_read_tokens": "cache_read?",
        "details.cache_read_input_tokens": "cache_read?",
        "details.cached_content_tokens": "cache_read?",
        "details.cache_write_tokens": "cache_write?",
        "details.cache_creation_input_tokens": "cache_write?",
        "details.reasoning_tokens": "reasoning?",
        "details.thoughts_tokens": "reasoning?",
    },
)
# gen_ai.usage.cost and llm.cost are what an instrumentation worked out by a table of its own, 0 where that had no
# price: not a bill.
_OTEL: Final = Emitter(
    "otel",
    "INCLUSIVE",
    _OTEL_FIELDS,
    ignored=(
        "gen_ai.usage.cost",
        "gen_ai.usage.cost.",
        "gen_ai.usage.details.",
        "gen_ai.usage.text.",
    ),
    prefixes=("gen_ai.usage.",),
    loose_total=True,
)
_OPENLLMETRY: Final = replace(
    _OTEL,
    name="openllmetry",
    fields={
        **_OTEL_FIELDS,
        **{
            f"{at}.usage.{path}": role
            for at in ("gen_ai", "llm")
            for path, role in (
                ("prompt_tokens", "input"),
                ("completion_tokens", "output"),
                ("total_tokens", "total"),
                ("cache_read_input_tokens", "cache_read"),
                ("cache_creation_input_tokens", "cache_write"),
                ("reasoning_tokens", "reasoning"),
            )
        },
    },
    ignored=(*_OTEL.ignored, "llm.usage.token_type", "gen_ai.usage.token_type"),
    prefixes=("gen_ai.usage.", "llm.usage."),
)
_OPENINFERENCE: Final = Emitter(
    "openinference",
    "INCLUSIVE",
    under(
        "llm.token_count.",
        {
            "prompt": "input",
            "completion": "output",
            "total": "total",
            "prompt_details.cache_read": "cache_read",
            "prompt_details.cache_write": "cache_write",
            "prompt_details.audio": "audio_input",
            "completion_details.reasoning": "reasoning",
            "completion_details.audio": "audio_output",
        },
    ),
    # cache_input overlaps cache_read and cache_write without saying how; alone it is an unknown key, and says so.
    prefixes=("llm.token_count.",),
)
_VERCEL_FIELDS: Final = {
    "input_tokens": "input",
    "output_tokens": "output",
    "total_tokens": "total",
    "cached_input_tokens": "cache_read",
    "reasoning_tokens": "reasoning",
    "input_token_details.no_cache_tokens": "uncached",
    "input_token_details.cache_read_tokens": "cache_read",
    "input_token_details.cache_write_tokens": "cache_write",
    "output_token_details.text_tokens": "visible",
    "output_token_details.reasoning_tokens": "reasoning",
}
_LANGFUSE: Final = Emitter(
    "langfuse",
    "EXCLUSIVE",
    {
        "input": "uncached",
        "output": "visible",
        "total": "total",
        "input_cached_tokens": "cache_read",
        "input_cache_read": "cache_read",
        "cache_read_input_tokens": "cache_read",
        "input_cache_creation": "cache_write_rest",
        "cache_creation_input_tokens": "cache_write_rest",
        "input_cache_creation_5m": "cache_write_5m",
        "input_cache_creation_1h": "cache_write_1h",
        "input_audio_tokens": "audio_input",
        "input_audio": "audio_input",
        "output_reasoning_tokens": "reasoning",
        "output_reasoning": "reasoning",
        "output_audio_tokens": "audio_output",
        "output_audio": "audio_output",
    },
)
_PI: Final = Emitter(
    "pi",
    "EXCLUSIVE",
    {
        "input": "uncached",
        "output": "output",
        "cache_read": "cache_read",
        "cache_write": "cache_write",
        "total_tokens": "total",
    },
    ignored=("cost.",),
)
_PYDANTIC_AI: Final = Emitter(
    "pydantic_ai",
    "INCLUSIVE",
    {
        "input_tokens": "input",
        "output_tokens": "output",
        "cache_read_tokens": "cache_read",
        "cache_write_tokens": "cache_write",
        "input_audio_tokens": "audio_input",
        "cache_audio_read_tokens": "audio_cache_read",
        "output_audio_tokens": "audio_output",
        "details.reasoning_tokens": "reasoning",
    },
    ignored=("details.", "requests", "tool_calls"),
    modal_cache=True,
)
_FLYWHEEL: Final = Emitter(
    "flywheel",
    "UNKNOWN",
    {
        "input_tokens": "input",
        "output_tokens": "output",
        "total_tokens": "total",
        **{bucket: bucket.removesuffix("_tokens") for bucket in BUCKETS},
        "uncached_input_tokens": "uncached",
        "visible_output_tokens": "visible",
    },
)

SDKS: Final = (
    _LANGCHAIN,
    _OTEL,
    _OPENLLMETRY,
    _OPENINFERENCE,
    Emitter("vercel", "INCLUSIVE", _VERCEL_FIELDS, ignored=("raw.",)),
    Emitter("vercel_v5", "UNKNOWN", _VERCEL_FIELDS, loose_total=True),
    _LANGFUSE,
    _PI,
    _PYDANTIC_AI,
    _FLYWHEEL,
)
