"""Token counts and cost of a span, as the emitter reports them: the one place where OTLP meets pricing.

What ``split_usage`` needs besides the counts is whether the input includes cached tokens. That is a property of the
instrumentation that counted, so it is told by the spelling used and by the scope's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flywheel.pricing import Convention
from flywheel_ingest.otlp.drafts import Draft, kind_of, whole
from flywheel_ingest.otlp.names import COST, USAGE, USAGE_CONVENTION

# OpenTelemetry: gen_ai.usage.input_tokens "SHOULD include all types of input tokens, including cached tokens"
# (semantic-conventions #3163). OpenInference folds them into llm.token_count.prompt (#1429), OpenLLMetry into
# prompt_tokens and input_tokens (#2175), Sentry documents the same.
SPECIFIED: Final[Convention] = "INCLUSIVE"

SCOPES: Final[Mapping[str, Convention]] = {
    "opentelemetry.instrumentation.bedrock": "UNKNOWN",  # openllmetry #4449: Converse's input is the uncached part
    "@arizeai/openinference-instrumentation-anthropic": "UNKNOWN",  # openinference #3734: beside, until September 2026
    "logfire.anthropic": "UNKNOWN",  # logfire #1812: beside, until March 2026
    "opentelemetry-instrumentation-ruby_llm": "UNKNOWN",  # its #38: the cache-miss count
}
"""Instrumentations that have, in some version, not kept to it. Which version counted is not to be told from a span, so
the figures must tell (``usage_convention_deduced``), or the call has no price (``usage_convention_unknown``)."""

_CACHE_WRITE: Final = "cache_write_5m_tokens"
_DEFAULT_TTL: Final = "cache_write_ttl_assumed_5m"


def put_usage(draft: Draft, scope: str) -> None:
    """Fill the token counts of a call and the convention they are in.

    Where one count is malformed, or given twice with different values, all are left out: a price for the rest would be
    a guess. Flags: ``usage_invalid`` · ``usage_conflicting`` · ``cache_write_ttl_assumed_5m`` (no name of OpenTelemetry
    says how long a written cache lives).
    """
    counts: dict[str, tuple[str, int]] = {}
    sound = True
    for name, keys in USAGE.items():
        for key in keys:
            value = draft.layers[0].values.get(key)
            if value is None:
                continue
            count = whole(value)
            if count is None or count < 0:
                draft.issue(key, "is negative" if count is not None else f"is {kind_of(value)}, not an integer")
                draft.flags.append("usage_invalid")
                sound = False
            elif counts.setdefault(name, (key, count))[1] != count:
                draft.issue(key, f"contradicts {counts[name][0]}")
                draft.flags.append("usage_conflicting")
                sound = False
    if not sound or not counts:
        return
    for name, (key, count) in counts.items():
        draft.put(name, count, key)
    draft.put("usage_convention", _convention(draft, scope), USAGE_CONVENTION)
    draft.item["usage_source"] = "PROVIDER"
    if counts.get(_CACHE_WRITE, ("", 0))[1]:
        draft.flags.append(_DEFAULT_TTL)


def _convention(draft: Draft, scope: str) -> Convention:
    found = draft.find((USAGE_CONVENTION,))
    if found is not None:
        match str(found[1]).upper():
            case "INCLUSIVE":
                return "INCLUSIVE"
            case "EXCLUSIVE":
                return "EXCLUSIVE"
        draft.issue(found[0], "is neither inclusive nor exclusive")
        return "UNKNOWN"
    return SCOPES.get(scope.lower(), SPECIFIED)


def put_cost(draft: Draft) -> None:
    """Take the cost that a provider billed, in US dollars (semantic-conventions-genai #443, proposed).

    An emitter's own estimate is not taken: those in the wild say 0 for a model they do not know. Flag:
    ``cost_not_usd`` a cost in another currency, which is not converted.
    """
    amount, currency, source = (draft.find((key,)) for key in COST)
    if amount is None or source is None or source[1] != "provider":
        return
    if currency is None or currency[1] != "USD":
        draft.flags.append("cost_not_usd")
        return
    number = draft.number((COST[0],))
    if number is not None and number[1] >= 0:
        draft.put("cost_usd", number[1], COST[0])
    elif number is not None:
        draft.issue(COST[0], "is negative")
