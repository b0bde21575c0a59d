"""Raw usage objects priced a second on one core, beside genai-prices' own extraction and arithmetic on the same calls.

Both give the same costs, which is checked; ours also says which convention it read by, what contradicts and what it
does not know.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from genai_prices.data_snapshot import get_snapshot
from harness import Result, write

from flywheel.pricing import bundled_prices, price_call

COMMAND = "python tests/bench/run.py pricing"
CALLS = 20_000
ROUNDS = 5
AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
AT_US = int(AT.timestamp()) * 1_000_000

Call = tuple[str, str, str, dict[str, Any]]
"""Provider, genai-prices' name of the API, model, usage."""


def calls() -> list[Call]:
    """Calls of four APIs, with caches and reasoning, no two alike."""
    made: list[Call] = []
    for n in range(CALLS):
        if n % 4 == 0:
            usage: dict[str, Any] = {
                "prompt_tokens": 2000 + n,
                "completion_tokens": 300,
                "total_tokens": 2300 + n,
                "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 128, "audio_tokens": 0},
            }
            made.append(("openai", "chat", "gpt-5", usage))
        elif n % 4 == 1:
            usage = {
                "input_tokens": 3,
                "cache_creation_input_tokens": 100,
                "cache_read_input_tokens": 18_000 + n,
                "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 550,
            }
            made.append(("anthropic", "default", "claude-opus-4-8", usage))
        elif n % 4 == 2:
            usage = {
                "promptTokenCount": 1000 + n,
                "candidatesTokenCount": 100,
                "thoughtsTokenCount": 50,
                "totalTokenCount": 1150 + n,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1000 + n}],
            }
            made.append(("google", "default", "gemini-2.5-flash", usage))
        else:
            usage = {"inputTokens": 10 + n, "outputTokens": 20, "totalTokens": 30 + n}
            made.append(("aws", "default", "anthropic.claude-sonnet-4-5-20250929-v1:0", usage))
    return made


def ours(work: Sequence[Call]) -> list[Decimal | None]:
    """Costs by ``flywheel.pricing``."""
    book = bundled_prices()
    return [
        price_call(usage, book, provider=provider, models=(model,), at_us=AT_US).cost_usd
        for provider, _, model, usage in work
    ]


def theirs(work: Sequence[Call]) -> list[Decimal | None]:
    """Costs by genai-prices' ``extract_usage`` and ``calc_price``."""
    snapshot = get_snapshot()
    costs: list[Decimal | None] = []
    for provider, flavour, model, usage in work:
        body = {"model": model, ("usageMetadata" if provider == "google" else "usage"): usage}
        extracted = snapshot.extract_usage(body, provider_id=provider, api_flavor=flavour)
        _, found = snapshot.find_provider_model(model, extracted.provider, None, None)
        costs.append(extracted.calc_price(genai_request_timestamp=AT, model=found).total_price)
    return costs


def per_second(price: Callable[[Sequence[Call]], object], work: Sequence[Call]) -> float:
    """Calls a second of CPU, the best of some rounds: other work on the machine only ever slows one down."""
    best_s = float("inf")
    for _ in range(ROUNDS):
        started_s = time.process_time()
        price(work)
        best_s = min(best_s, time.process_time() - started_s)
    return len(work) / best_s


def main() -> None:
    """Measure both on the same calls."""
    work = calls()
    if ours(work) != theirs(work):
        raise SystemExit("the two do not come to the same costs")
    note = "OpenAI, Anthropic, Gemini, Bedrock in turn; one core, from CPU time"
    mine, baseline = per_second(ours, work), per_second(theirs, work)
    write(Result("pricing_raw_usage", mine, "calls/s", baseline, "genai-prices", COMMAND, note))


if __name__ == "__main__":
    main()
