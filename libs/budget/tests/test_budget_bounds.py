"""Bounds: never below what the same price book charges for a call within the limits, and not far above."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.budget.bounds import (
    DEFAULT_INPUT_TOKENS,
    DEFAULT_OUTPUT_TOKENS,
    Bounds,
    CallSize,
    Limits,
    arm_cap,
    bound_of,
    tightest,
)
from flywheel.budget.money import PICO_PER_USD
from flywheel.pricing import Buckets, bundled_prices, prices_with
from flywheel.pricing.own import read_own_prices

AT_US = 1_760_000_000_000_000
HOUR_US = 3_600_000_000
MODELS = (
    "openai/gpt-4o", "openai/gpt-4o-mini", "openai/o3", "anthropic/claude-sonnet-4-5", "google/gemini-2.5-pro",
    "google/gemini-2.5-flash", "deepseek/deepseek-chat", "groq/llama-3.3-70b-versatile", "openai/gpt-4o-audio-preview",
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(
    model=st.sampled_from(MODELS),
    parts=st.lists(st.integers(0, 300_000), min_size=9, max_size=9),
    at_us=st.integers(AT_US, AT_US + 200 * 24 * HOUR_US),
    later_us=st.integers(0, 20 * HOUR_US),
    slack=st.integers(0, 10),
)
def test_no_call_within_its_limits_costs_more_than_its_bound(
    model: str, parts: list[int], at_us: int, later_us: int, slack: int
) -> None:
    book, (provider, name) = bundled_prices(), model.split("/", 1)
    buckets = Buckets(*parts)
    told = sum(parts[:4]) + sum(parts[place] for place in (6, 8))
    made = sum(parts[place] for place in (4, 5, 7))
    rates = Bounds(book).rates(model, {}, at_us)
    assert rates is not None
    bound = bound_of(rates, CallSize(input_tokens=told + slack, max_tokens=made + slack), Limits(), None)
    cost = book.price(buckets, provider=provider, models=(name,), at_us=at_us + later_us).cost_usd
    if cost is not None:  # a bucket the model does not have has no price
        assert cost * PICO_PER_USD <= bound.pico(made + slack)


@pytest.mark.parametrize("model", ["openai/gpt-4o", "groq/llama-3.3-70b-versatile"])
def test_a_plain_call_costs_its_bound(model: str) -> None:
    book, (provider, name) = bundled_prices(), model.split("/", 1)
    rates = Bounds(book).rates(model, {}, AT_US)
    assert rates is not None
    bound = bound_of(rates, CallSize(input_bytes=1000, max_tokens=77), Limits(), None)
    buckets = Buckets(uncached_input_tokens=1000, visible_output_tokens=77)
    cost_usd = book.price(buckets, provider=provider, models=(name,), at_us=AT_US).cost_usd
    assert cost_usd == Decimal(bound.pico(77)) / PICO_PER_USD


@pytest.mark.parametrize("model", [None, "", "nobody/knows", "gpt-4o-without-its-provider"])
def test_a_model_without_a_price_has_no_bound(model: str | None) -> None:
    assert Bounds(bundled_prices()).rates(model, {}, AT_US) is None


def test_a_service_tier_needs_a_price_of_its_own() -> None:
    bounds = Bounds(bundled_prices())
    plain = bounds.rates("anthropic/claude-sonnet-4-5", {"temperature": "0.2"}, AT_US)
    assert bounds.rates("anthropic/claude-sonnet-4-5", {"service_tier": '"standard"'}, AT_US) == plain
    assert bounds.rates("anthropic/claude-sonnet-4-5", {"service_tier": '"nobody sells this"'}, AT_US) is None


def test_own_prices_that_rise_tomorrow_count_today_and_a_pool_has_no_bound() -> None:
    own = read_own_prices(
        """
        - id: openai
          models:
            - id: gpt-4o
              prices:
                - constraint: {start_date: 2025-10-10}
                  prices: {input_mtok: 100, output_mtok: 200, requests_kcount: 1}
        - id: vllm
          models: [{id: qwen, prices: {pool_seconds: 0.01}}]
        """
    )
    bounds = Bounds(prices_with(own))
    day_us = 24 * HOUR_US
    start_us = 1_760_054_400_000_000  # 2025-10-10
    before = bounds.rates("openai/gpt-4o", {}, start_us - 2 * day_us)
    eve = bounds.rates("openai/gpt-4o", {}, start_us - 1)
    assert before is not None
    assert eve is not None
    assert (before.any_input, eve.any_input, eve.output) == (2_500_000, 100_000_000, 200_000_000)
    assert eve.request == PICO_PER_USD // 1000
    assert bounds.rates("vllm/qwen", {}, AT_US) is None


def test_the_sizes_a_bound_is_made_of() -> None:
    rates = Bounds(bundled_prices()).rates("openai/gpt-4o", {}, AT_US)
    assert rates is not None
    limits = Limits(max_input_tokens=5000, max_output_tokens=700, min_output_tokens=50)
    told = bound_of(rates, CallSize(10, 99, 400), limits, 600)
    assert (told.input_tokens, told.most_tokens, told.least_tokens) == (10, 400, 50)
    silent = bound_of(rates, CallSize(), limits, 600)
    assert (silent.input_tokens, silent.most_tokens, silent.least_tokens) == (5000, 600, 50)
    nothing = bound_of(rates, CallSize(), Limits(), None)
    assert (nothing.input_tokens, nothing.most_tokens) == (DEFAULT_INPUT_TOKENS, DEFAULT_OUTPUT_TOKENS)
    small = bound_of(rates, CallSize(max_tokens=20), limits, None)
    assert (small.most_tokens, small.least_tokens) == (20, 20)
    assert silent.tokens_for(silent.pico(333)) == 333
    assert silent.tokens_for(silent.pico(333) - 1) == 332
    assert silent.tokens_for(10**18) == 600
    assert silent.tokens_for(0) < silent.least_tokens
    assert silent.least_pico == silent.pico(50)


def test_caps_and_limits_are_read() -> None:
    assert arm_cap({"max_tokens": "600", "max_completion_tokens": "500", "temperature": "0.2"}) == 500
    assert arm_cap({"max_tokens": '"many"', "max_output_tokens": "not json"}) is None
    assert tightest([Limits(100, 10, 1), Limits(200, 20, 2)]) == Limits(200, 10, 2)
    assert tightest([Limits(100, None, None), Limits()]) == Limits()
