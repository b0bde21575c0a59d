"""A person's own prices: they win where they hold, and every mistake in the file names its field."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.pricing import Buckets, PriceBook, Priced, prices_with
from flywheel.pricing.own import OwnPricesInvalid, read_own_prices

MILLION = Buckets(uncached_input_tokens=1_000_000, visible_output_tokens=0)

OWN = """
- id: openai
  models:
    - id: gpt-4o
      match:
        or:
          - equals: gpt-4o
          - starts_with: gpt-4o-2024
      prices:
        - constraint: {start_date: 2026-06-01}
          prices: {input_mtok: 2.0, output_mtok: 8}
        - constraint: {start_date: 2026-09-01}
          prices:
            input_mtok: {base: 0.1, tiers: [{start: 128000, price: 0.7}]}
            output_mtok: 8
      price_variants:
        - when: {processing: batch}
          prices: {input_mtok: 1}
- id: vllm
  models:
    - id: qwen3-8b
      prices: {pool_seconds: 0.0004}
    - id: night-model
      prices:
        - prices: {input_mtok: 2, output_mtok: 2}
        - constraint: {start_time: "22:00", end_time: "06:00"}
          prices: {input_mtok: 1, output_mtok: 1}
"""


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return prices_with(read_own_prices(OWN))


def price(book: PriceBook, provider: str, model: str, when: str, **others: Any) -> Priced:
    return book.price(MILLION, provider=provider, models=(model,), at_us=at(when), **others)


def test_own_prices_win_from_their_start_date_on(book: PriceBook) -> None:
    before = price(book, "openai", "gpt-4o", "2026-05-31T23:59:59")
    assert before.cost_usd == Decimal("2.5")
    assert before.rates is not None
    assert before.rates.source == "genai-prices"
    after = price(book, "openai", "gpt-4o", "2026-06-01T00:00:00")
    assert after.cost_usd == Decimal("2")
    assert after.rates is not None
    assert (after.rates.source, after.rates.model) == ("own", "gpt-4o")
    assert after.price_version == after.rates.version
    assert (after.price_version or "").startswith("own/")


def test_own_prices_have_tiers_aliases_and_service_tiers(book: PriceBook) -> None:
    assert price(book, "openai", "gpt-4o-2024-08-06", "2026-10-01").cost_usd == Decimal("0.7")
    assert price(book, "openai", "gpt-4o", "2026-10-01", context=(("processing", "batch"),)).cost_usd == Decimal("1")


def test_what_the_own_file_does_not_have_is_in_the_public_table(book: PriceBook) -> None:
    assert price(book, "openai", "gpt-4o-mini", "2026-10-01").cost_usd == Decimal("0.15")


def test_own_prices_may_change_with_the_hour(book: PriceBook) -> None:
    assert price(book, "vllm", "night-model", "2026-10-01T21:59:59").cost_usd == Decimal("2")
    assert price(book, "vllm", "night-model", "2026-10-01T22:00:00").cost_usd == Decimal("1")
    assert price(book, "vllm", "night-model", "2026-10-01T06:00:00").cost_usd == Decimal("2")


def test_a_local_model_is_priced_by_the_seconds_of_its_pool(book: PriceBook) -> None:
    priced = price(book, "vllm", "qwen3-8b", "2026-10-01", pool_seconds=Decimal("2.5"))
    assert priced.cost_usd == Decimal("0.001")
    assert price(book, "vllm", "qwen3-8b", "2026-10-01").flags == ("pool_seconds_missing",)


def test_a_provider_is_found_by_any_of_its_public_names() -> None:
    text = '[{"id": "google", "models": [{"id": "gemini-x", "prices": {"input_mtok": "3", "output_mtok": 1}}]}]'
    book = prices_with(read_own_prices(text))
    for name in ("google", "gcp.gemini", "gcp.vertex_ai", "gcp.gen_ai"):
        assert price(book, name, "gemini-x", "2026-10-01").cost_usd == Decimal("3")


def test_the_version_is_of_the_text() -> None:
    text = '{"id": "a", "models": [{"id": "m", "prices": {"input_mtok": 0.1}}]}'
    assert read_own_prices(text).version == read_own_prices(text).version
    assert read_own_prices(text).version != read_own_prices(text.replace("0.1", "0.2")).version


@given(st.decimals(min_value=0, max_value=10**6, places=9), st.booleans())
def test_a_price_is_the_number_that_is_written(written: Decimal, quoted: bool) -> None:
    number = f'"{written:f}"' if quoted else f"{written:f}"
    for text in (
        f'[{{"id": "a", "models": [{{"id": "m", "prices": {{"input_mtok": {number}}}}}]}}]',
        f"- id: a\n  models:\n    - id: m\n      prices:\n        input_mtok: {number}\n",
    ):
        card = read_own_prices(text).card("a", "m", 0)
        assert card is not None
        assert card.base.usd[0] == written.scaleb(-6)


def model(**fields: object) -> object:
    return [{"id": "p", "models": [{"id": "m", "prices": {"input_mtok": 1}, **fields}]}]


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ([], "file: List should have at least 1 item"),
        ({}, "0.id: Field required"),
        ("word", "0: Input should be"),
        ([{"id": "p", "models": []}], "0.models: List should have at least 1 item"),
        ([{"id": "p", "modles": []}], "0.modles: Extra inputs"),
        (model(prices={"inptu_mtok": 1}), "inptu_mtok is no price that is known here"),
        (model(prices={"input_mtok": -1}), "0.models.0.prices.input_mtok: Input should be greater than or equal to 0"),
        (model(prices={"input_mtok": 10**9}), "0.models.0.prices.input_mtok: Input should be less than or equal"),
        (model(prices={"input_mtok": True}), "0.models.0.prices.input_mtok"),
        (model(prices={"input_mtok": "NaN"}), "0.models.0.prices.input_mtok"),
        (model(prices={"input_mtok": "1e-12"}), "0.models.0.prices.input_mtok"),
        (model(prices={}), "names at least one price"),
        (model(prices=[]), "names at least one price"),
        (model(prices={"pool_seconds": {"base": 1, "tiers": [{"start": 0, "price": 1}]}}), "pool_seconds has no tiers"),
        (model(prices={"input_mtok": {"base": 1, "tiers": [{"start": -5, "price": 1}]}}), "tiers.0.start"),
        (model(prices=[{"constraint": {"start_date": "soon"}, "prices": {"input_mtok": 1}}]), "constraint.start_date"),
        (model(prices=[{"constraint": {}, "prices": {"input_mtok": 1}}]), "has start_date, or start_time and end_time"),
        (model(match={"regex": "("}), "regex: "),
        (model(match={"equals": "a", "contains": "b"}), "has one of starts_with"),
        (model(match={"or": []}), "0.models.0.match.or"),
        (model(price_variants=[{"when": {}, "prices": {"input_mtok": 1}}]), "0.models.0.price_variants.0.when"),
        ([{"id": "p", "models": [{"id": "m", "prices": {"input_mtok": 1}}] * 2}], "model m is there twice"),
        ([{"id": "p", "models": [{"id": "m", "prices": {"input_mtok": 1}}]}] * 2, "provider p is there twice"),
    ],
)
def test_a_mistake_in_the_file_is_named(found: object, problem: str) -> None:
    with pytest.raises(OwnPricesInvalid) as error:
        read_own_prices(json.dumps(found))
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[{]", "is not JSON"),
        ("- id: [", "is neither JSON nor YAML"),
        ("- &a {id: p}\n- *a\n", "aliases"),
        ("[" * 100_000, "nested too deeply"),
        (" " * (8 * 1024 * 1024 + 1), "is longer than"),
        ("", "0: Input should be"),
        ("\ud800", "is neither JSON nor YAML"),
        ("- " * 5_000 + "a", "nested too deeply"),
    ],
)
def test_a_text_that_is_no_price_file_is_refused(text: str, problem: str) -> None:
    with pytest.raises(OwnPricesInvalid) as error:
        read_own_prices(text)
    assert problem in str(error.value)
