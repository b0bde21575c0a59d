"""The usage objects of providers' own APIs."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from flywheel.pricing.emitter import CACHE_LIFETIMES, Emitter, under

_ROUTER_COST: Final = {
    "cost": "cost",
    "is_byok": "byok",
    "cost_details.upstream_inference_cost": "upstream_cost",
    "server_tool_use.web_search_requests": "web_searches",
    "service_tier": "context:service_tier",
}

_CHAT: Final = Emitter(
    "openai_chat",
    "INCLUSIVE",
    {
        "prompt_tokens": "input",
        "completion_tokens": "output",
        "total_tokens": "total",
        # Proxies repeat figures in other providers' spellings, with a 0 where they have nothing to repeat.
        "input_tokens": "input?",
        "output_tokens": "output?",
        "prompt_tokens_details.cached_tokens": "cache_read",
        "prompt_token_details.cached_tokens": "cache_read?",
        "cached_tokens": "cache_read?",
        "num_cached_tokens": "cache_read?",
        "cache_read_input_tokens": "cache_read?",
        "prompt_cache_hit_tokens": "cache_read",
        "prompt_cache_miss_tokens": "uncached",
        "prompt_tokens_details.cache_write_tokens": "cache_write",
        "prompt_tokens_details.cache_creation_tokens": "cache_write?",
        "cache_creation_input_tokens": "cache_write?",
        **under("prompt_tokens_details.cache_creation_token_details.", CACHE_LIFETIMES),
        **under("cache_creation.", CACHE_LIFETIMES),
        "prompt_tokens_details.audio_tokens": "audio_input",
        "prompt_tokens_details.image_tokens": "image_input",
        "prompt_tokens_details.video_tokens": "video_input",
        "completion_tokens_details.reasoning_tokens": "reasoning",
        "reasoning_tokens": "reasoning?",
        "completion_tokens_details.audio_tokens": "audio_output",
        "completion_tokens_details.image_tokens": "image_output",
        **_ROUTER_COST,
    },
    ignored=(
        "prompt_tokens_details.text_tokens",
        "completion_tokens_details.text_tokens",
        "completion_tokens_details.accepted_prediction_tokens",
        "completion_tokens_details.rejected_prediction_tokens",
        "cost_details.",
        "queue_time",
        "prompt_time",
        "completion_time",
        "total_time",
    ),
)
_RESPONSES: Final = Emitter(
    "openai_responses",
    "INCLUSIVE",
    {
        "input_tokens": "input",
        "output_tokens": "output",
        "total_tokens": "total",
        "input_tokens_details.cached_tokens": "cache_read",
        "input_tokens_details.cache_read_input_tokens": "cache_read",
        "input_tokens_details.cache_write_tokens": "cache_write",
        "input_tokens_details.cache_creation_input_tokens": "cache_write",
        "input_tokens_details.audio_tokens": "audio_input",
        "input_tokens_details.image_tokens": "image_input",
        "output_tokens_details.reasoning_tokens": "reasoning",
        "output_tokens_details.audio_tokens": "audio_output",
        "output_tokens_details.image_tokens": "image_output",
        **_ROUTER_COST,
    },
    ignored=("input_tokens_details.text_tokens", "output_tokens_details.text_tokens", "cost_details."),
)
_REALTIME: Final = Emitter(
    "openai_realtime",
    "INCLUSIVE",
    {
        "input_tokens": "input",
        "output_tokens": "output",
        "total_tokens": "total",
        "input_token_details.cached_tokens": "cache_read",
        "input_token_details.audio_tokens": "audio_input",
        "input_token_details.image_tokens": "image_input",
        "input_token_details.cached_tokens_details.audio_tokens": "audio_cache_read",
        "input_token_details.cached_tokens_details.image_tokens": "image_cache_read",
        "input_token_details.cached_tokens_details.text_tokens": "text_cache_read",
        "output_token_details.audio_tokens": "audio_output",
        "output_token_details.reasoning_tokens": "reasoning",
    },
    ignored=("input_token_details.text_tokens", "output_token_details.text_tokens", "type"),
    modal_cache=True,
)
_ANTHROPIC: Final = Emitter(
    "anthropic",
    "EXCLUSIVE",
    {
        "input_tokens": "input",
        "output_tokens": "output",
        "total_tokens": "total",
        "cache_read_input_tokens": "cache_read",
        "cache_creation_input_tokens": "cache_write",
        **under("cache_creation.", CACHE_LIFETIMES),
        "output_tokens_details.thinking_tokens": "reasoning",
        "server_tool_use.web_search_requests": "web_searches",
        "web_search_requests": "web_searches",
        "service_tier": "context:service_tier",
        "speed": "context:speed",
        "inference_geo": "context:inference_geo",
    },
    # One iteration says again what the call says; a second one was billed beside it and is not ignored. The limits and
    # the estimate are those of the Agent SDK.
    ignored=(
        "server_tool_use.web_fetch_requests",
        "iterations.0.",
        "context_window",
        "max_output_tokens",
        "cost_usd",
    ),
)
_GEMINI: Final = Emitter(
    "gemini",
    "INCLUSIVE",
    {
        "prompt_token_count": "input",
        "tool_use_prompt_token_count": "extra_input",
        "candidates_token_count": "output",
        "response_token_count": "output",
        "thoughts_token_count": "reasoning",
        "total_token_count": "total",
        "cached_content_token_count": "cache_read",
        "cache_tokens_details.text.token_count": "text_cache_read+",
        "cache_tokens_details.video.token_count": "video_cache_read+",
        "cache_tokens_details.audio.token_count": "audio_cache_read+",
        "cache_tokens_details.image.token_count": "image_cache_read+",
        "cache_tokens_details.document.token_count": "image_cache_read+",
        **{
            f"{side}_tokens_details.{kind}.token_count": f"{bucket}_input+"
            for side in ("prompt", "tool_use_prompt")
            for kind, bucket in (("audio", "audio"), ("image", "image"), ("document", "image"), ("video", "video"))
        },
        **{
            f"{side}_tokens_details.{kind}.token_count": f"{kind}_output+"
            for side in ("candidates", "response")
            for kind in ("audio", "image", "video")
        },
        "service_tier": "context:service_tier",
        "traffic_type": "context:traffic_type",
    },
    ignored=tuple(
        f"{side}_tokens_details.text.token_count" for side in ("prompt", "tool_use_prompt", "candidates", "response")
    ),
    reasoning_beside=True,
    modal_cache=True,
)
_BEDROCK: Final = Emitter(
    "bedrock",
    "EXCLUSIVE",
    {
        "input_tokens": "input",
        "output_tokens": "output",
        "total_tokens": "total",
        "cache_read_input_tokens": "cache_read",
        "cache_read_input_token_count": "cache_read",
        "cache_write_input_tokens": "cache_write",
        "cache_write_input_token_count": "cache_write",
        "cache_details.5m.input_tokens": "cache_write_5m",
        "cache_details.1h.input_tokens": "cache_write_1h",
    },
    loose_total=True,
)
_COHERE: Final = Emitter(
    "cohere",
    "INCLUSIVE",
    {
        **{f"{at}billed_units.input_tokens": "input" for at in ("", "meta.")},
        **{f"{at}billed_units.output_tokens": "output" for at in ("", "meta.")},
    },
    # Billed units are what is paid; the tokens beside them count the provider's own preamble too.
    ignored=("tokens.", "meta.tokens.", "cached_tokens", "meta.cached_tokens", "meta.api_version."),
)
_COHERE_TOKENS: Final = Emitter(
    "cohere_tokens",
    "INCLUSIVE",
    {"tokens.input_tokens": "input", "tokens.output_tokens": "output", "cached_tokens": "cache_read"},
)
_OLLAMA: Final = Emitter(
    "ollama",
    "INCLUSIVE",
    {"prompt_eval_count": "input", "eval_count": "output"},
    ignored=("total_duration", "load_duration", "prompt_eval_duration", "eval_duration"),
)

APIS: Final = (
    _CHAT,
    replace(_CHAT, name="deepseek"),
    replace(_CHAT, name="mistral"),
    replace(_CHAT, name="openrouter"),
    replace(
        _CHAT,
        name="perplexity",
        fields={
            **_CHAT.fields,
            "num_search_queries": "web_searches",
            "search_context_size": "context:search_context_size",
            "cost.total_cost": "cost",
        },
        ignored=(*_CHAT.ignored, "cost."),
        reasoning_beside=True,
        loose_total=True,
    ),
    replace(
        _CHAT,
        name="xai",
        fields={**_CHAT.fields, "cached_prompt_text_tokens": "cache_read", "prompt_image_tokens": "image_input"},
        ignored=(*_CHAT.ignored, "prompt_text_tokens", "cost_in_usd_ticks"),
        reasoning_beside=True,
    ),
    _RESPONSES,
    _REALTIME,
    _ANTHROPIC,
    _GEMINI,
    _BEDROCK,
    _COHERE,
    _COHERE_TOKENS,
    _OLLAMA,
)
