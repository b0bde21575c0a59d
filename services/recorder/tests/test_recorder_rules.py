"""What is refused as absurd, and that each rule names the field; that the engine agrees is in test_recorder_paths."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from flywheel.events import Codec
from flywheel_recorder.rules import EARLIEST_US, LEAD_US, condition, first_problem, rules_of

BROKER_US = 1_795_651_200_000_000


@pytest.mark.parametrize(
    ("event", "field", "value"),
    [
        ("llm_call", "input_tokens", -1),
        ("llm_call", "tool_calls", -1),
        ("llm_call", "attempt", -3),
        ("llm_call", "cost_usd", Decimal("-0.000000000001")),
        ("llm_call", "cost_usd", Decimal(10) ** 16),
        ("llm_call", "latency_ms", -0.5),
        ("llm_call", "latency_ms", math.nan),
        ("llm_call", "ttft_ms", math.inf),
        ("llm_call", "temperature", math.nan),
        ("llm_call", "propensity", 1.0000001),
        ("llm_call", "propensity", math.nan),
        ("llm_call", "occurred_at", EARLIEST_US - 1),
        ("llm_call", "occurred_at", BROKER_US + LEAD_US + 1),
        ("llm_call", "received_at", 0),
        ("decision", "propensities", [0.5, 1.5]),
        ("decision", "propensity_error", -0.1),
        ("evaluation", "score", math.inf),
        ("evaluation", "sample_prob", -0.1),
        ("feedback", "value", math.nan),
        ("outcome", "parts", {"cost": math.nan}),
        ("outcome", "calls", -1),
    ],
)
def test_an_absurd_value_names_its_field(codec: Codec, event: str, field: str, value: Any) -> None:
    problem = first_problem(rules_of(codec.schema(event)), {field: value}, BROKER_US)
    assert problem is not None
    assert problem[0] == field


@pytest.mark.parametrize(
    ("event", "values"),
    [
        ("llm_call", {"input_tokens": None, "cost_usd": None, "latency_ms": None, "occurred_at": BROKER_US}),
        ("llm_call", {"cost_usd": Decimal(0), "latency_ms": 0.0, "propensity": 0.0, "input_tokens": 0}),
        ("llm_call", {"occurred_at": BROKER_US + LEAD_US, "propensity": 1.0}),
        ("decision", {"propensities": [], "policy_age_ms": -3.0}),
        ("evaluation", {"score": -12.5}),
    ],
)
def test_unknown_and_extreme_but_possible_values_pass(codec: Codec, event: str, values: dict[str, Any]) -> None:
    assert first_problem(rules_of(codec.schema(event)), values, BROKER_US) is None


def test_without_a_broker_timestamp_the_future_is_not_judged(codec: Codec) -> None:
    far = {"occurred_at": BROKER_US * 2}
    assert first_problem(rules_of(codec.schema("llm_call")), far, -1000) is None


def test_every_text_number_and_time_of_a_call_is_under_a_rule(codec: Codec) -> None:
    schema = codec.schema("llm_call")
    ruled = {rule.field for rule in rules_of(schema)}
    free = {f["name"] for f in schema["fields"]} - ruled
    assert (
        free
        == {
            "operation",
            "usage_convention",
            "usage_source",
            "cost_source",
            "status",
            "streaming",
            "shadow",
            "max_tokens",
        }
        - ruled
    )


def test_counts_and_text_are_one_condition_each(codec: Codec) -> None:
    sql = condition(rules_of(codec.schema("llm_call")), "now")
    assert sql.count("isValidUTF8") == 1
    assert sql.count("least(") == 1
