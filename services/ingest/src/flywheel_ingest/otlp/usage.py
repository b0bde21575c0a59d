"""Token counts and cost of a span, as the emitter reports them: the one place where OTLP meets pricing.

What ``split_usage`` needs besides the counts is whether the input includes cached tokens. That is a property of the
instrumentation that counted, so it is told by the spelling used and by the scope's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flywheel.pricing import Convention
from flywheel_ingest.otlp.drafts import Draft, kind_of, whole
from flywheel_ingest.otlp.names import COST, USAGE, USAGE_BESIDE, USAGE_CONVENTION, USAGE_WITHOUT_FIELD

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
_SIDES: Final[Mapping[str, tuple[str, ...]]] = {
    "input": ("input_tokens", "audio_input_tokens", "image_input_tokens"),
    "output": ("output_tokens", "reasoning_tokens", "audio_output_tokens"),
}


class _Unsound(Exception):
    """A count that is none, or contradicts another."""


def put_usage(draft: Draft, scope: str) -> None:
    """Fill the token counts of a call and the convention they are in.

    Where one count is malformed, or given twice with different values, all are left out: a price for the rest would be
    a guess. Flags: ``usage_invalid`` · ``usage_conflicting`` · ``cache_write_ttl_assumed`` no name of OpenTelemetry
    says how long a written cache lives, so five minutes, the default of those who sell both · ``usage_without_field``
    a part of one side (video, say) has a price of its own and the call no field for it, so that side is left out.
    """
    try:
        counts = _counts(draft)
        parts = _parts_without_field(draft)
    except _Unsound:
        return
    for side in parts:
        draft.flags.append("usage_without_field")
        for name in _SIDES[side]:
            counts.pop(name, None)
    for name, (key, count) in counts.items():
        draft.put(name, count, key)
    if counts:
        draft.put("usage_convention", _convention(draft, scope), USAGE_CONVENTION)
        draft.item["usage_source"] = "PROVIDER"
    if counts.get(_CACHE_WRITE, ("", 0))[1]:
        draft.flags.append("cache_write_ttl_assumed")


def _counts(draft: Draft) -> dict[str, tuple[str, int]]:
    """Every count by its field, with the attribute that told it; those beside the standard names where these do not."""
    counts: dict[str, tuple[str, int]] = {}
    sound = True
    for table in (USAGE, USAGE_BESIDE):
        told = frozenset(counts)
        for name, keys in table.items():
            for key in () if name in told else keys:
                try:
                    _count(draft, counts, name, key)
                except _Unsound:
                    sound = False
    if not sound:
        raise _Unsound
    return counts


def _count(draft: Draft, counts: dict[str, tuple[str, int]], name: str, key: str) -> None:
    value = draft.layers[0].values.get(key)
    if value is None:
        return
    count = whole(value)
    if count is None or count < 0:
        draft.issue(key, "is negative" if count is not None else f"is {kind_of(value)}, not an integer")
        draft.flags.append("usage_invalid")
        raise _Unsound
    if counts.setdefault(name, (key, count))[1] != count:
        draft.issue(key, f"contradicts {counts[name][0]}")
        draft.flags.append("usage_conflicting")
        raise _Unsound


def _parts_without_field(draft: Draft) -> list[str]:
    """The sides of which a part, that a call has no field for, is more than nothing."""
    sides: list[str] = []
    for side, keys in USAGE_WITHOUT_FIELD.items():
        parts: dict[str, tuple[str, int]] = {}
        for key in keys:
            _count(draft, parts, key, key)
        if any(count for _, count in parts.values()):
            sides.append(side)
    return sides


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
