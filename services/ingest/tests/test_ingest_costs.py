"""Raw usage objects, the tiers and pools that change a price, and who pays: what a call becomes."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.events import Codec
from flywheel.pricing import prices_with
from flywheel.pricing.own import read_own_prices
from flywheel_ingest.core import Core

NOW_US = 1_795_234_200_000_000
GEMINI = {"promptTokenCount": 9, "candidatesTokenCount": 1, "thoughtsTokenCount": 21, "totalTokenCount": 31}
CHAT = {"prompt_tokens": 1000, "completion_tokens": 200, "prompt_tokens_details": {"cached_tokens": 300}}


def call(**fields: Any) -> dict[str, Any]:
    base = {"request_id": "r", "occurred_at": NOW_US, "provider": "openai", "request_model": "gpt-4o", "status": "ok"}
    return {**base, **fields}


def priced(core: Core, codec: Codec, **fields: Any) -> dict[str, Any]:
    """The call as a reader of the topic gets it."""
    admission = core.admit("call", [call(**fields)], NOW_US)
    assert not admission.refusals, admission.refusals
    return codec.decode(codec.encode("llm_call", admission.facts[0].event)).value


def refused(core: Core, **fields: Any) -> tuple[str, str]:
    ((refusal,), facts) = (core.admit("call", [call(**fields)], NOW_US).refusals, ())
    (error,) = refusal.errors
    assert not facts
    return error.field, error.message


def test_a_raw_usage_object_says_by_itself_how_it_counts(core: Core, codec: Codec) -> None:
    event = priced(core, codec, usage=CHAT)
    assert (event["usage_emitter"], event["usage_convention"], event["usage_source"]) == (
        "openai_chat",
        "INCLUSIVE",
        "PROVIDER",
    )
    assert (event["uncached_input_tokens"], event["cache_read_tokens"], event["visible_output_tokens"]) == (
        700,
        300,
        200,
    )
    assert (event["cost_usd"], event["cost_source"]) == (Decimal("0.004125"), "LOCAL")
    assert (event["price_source"], event["price_model"]) == ("genai-prices", "gpt-4o")
    assert event["price_version"].startswith("genai-prices/")
    assert event["flags"] == []


def test_the_same_usage_told_three_ways_costs_the_same(core: Core, codec: Codec) -> None:
    ours = {"usage_convention": "INCLUSIVE", "input_tokens": 1000, "cache_read_tokens": 300, "output_tokens": 200}
    otel = {
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.cache_read.input_tokens": 300,
        "gen_ai.usage.output_tokens": 200,
    }
    events = [priced(core, codec, **told) for told in (ours, {"usage": CHAT}, {"usage": otel})]
    assert {event["cost_usd"] for event in events} == {Decimal("0.004125")}
    assert [event["usage_emitter"] for event in events] == [None, "openai_chat", "otel"]


def test_buckets_that_the_first_version_lacked_are_kept(core: Core, codec: Codec) -> None:
    usage = {
        "input_tokens": 10,
        "output_tokens": 2,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "server_tool_use": {"web_search_requests": 3},
    }
    event = priced(core, codec, provider="anthropic", request_model="claude-sonnet-4-5", usage=usage)
    assert event["web_searches"] == 3
    assert event["cost_usd"] == Decimal("0.03006")


def test_what_contradicts_itself_is_kept_as_told_and_has_no_price(core: Core, codec: Codec) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 11}}
    event = priced(core, codec, usage=usage)
    assert event["flags"] == ["cache_exceeds_input"]
    assert (event["input_tokens"], event["cache_read_tokens"], event["uncached_input_tokens"]) == (10, 11, None)
    assert (event["cost_usd"], event["cost_source"], event["price_version"]) == (None, "UNKNOWN", None)


def test_a_bill_inside_the_usage_is_the_cost_beside_what_the_table_says(core: Core, codec: Codec) -> None:
    event = priced(core, codec, usage={**CHAT, "cost": 0.0041}, provider="openrouter", request_model="openai/gpt-4o")
    assert (event["cost_usd"], event["cost_source"], event["price_source"]) == (
        Decimal("0.0041"),
        "PROVIDER",
        "provider",
    )
    assert event["computed_usd"] == Decimal("0.004125")
    told = priced(core, codec, usage=CHAT, cost_usd="0.01")
    assert (told["cost_usd"], told["computed_usd"]) == (Decimal("0.01"), Decimal("0.004125"))
    assert told["flags"] == ["reported_cost_differs"]


def test_a_service_tier_is_never_billed_at_standard_prices(core: Core, codec: Codec) -> None:
    standard = priced(core, codec, usage=CHAT, price_context={"service_tier": "default"})
    flex = priced(core, codec, usage=CHAT, price_context={"service_tier": "flex"})
    inside = priced(core, codec, usage={**CHAT, "service_tier": "flex"}, price_context={"service_tier": "auto"})
    assert standard["cost_usd"] == Decimal("0.004125")
    assert [each["flags"] for each in (flex, inside)] == [["unpriced_service_tier"]] * 2
    assert inside["price_context"] == {"service_tier": "flex"}
    assert refused(core, price_context={"discount": "all"})[0] == "price_context.discount"


def test_no_free_text_comes_in_as_a_tier(core: Core, codec: Codec) -> None:
    text = "ann@example.org pays"
    assert refused(core, price_context={"speed": text})[0] == "price_context.speed"
    event = priced(core, codec, usage={**CHAT, "service_tier": text})
    assert event["price_context"] == {"service_tier": "other"}
    assert (event["cost_usd"], event["flags"]) == (None, ["unpriced_service_tier"])
    assert text not in str(event)


def test_a_local_model_is_paid_by_the_second_of_its_pool(core: Core, codec: Codec) -> None:
    own = read_own_prices("- {id: vllm, models: [{id: qwen3-8b, prices: {pool_seconds: 0.0004}}]}")
    mine = replace(core, prices=prices_with(own))
    local = {"provider": "vllm", "request_model": "qwen3-8b"}
    event = priced(mine, codec, pool_seconds="0.1234567891", **local)
    assert (event["pool_seconds"], event["cost_usd"]) == (
        Decimal("0.123456789"),
        Decimal("0.000049382716"),
    )
    assert (event["price_source"], event["price_version"]) == ("own", own.version)
    assert priced(mine, codec, **local)["flags"] == ["usage_missing"]
    assert priced(mine, codec, usage=CHAT, **local)["flags"] == ["pool_seconds_missing"]
    assert refused(mine, pool_seconds=-1)[0] == "pool_seconds"
    assert refused(mine, pool_seconds=1e12)[0] == "pool_seconds"


def test_shares_add_up_to_one_to_the_last_digit(core: Core, codec: Codec) -> None:
    shares = {"a": 0.1, "b": "0.20", "c": 7e-1}
    assert priced(core, codec, shares=shares)["shares"] == {"a": "0.1", "b": "0.2", "c": "0.7"}
    assert priced(core, codec, shares={"a": 1})["shares"] == {"a": "1"}
    assert priced(core, codec, shares={})["shares"] == {}
    thirds = {"a": "0.333333333", "b": "0.333333333", "c": "0.333333334"}
    assert priced(core, codec, shares=thirds)["shares"] == thirds


@pytest.mark.parametrize(
    "shares",
    [
        {"a": 0.5},
        {"a": 0.5, "b": 0.6},
        {"a": 1.5, "b": -0.5},
        {"a": 1, "b": 0},
        {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3},
        {"a": "half", "b": 0.5},
        {"a": True},
        {"": 1},
        {"a" * 129: 1},
        [["a", 1]],
        "a",
        {"a": "0.9999999999", "b": "0.0000000001"},
        {"a": "NaN"},
        {"a": "1e999"},
        {str(number): "0.01" for number in range(100)},
    ],
)
def test_shares_that_are_not_the_whole_are_refused_by_name(core: Core, shares: Any) -> None:
    assert refused(core, shares=shares)[0] == "shares"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"usage": CHAT, "input_tokens": 5}, "usage"),
        ({"usage": [1]}, "usage"),
        ({"usage": {"prompt_tokens": 2**64}}, "usage"),
        ({"usage": orjson.loads('{"a":' * 500 + "1" + "}" * 500)}, "usage"),
        ({"usage": CHAT, "usage_emitter": "nobody"}, "usage_emitter"),
        ({"usage_emitter": "anthropic"}, "usage_emitter"),
        ({"computed_usd": 1}, "computed_usd"),
        ({"price_source": "own"}, "price_source"),
    ],
)
def test_what_cannot_be_told_together_is_refused_by_name(core: Core, fields: dict[str, Any], field: str) -> None:
    assert refused(core, **fields)[0] == field


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
NAMES = st.sampled_from([*CHAT, *GEMINI, "input_tokens", "output_tokens", "cache_read_input_tokens", "cost", "usage"])


@given(st.dictionaries(NAMES | st.text(max_size=20), st.integers(-5, 10**13) | JSON, max_size=8))
@settings(max_examples=200, deadline=None)
def test_whatever_a_usage_object_holds_nothing_is_negative_and_zero_is_not_unknown(
    core: Core, codec: Codec, usage: dict[str, Any]
) -> None:
    event = priced(core, codec, usage=usage)
    counts = [value for name, value in event.items() if name.endswith("_tokens") and value is not None]
    assert all(count >= 0 for count in counts)
    assert event["cost_usd"] is None or event["cost_usd"] >= 0
    if event["cost_usd"] is None:
        assert event["flags"]
    elif event["cost_source"] == "LOCAL" and event["cost_usd"] == 0:
        assert not any(counts)
