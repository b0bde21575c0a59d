"""Usage of a span as the emitter reports it: which attributes are the raw usage object that pricing reads.

What pricing needs besides is whether the input includes cached tokens. That is a property of the instrumentation that
counted: pricing knows it by the spelling, and here it is told of scopes that have not kept to theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flywheel.pricing import Convention
from flywheel.pricing.buckets import MOST_TOKENS
from flywheel_ingest.otlp.drafts import Draft, kind_of, whole
from flywheel_ingest.otlp.names import COST, USAGE, USAGE_ALSO, USAGE_CONVENTION, is_usage
from flywheel_ingest.otlp.records import Value

SCOPES: Final[Mapping[str, Convention]] = {
    "opentelemetry.instrumentation.bedrock": "UNKNOWN",  # openllmetry #4449: Converse's input is the uncached part
    "@arizeai/openinference-instrumentation-anthropic": "UNKNOWN",  # openinference #3734: beside, until September 2026
    "logfire.anthropic": "UNKNOWN",  # logfire #1812: beside, until March 2026
    "opentelemetry-instrumentation-ruby_llm": "UNKNOWN",  # its #38: the cache-miss count
}
"""Instrumentations that have, in some version, not kept to it. Which version counted is not to be told from a span, so
the figures must tell (``usage_convention_deduced``), or the call has no price (``usage_convention_unknown``)."""


def put_usage(draft: Draft, scope: str) -> None:
    """Take the attributes that count tokens for the call's raw usage object, and the convention where the spelling does
    not settle it. Pricing flags what contradicts itself; here the attributes at fault are noted for the answer."""
    values = draft.layers[0].values
    usage: dict[str, Value] = {key: value for key, value in values.items() if value is not None and is_usage(key)}
    for key, standard in USAGE_ALSO.items():
        same = {standard, *(other for other, role in USAGE.items() if role == USAGE[standard])}
        if values.get(key) is not None and usage.keys().isdisjoint(same):
            usage[standard] = values[key]
    if not usage:
        return
    _note(draft, usage)
    # Bytes and the like have no JSON; any text is as little a count as they are.
    draft.item["usage"] = {key: _plain(value) for key, value in usage.items()}
    draft.item["usage_source"] = "PROVIDER"
    convention = _convention(draft, scope)
    if convention is not None:
        draft.put("usage_convention", convention, USAGE_CONVENTION)


def _plain(value: Value) -> Value:
    return value if isinstance(value, bool | int | float | str) else kind_of(value)


def _note(draft: Draft, usage: Mapping[str, Value]) -> None:
    """Note attributes that are no count or contradict another; and keep what the sides came to, to know the call by."""
    told: dict[str, tuple[str, int]] = {}
    for key, value in usage.items():
        role = USAGE.get(key)
        if role is None:
            continue
        count = whole(value)
        if count is None or not 0 <= count <= MOST_TOKENS:
            draft.issue(key, _wrong(value, count))
        elif told.setdefault(role, (key, count))[1] != count and not role.endswith("?"):
            draft.issue(key, f"contradicts {told[role][0]}")
    draft.sides = (told.get("input", ("", None))[1], told.get("output", ("", None))[1])


def _wrong(value: Value, count: int | None) -> str:
    if count is None:
        return f"is {kind_of(value)}, not an integer"
    return "is negative" if count < 0 else f"is above {MOST_TOKENS}"


def _convention(draft: Draft, scope: str) -> Convention | None:
    found = draft.find((USAGE_CONVENTION,))
    if found is not None:
        match str(found[1]).upper():
            case "INCLUSIVE":
                return "INCLUSIVE"
            case "EXCLUSIVE":
                return "EXCLUSIVE"
        draft.issue(found[0], "is neither inclusive nor exclusive")
        return "UNKNOWN"
    return SCOPES.get(scope.lower())


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
