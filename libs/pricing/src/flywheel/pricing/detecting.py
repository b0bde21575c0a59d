"""Which emitter wrote a usage object, by the keys that only it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from functools import lru_cache
from typing import Final

from flywheel.pricing.buckets import BUCKETS

_XAI: Final = frozenset({"xai", "x_ai", "x-ai"})
_OPENLLMETRY_ONLY: Final = frozenset(
    f"gen_ai.usage.{name}" for name in ("cache_read_input_tokens", "cache_creation_input_tokens", "reasoning_tokens")
)
_ANTHROPIC_ONLY: Final = frozenset({"cache_creation_input_tokens", "cache_read_input_tokens"})
_OWN_ONLY: Final = frozenset(BUCKETS) - {"reasoning_tokens", "cache_read_tokens"}


@lru_cache(4096)
def emitter_of(paths: frozenset[str], provider: str) -> str | None:
    """The name of the emitter whose keys ``paths`` are (snake-cased, joined by dots); None when no rule fits.

    ``provider`` (lower case) decides only between two that spell alike and count differently.
    """
    if any(path.startswith(("gen_ai.usage.", "llm.usage.", "llm.token_count.")) for path in paths):
        return _attributes(paths)
    if paths & {"prompt_token_count", "candidates_token_count", "total_token_count", "response_token_count"}:
        return "gemini"
    if _any_under(paths, "billed_units.", "meta.billed_units."):
        return "cohere"
    if _any_under(paths, "tokens."):
        return "cohere_tokens"
    if paths & {"prompt_tokens", "completion_tokens"}:
        return _chat(paths, provider)
    if paths & {"input_tokens", "output_tokens"}:
        return _input_output(paths, provider)
    if paths & {"prompt_eval_count", "eval_count"}:
        return "ollama"
    if paths & {"input", "output"}:
        return "pi" if paths & {"cache_read", "cache_write", "total_tokens"} else "langfuse"
    return "flywheel" if paths & frozenset(BUCKETS) else None


def _is_bedrock(provider: str) -> bool:
    return provider == "aws" or "bedrock" in provider


def _any_under(paths: Set[str], *beginnings: str) -> bool:
    return any(path.startswith(beginnings) for path in paths)


def _attributes(paths: Set[str]) -> str:
    if _any_under(paths, "llm.token_count."):
        return "openinference"
    return "openllmetry" if _any_under(paths, "llm.usage.") or paths & _OPENLLMETRY_ONLY else "otel"


def _chat(paths: Set[str], provider: str) -> str:
    if "prompt_cache_hit_tokens" in paths:
        return "deepseek"
    if provider in _XAI:
        return "xai"
    if provider == "perplexity" or "cost.total_cost" in paths:
        return "perplexity"
    if provider == "openrouter" or paths & {"cost", "is_byok"}:
        return "openrouter"
    return "mistral" if provider.startswith("mistral") else "openai_chat"


_VERCEL_ONLY: Final = frozenset(
    {
        "input_token_details.no_cache_tokens",
        "input_token_details.cache_read_tokens",
        "input_token_details.cache_write_tokens",
    }
)
_REALTIME_ONLY: Final = frozenset(
    f"{side}_token_details.{kind}_tokens"
    for side, kinds in (("input", ("text", "audio", "cached", "image")), ("output", ("audio",)))
    for kind in kinds
)

_RULES: Final[Mapping[str, Callable[[Set[str]], object]]] = {
    "openai_realtime": lambda paths: paths & _REALTIME_ONLY,
    "vercel": lambda paths: (
        paths & _VERCEL_ONLY
        or paths & {"output_token_details.text_tokens", "output_token_details.reasoning_tokens"}
        or _any_under(paths, "raw.")
    ),
    "langchain": lambda paths: _any_under(paths, "input_token_details.", "output_token_details."),
    "bedrock": lambda paths: _any_under(
        paths, "cache_details.", "cache_write_input_token", "cache_read_input_token_count"
    ),
    "vercel_v5": lambda paths: "cached_input_tokens" in paths,
    "anthropic": lambda paths: (
        paths & _ANTHROPIC_ONLY
        or _any_under(paths, "cache_creation.", "server_tool_use.")
        or "output_tokens_details.thinking_tokens" in paths
    ),
    "openai_responses": lambda paths: _any_under(paths, "input_tokens_details.", "output_tokens_details."),
    "flywheel": lambda paths: paths & _OWN_ONLY,
    "pydantic_ai": lambda paths: (
        paths & {"cache_write_tokens", "input_audio_tokens", "cache_audio_read_tokens", "tool_calls"}
    ),
}


def _input_output(paths: Set[str], provider: str) -> str:
    for name, fits in _RULES.items():
        if fits(paths):
            # With nothing written to a cache, Bedrock's names are Anthropic's, and it gives a total.
            return "bedrock" if name == "anthropic" and _is_bedrock(provider) else name
    if "reasoning_tokens" in paths:
        return "vercel_v5"
    if "cache_read_tokens" in paths:
        return "flywheel"
    if _is_bedrock(provider):
        return "bedrock"
    if provider == "anthropic":
        return "anthropic"
    # Nothing but totals: here all conventions mean the same.
    return "openai_responses"
