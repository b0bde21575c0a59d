"""What a user may declare, and what falls under it; every mistake has its line and field."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.budget import Budget, BudgetInvalid, Matcher, dimensions_of_call, dimensions_of_decision, scope_of
from flywheel.budget.budget_yaml import BudgetsInvalid, parse_budgets
from flywheel.budget.money import to_pico, to_usd
from flywheel.events.examples import examples

CALL = dict.fromkeys(["app", "feature", "user_hash", "environment", "prompt_name", "prompt_version"]) | {
    "team": "cx", "provider": "openai", "request_model": "gpt-4o",
}  # fmt: skip


@given(st.integers(-(10**25), 10**25))
def test_money_survives_the_wire(pico: int) -> None:
    assert to_pico(to_usd(pico)) == pico


@pytest.mark.parametrize("text", ["0.0000000000001", "NaN", "Infinity"])
def test_what_is_no_money_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        to_pico(Decimal(text))


def test_amounts_are_taken_as_they_are_written() -> None:
    (found,) = parse_budgets("budgets: [{name: a, usd: 0.1, per: day}]")
    assert found.amount_pico == 10**11 and found.project == "default"


@pytest.mark.parametrize("name", sorted(examples("budget")))
def test_events_and_budgets_are_each_other(name: str) -> None:
    full = {"rolling_s": None, "ended": False, "scope": {}, "each": [], "time_zone": "UTC", "warn_at": [0.5]}
    tokens = dict.fromkeys(["max_input_tokens", "max_output_tokens", "min_output_tokens"])
    event = full | tokens | examples("budget")[name]
    budget = Budget.from_event(event)
    assert Budget.from_event(budget.event(5)) == budget


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ("{usd: 1, per: day}", "budgets.0.name"),
        ("{name: a/b, usd: 1, per: day}", "budgets.0.name"),
        ("{name: a, usd: 0, per: day}", "budgets.0.usd"),
        ("{name: a, usd: yes, per: day}", "budgets.0.usd"),
        ("{name: a, usd: 1e12, per: day}", "budgets.0.usd"),
        ("{name: a, usd: 0.1234567890123, per: day}", "budgets.0.usd"),
        ("{name: a, usd: 1, per: year}", "budgets.0.per"),
        ("{name: a, usd: 1, per: day, rolling: 1h}", "budgets.0.rolling"),
        ("{name: a, usd: 1, per: rolling, rolling: soon}", "budgets.0.rolling"),
        ("{name: a, usd: 1, per: day, time_zone: ../etc}", "budgets.0.time_zone"),
        ("{name: a, usd: 1, per: day, scope: {planet: x}}", "budgets.0.scope.planet"),
        ("{name: a, usd: 1, per: day, scope: {team: x}, each: [team]}", "budgets.0.each"),
        ("{name: a, usd: 1, per: day, warn_at: [0.8, 0.5]}", "budgets.0.warn_at"),
        ("{name: a, usd: 1, per: day, max_output_tokens: 5, min_output_tokens: 6}", "budgets.0.min_output_tokens"),
        ("{name: a, usd: 1, per: day, mode: strict}", "budgets.0.mode"),
    ],
)
def test_a_mistake_is_named_by_line_and_field(entry: str, field: str) -> None:
    with pytest.raises(BudgetsInvalid) as raised:
        parse_budgets(f"project: p\nbudgets:\n  - {entry}\n")
    assert [(p.line, p.field) for p in raised.value.problems] == [(3, field)]


def test_a_name_is_declared_once() -> None:
    with pytest.raises(BudgetsInvalid, match=r"line 3: budgets.1.name: a is declared twice"):
        parse_budgets("budgets:\n  - {name: a, usd: 1, per: day}\n  - {name: a, usd: 1, per: day}\n")


def test_terms_out_of_an_event_are_checked_like_those_of_a_file() -> None:
    with pytest.raises(BudgetInvalid) as raised:
        Budget.from_event(Budget("p", "b", 1, 0, 1, "day").event(0) | {"per": "rolling"})
    assert raised.value.field == "rolling"


def test_a_call_falls_under_what_covers_it() -> None:
    budgets = [
        Budget("p", "all", 1, 0, 1, "day"),
        Budget("p", "cx", 1, 0, 1, "day", scope=(("team", "cx"),)),
        Budget("p", "ops", 1, 0, 1, "day", scope=(("team", "ops"),)),
        Budget("p", "both", 1, 0, 1, "day", scope=(("model", "gpt-4o"), ("team", "cx"))),
        Budget("p", "later", 1, 100, 1, "day"),
        Budget("p", "ended", 1, 0, 1, "day", ended=True),
        Budget("p", "each", 1, 0, 1, "day", each=("team", "user_hash")),
        Budget("q", "other", 1, 0, 1, "day"),
    ]
    matcher = Matcher(budgets)

    def found(**more: str) -> list[str]:
        return [i.key for i in matcher.instances("p", dimensions_of_call(CALL | more), 50)]

    assert found() == ["p/all", "p/both", "p/cx"]
    assert found(user_hash="a/b") == ["p/all", "p/both", "p/cx", "p/each/cx/a%2Fb"]
    assert found(user_hash="x" * 257) == ["p/all", "p/both", "p/cx"]
    assert found(team="ops") == ["p/all", "p/ops"]
    assert matcher.declared("q") and not matcher.declared("r")
    assert scope_of(budgets[6], "p/each/cx/a%2Fb") == {"team": "cx", "user_hash": "a/b"}


def test_a_decision_and_its_call_fall_under_the_same() -> None:
    decision = CALL | {"model": "openai/gpt-4o"}
    assert dimensions_of_decision(decision) == dimensions_of_call(CALL)
    assert dimensions_of_call(CALL | {"request_model": "openai/gpt-4o"}) == dimensions_of_call(CALL)
    named = dimensions_of_call(CALL | {"provider": "together", "request_model": "meta/llama"})
    assert (named["provider"], named["model"]) == ("together", "meta/llama")
