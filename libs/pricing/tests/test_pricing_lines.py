"""A person's own file of calls: what a line may say, what is wrong with it by field, and what all of it comes to."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.pricing import bundled_prices, prices_with
from flywheel.pricing.lines import MOST_LINE_BYTES, Line, Summary, line_as_json, money, price_lines
from flywheel.pricing.own import read_own_prices

CALL: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt-4o",
    "time": "2026-11-21T04:10:00Z",
    "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 0},
}


def read(*lines: bytes | dict[str, Any]) -> list[Line]:
    raw = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    return list(price_lines(raw, bundled_prices()))


def test_a_line_is_priced_with_everything_that_explains_the_price() -> None:
    (line,) = read(CALL | {"ticket": "OPS-1"})
    told = line_as_json(line)
    assert told["line"] == 1
    assert (told["provider"], told["model"], told["priced_as"]) == ("openai", "gpt-4o", "gpt-4o")
    assert (told["cost_usd"], told["cost_source"], told["price_source"]) == ("2.5", "LOCAL", "genai-prices")
    assert told["price_version"].startswith("genai-prices/")
    assert told["rates_usd"]["cache_read_tokens"] == "0.00000125"
    assert told["buckets"]["uncached_input_tokens"] == 1_000_000
    assert told["buckets"]["cache_read_tokens"] is None
    assert (told["emitter"], told["convention"], told["flags"]) == ("openai_chat", "INCLUSIVE", [])
    json.dumps(told)


@pytest.mark.parametrize(
    "when",
    [
        "2026-11-21T04:10:00Z",
        "2026-11-21T04:10:00.123456+01:00",
        "2026-11-21 04:10:00",
        "2026-11-21",
        1_795_262_400_000_000,
    ],
)
def test_times_that_are_taken(when: object) -> None:
    (line,) = read(CALL | {"time": when})
    assert line.priced is not None


def test_a_time_without_an_offset_is_utc() -> None:
    used = {
        "provider": "anthropic",
        "model": "claude-sonnet-4-6",
        "usage": {"input_tokens": 300_000, "output_tokens": 0},
    }
    before, after, shifted = read(
        {**used, "time": "2026-03-12T23:59:59"},
        {**used, "time": "2026-03-13T00:00:00"},
        {**used, "time": "2026-03-12T23:00:00-01:00"},
    )
    costs = [line.priced and line.priced.cost_usd for line in (before, after, shifted)]
    assert costs == [Decimal("1.8"), Decimal("0.9"), Decimal("0.9")]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"provider": None}, "provider"),
        ({"provider": 7}, "provider"),
        ({"model": " "}, "model"),
        ({"model": "m" * 300}, "model"),
        ({"model": "a\u001b[31m"}, "model"),
        ({"model": "\ud800"}, "model"),
        ({"time": None}, "time"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-02-30T00:00:00Z"}, "time"),
        ({"time": "0001-01-01T00:00:00Z"}, "time"),
        ({"time": 1_795_262_400}, "time"),
        ({"time": 1.5}, "time"),
        ({"time": True}, "time"),
        ({"usage": None}, "usage"),
        ({"usage": [1]}, "usage"),
        ({"convention": "inclusiv"}, "convention"),
        ({"convention": 1}, "convention"),
        ({"pool_seconds": -1}, "pool_seconds"),
        ({"pool_seconds": "1"}, "pool_seconds"),
        ({"pool_seconds": 1e300}, "pool_seconds"),
        ({"pool_seconds": True}, "pool_seconds"),
        ({"service_tier": {"a": 1}}, "service_tier"),
    ],
)
def test_a_bad_field_is_named_and_costs_its_neighbours_nothing(change: dict[str, Any], field: str) -> None:
    bad, good = read(CALL | change, CALL)
    assert bad.error is not None
    assert bad.error.field == field
    assert str(bad.error).startswith(f"{field}: ")
    assert line_as_json(bad) == {"line": 1, "error": {"field": field, "message": bad.error.message}}
    assert good.priced is not None


@pytest.mark.parametrize(("when", "unit"), [(1_795_262_400, "seconds"), (1_795_262_400_000, "milliseconds")])
def test_a_time_in_another_unit_is_refused_with_the_unit_it_looks_like(when: int, unit: str) -> None:
    (bad,) = read(CALL | {"time": when})
    assert f"looks like {unit}" in str(bad.error)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{", "not JSON"),
        (b'{"usage": NaN}', "NaN is no number"),
        (b"[]", "is not an object"),
        (b"\xff{}", "not UTF-8"),
        (b"[" * 200_000, "not JSON"),
        (b'{"time": ' + b"9" * 5_000 + b"}", "not JSON"),
        (b" " * MOST_LINE_BYTES + b"{}", "is longer than"),
    ],
)
def test_a_line_that_cannot_be_read_says_why(raw: bytes, message: str) -> None:
    bad, good = read(raw, CALL)
    assert bad.error is not None
    assert (bad.number, bad.error.field) == (1, "")
    assert message in str(bad.error)
    assert good.priced is not None


def test_blank_lines_are_counted_but_not_read() -> None:
    (line,) = read(b"\n", b"  \r\n", CALL)
    assert line.number == 3


def test_a_line_may_name_its_convention() -> None:
    usage = {"input_tokens": 1_000_000, "output_tokens": 0, "cache_read_tokens": 400_000}
    lines = read(*(CALL | {"usage": usage, "convention": name} for name in ("inclusive", "EXCLUSIVE", "pydantic_ai")))
    costs = [line.priced and line.priced.cost_usd for line in lines]
    assert costs == [Decimal("2"), Decimal("3"), Decimal("2")]


def test_a_line_of_a_local_model_needs_no_usage() -> None:
    own = read_own_prices('{"id": "vllm", "models": [{"id": "qwen3-8b", "prices": {"pool_seconds": 0.0004}}]}')
    call = {"provider": "vllm", "model": "qwen3-8b", "time": "2026-11-21", "pool_seconds": 2.5}
    (line,) = price_lines([json.dumps(call).encode()], prices_with(own))
    assert line.priced is not None
    assert (line.priced.cost_usd, line.priced.price_source) == (Decimal("0.001"), "own")


def test_a_service_tier_of_the_line_gives_way_to_that_of_the_answer() -> None:
    asked, answered = read(
        CALL | {"model": "gpt-5", "service_tier": "flex"},
        CALL | {"model": "gpt-5", "service_tier": "flex", "usage": CALL["usage"] | {"service_tier": "default"}},
    )
    assert asked.priced is not None
    assert answered.priced is not None
    assert (asked.priced.cost_usd, answered.priced.cost_usd) == (Decimal("0.625"), Decimal("1.25"))


def test_the_summary_counts_what_has_no_price() -> None:
    summary = Summary()
    for line in read(CALL, CALL | {"model": "mine"}, CALL | {"model": "mine"}, CALL, b"{"):
        summary.add(line)
    told = summary.as_json()
    assert (told["calls"], told["unpriced"], told["unpriced_share"], told["bad_lines"]) == (4, 2, 0.5, 1)
    assert (told["cost_usd"], told["unpriced_tokens"], told["tokens"]) == ("5", 2_000_000, 4_000_000)
    assert told["flags"] == {"unknown_model": 2}
    by_model = {each["model"]: each["cost_usd"] for each in told["by_model"]}
    assert by_model == {"gpt-4o": "5", "mine": None}  # unknown, not 0


def test_nothing_costs_nothing_and_has_no_share() -> None:
    assert (Summary().as_json()["cost_usd"], Summary().as_json()["unpriced_share"]) == ("0", None)


@given(st.decimals(min_value=0, max_value=10**9, places=12))
def test_money_as_text_is_exact(amount: Decimal) -> None:
    text = money(amount)
    assert text is not None
    assert Decimal(text) == amount
    assert "E" not in text
    assert text == "0" or not text.endswith(("0",)) or "." not in text


@given(st.lists(st.one_of(st.binary(max_size=40), st.just(json.dumps(CALL).encode())), max_size=6))
def test_no_bytes_raise_and_every_line_that_is_not_blank_is_answered(lines: list[bytes]) -> None:
    answered = list(price_lines(lines, bundled_prices()))
    assert [line.number for line in answered] == [n for n, raw in enumerate(lines, start=1) if raw.strip()]
    assert all((line.priced is None) != (line.error is None) for line in answered)
