"""Recorded calls by other prices: what is news, what stands, and what stays without a price."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from flywheel.pricing import bundled_prices, prices_with
from flywheel.pricing.again import ArrivedCall, price_again
from flywheel.pricing.own import read_own_prices

OWN = prices_with(
    read_own_prices(
        """
- id: openai
  models: [{id: gpt-4o, prices: {input_mtok: 2, output_mtok: 8, cache_read_mtok: 1}}]
- id: vllm
  models: [{id: qwen, prices: {pool_seconds: 0.5}}]
"""
    )
)
CALL = ArrivedCall(
    provider="openai",
    models=(None, "gpt-4o"),
    at_us=1_795_234_200_000_000,
    counts={
        "input_tokens": 1000,
        "uncached_input_tokens": 700,
        "cache_read_tokens": 300,
        "output_tokens": 200,
        "visible_output_tokens": 200,
    },
    cost_usd=Decimal("0.004125"),
    cost_source="LOCAL",
)


def test_the_table_of_arrival_changes_nothing_and_ones_own_does() -> None:
    verdict, same = price_again(CALL, bundled_prices())
    assert (verdict, same and same.cost_usd) == ("same", CALL.cost_usd)
    verdict, newer = price_again(CALL, OWN)
    assert (verdict, newer and newer.cost_usd, newer and newer.price_source) == ("changed", Decimal("0.0033"), "own")


def test_what_had_no_price_gets_one() -> None:
    unknown = replace(CALL, cost_usd=None, cost_source="UNKNOWN", flags=("unknown_model",))
    assert price_again(unknown, OWN)[0] == "changed"
    tier = replace(CALL, cost_usd=None, cost_source="UNKNOWN", flags=("unpriced_service_tier",))
    assert price_again(tier, OWN)[0] == "changed"
    # The tier goes with the call, and still has no price.
    assert price_again(replace(tier, context=(("service_tier", "flex"),)), OWN)[0] == "no_price"


def test_a_bill_stands_and_a_known_cost_is_never_taken_away() -> None:
    assert price_again(replace(CALL, cost_source="PROVIDER"), OWN) == ("billed", None)
    assert price_again(replace(CALL, models=("gone-1",)), OWN)[0] == "no_price"


@pytest.mark.parametrize(
    "changes",
    [
        {"flags": ("cache_exceeds_input",)},
        {"flags": ("usage_convention_unknown", "unknown_model")},
        {"flags": ("a_flag_of_tomorrow",)},
        {"counts": {"input_tokens": 10, "cache_read_tokens": 11, "output_tokens": 1}},
        {"counts": {"input_tokens": -1}},
        {"flags": ("usage_missing", "total_tokens_differ")},
    ],
)
def test_what_contradicted_itself_still_does(changes: dict[str, Any]) -> None:
    assert price_again(replace(CALL, **changes), OWN) == ("contradictory", None)


def test_a_pool_is_paid_by_the_second_without_any_usage() -> None:
    local = ArrivedCall("vllm", ("qwen",), CALL.at_us, {}, None, "UNKNOWN", ("usage_missing",))
    assert price_again(local, OWN)[0] == "no_price"
    verdict, priced = price_again(replace(local, pool_seconds=Decimal("0.25")), OWN)
    assert (verdict, priced and priced.cost_usd) == ("changed", Decimal("0.125"))
