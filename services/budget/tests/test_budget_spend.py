"""Stage 1: what a request costs which row, and that no order, repeat or batch changes it."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.budget import Budget, Matcher
from flywheel_budget.core import SpendFold, SpendSettings

_spec = importlib.util.spec_from_file_location("budget_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)
DAILY, DAY, pico = parts.DAILY, parts.DAY, parts.pico
SOFT = Budget("acme", "soft", 1, parts.T0, 10**12, "hour", mode="soft")


def folded(facts, events, cuts=(), budgets=(DAILY,), **more):
    """Fold in batches; return the state and the newest row of each key."""
    state, rows = facts.State(), {}
    fold = SpendFold(lambda: Matcher(budgets), SpendSettings(**more))
    for start, stop in pairwise([0, *sorted(cuts), len(events)]):
        for output in fold.fold(0, events[start:stop], state).outputs:
            value = output.value
            if value["kind"] == "definition":
                continue
            key = (value["instance"], value["window"], value["account"])
            assert value["version"] > rows.get(key, {"version": 0})["version"]
            rows[key] = value
    return state, rows


def row(rows, account, *, instance="acme/day", window=DAY):
    value = rows[instance, window, account]
    return pico(value["spent_usd"]), pico(value["settled_usd"]), value["calls"], value["unpriced"], value["above_bound"]


def test_a_reserved_call_settles_its_bound_and_spends_its_cost(facts):
    _, rows = folded(facts, [facts.decision("r", 1, ("a", 100, 100)), facts.call("r", 2, 30)])
    assert row(rows, "a") == (30, 100, 1, 0, 0)
    assert (DAILY.key, DAY, "") not in rows


def test_a_decision_without_a_call_changes_nothing_that_is_told(facts):
    _, rows = folded(facts, [facts.decision("r", 1, ("a", 100, 100))])
    assert not rows


def test_a_call_before_its_decision_is_passive_until_it_comes(facts):
    _, early = folded(facts, [facts.call("r", 2, 30)])
    assert row(early, "") == (30, 0, 1, 0, 0)
    _, rows = folded(facts, [facts.call("r", 2, 30), facts.decision("r", 1, ("a", 100, 100))], [1])
    assert row(rows, "") == (0, 0, 0, 0, 0) and row(rows, "a") == (30, 100, 1, 0, 0)


def test_money_that_moves_is_in_both_rows_rather_than_in_none(facts):
    fold, state = SpendFold(lambda: Matcher([DAILY])), facts.State()
    fold.fold(0, [facts.call("r", 2, 30)], state)
    told = fold.fold(0, [facts.decision("r", 1, ("a", 100, 100))], state).outputs
    told = [o.value for o in told if o.value["kind"] == "spend"]
    assert [(value["account"], pico(value["spent_usd"])) for value in told] == [("a", 30), ("", 0)]


def test_two_routers_that_reserved_for_one_request_settle_both_and_spend_once(facts):
    first, second = facts.decision("r", 1, ("a", 100, 100)), facts.decision("r", 2, ("b", 90, 190), n=1)
    _, rows = folded(facts, [first, second, facts.call("r", 3, 40, decision_id=second.value["event_id"])])
    assert row(rows, "a") == (0, 100, 0, 0, 0) and row(rows, "b") == (40, 90, 1, 0, 0)


@pytest.mark.parametrize("cuts", [(), (1, 2, 3)])
def test_two_routers_that_decided_the_same_under_one_id_settle_both_once(facts, cuts):
    """A decision's id is that of its request under its policy version, whichever router made it."""
    first, second = facts.decision("r", 1, ("a", 100, 100)), facts.decision("r", 2, ("b", 90, 190))
    call = facts.call("r", 3, 40, decision_id=first.value["event_id"])
    assert first.value["event_id"] == second.value["event_id"]
    _, rows = folded(facts, [first, call, second, first, second], cuts)
    settled = [row(rows, account)[1] for account in "ab"]
    assert (settled, sum(row(rows, account)[0] for account in "ab")) == ([100, 90], 40)


def test_retries_without_a_reservation_are_passive(facts):
    events = [facts.decision("r", 1, ("a", 100, 100)), facts.call("r", 2, 30), facts.call("r", 3, 25, n=1)]
    _, rows = folded(facts, events)
    assert row(rows, "a") == (30, 100, 1, 0, 0) and row(rows, "") == (25, 0, 1, 0, 0)


@pytest.mark.parametrize(("cost", "expected"), [(30, (30, 100, 1, 0, 0)), (None, (100, 100, 1, 1, 0))])
def test_what_failed_for_nothing_leaves_the_reservation_to_the_call_after_it(facts, cost, expected):
    """A call whose cost nobody knows counts at its bound, also where an attempt before it was refused."""
    free = facts.call("r", 2, None, status="ERROR", input_tokens=None)
    events = [facts.decision("r", 1, ("a", 100, 100)), free, facts.call("r", 3, cost, n=1)]
    for order in (events, events[::-1]):
        _, rows = folded(facts, order, [1, 2])
        assert row(rows, "a") == expected and row(rows, "") == (0, 0, 1, 0, 0)


def test_a_shadow_call_costs_but_uses_no_reservation(facts):
    events = [facts.decision("r", 1, ("a", 100, 100)), facts.call("r", 2, 30, shadow=True), facts.call("r", 3, 25, n=1)]
    _, rows = folded(facts, events)
    assert row(rows, "a") == (25, 100, 1, 0, 0) and row(rows, "") == (30, 0, 1, 0, 0)


ESCALATED = {"escalation": "escalated"}


@pytest.mark.parametrize(
    ("costs", "halfway", "at_the_end"),
    [
        ((10, 60), (10, 10, 1, 0, 0), (70, 100, 2, 0, 0)),
        ((10, None), (10, 10, 1, 0, 0), (100, 100, 2, 1, 0)),
        ((None, 60), (100, 100, 1, 1, 0), (100, 100, 2, 1, 0)),
        ((10, 95), (10, 10, 1, 0, 0), (105, 100, 2, 0, 1)),
        ((0, 0), (0, 0, 1, 0, 0), (0, 100, 2, 0, 0)),
    ],
)
def test_of_a_cascade_two_calls_are_paid_and_the_rest_stays_reserved_until_the_second(
    facts, costs, halfway, at_the_end
):
    first, second = facts.call("r", 2, costs[0], **ESCALATED), facts.call("r", 3, costs[1], n=1)
    events = [facts.decision("r", 1, ("a", 100, 100)), first, second]
    assert row(folded(facts, events[:2])[1], "a") == halfway, "what the second may cost is not free for others"
    _, rows = folded(facts, events, [1, 2])
    assert row(rows, "a") == at_the_end and set(rows) == {(DAILY.key, DAY, "a")}


def test_a_cascade_after_a_free_attempt_and_before_a_third_call(facts):
    free = facts.call("r", 1.5, None, n=3, status="ERROR", input_tokens=None)
    events = [
        facts.decision("r", 1, ("a", 100, 100)),
        facts.call("r", 2, 10, **ESCALATED),
        facts.call("r", 3, 60, n=1),
        free,
        facts.call("r", 4, 7, n=2),
    ]
    _, rows = folded(facts, events, [1, 2, 3, 4])
    assert row(rows, "a") == (70, 100, 2, 0, 0) and row(rows, "") == (7, 0, 2, 0, 0)


@pytest.mark.parametrize(
    ("cost", "more", "expected"),
    [
        (None, {}, (100, 100, 1, 1, 0)),
        (None, {"status": "TIMEOUT", "input_tokens": None}, (100, 100, 1, 1, 0)),
        (None, {"status": "ERROR", "input_tokens": None}, (0, 100, 1, 0, 0)),
        (None, {"status": "ERROR"}, (100, 100, 1, 1, 0)),
        (0, {}, (0, 100, 1, 0, 0)),
        (101, {}, (101, 100, 1, 0, 1)),
    ],
)
def test_what_a_reserved_call_counts_at(facts, cost, more, expected):
    _, rows = folded(facts, [facts.decision("r", 1, ("a", 100, 100)), facts.call("r", 2, cost, **more)])
    assert row(rows, "a") == expected


def test_a_passive_call_without_a_price_counts_as_nothing_and_is_shown(facts):
    _, rows = folded(facts, [facts.call("r", 2, None)])
    assert row(rows, "") == (0, 0, 1, 1, 0)


def test_a_reserved_call_still_counts_in_soft_budgets(facts):
    events = [facts.decision("r", 1, ("a", 100, 100)), facts.call("r", 2, 30)]
    _, rows = folded(facts, events, budgets=(DAILY, SOFT))
    assert row(rows, "", instance="acme/soft") == (30, 0, 1, 0, 0) and row(rows, "a") == (30, 100, 1, 0, 0)


def test_a_passive_call_of_a_rolling_budget_counts_when_it_is_read(facts):
    rolling = Budget("acme", "roll", 1, parts.T0, 10**12, "rolling", rolling_s=3600)
    long_ago = facts.call("q", -7200, 5)
    read_now = long_ago._replace(raw=facts.call("q", 10, 5).raw)
    _, rows = folded(facts, [facts.call("r", 1, 30), read_now], budgets=(replace(rolling, effective_from_us=0),))
    assert row(rows, "", instance="acme/roll") == (30, 0, 1, 0, 0)


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (lambda f: f.decision("r", 1, ("a", 101, 100)), "reservations.0.bound_usd"),
        (lambda f: f.decision("r", 1, ("a", -1, 100)), "reservations.0.bound_usd"),
        (lambda f: f.decision("r", 1, ("", 1, 100)), "reservations.0.account"),
        (lambda f: f.decision("", 1, ("a", 1, 100)), "request_id"),
        (lambda f: f.call("r", 1, -1), "cost_usd"),
        (lambda f: f.call("r", 1, 5, occurred_at=parts.T0 + 7200 * 10**6), "occurred_at"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(facts, event, field):
    result = SpendFold(lambda: Matcher([DAILY])).fold(0, [event(facts)], facts.State())
    assert result.verdicts[0].field == field and not result.outputs


def test_what_is_older_than_is_remembered_is_skipped(facts):
    events = [facts.call("r", 1, 30), facts.call("late", 500, 1), facts.decision("x", 500, ("a", 1, 1))]
    fold, state = SpendFold(lambda: Matcher([DAILY]), SpendSettings(remember_s=100)), facts.State()
    fold.fold(0, events, state)
    assert len(state.tables["requests"]) == 2
    again = fold.fold(0, [facts.call("r", 1, 30)], state)
    assert again.verdicts[0].reason == "too_late" and not again.outputs


def test_definitions_are_passed_on_to_the_ledger(facts):
    result = SpendFold(lambda: Matcher([])).fold(0, [facts.event("budget", DAILY.event(parts.T0))], facts.State())
    (entry,) = result.outputs
    assert (entry.value["kind"], entry.partition_key) == ("definition", "acme/day")
    assert Budget.from_terms("acme", "day", entry.value["terms"]) == DAILY
    wrong = facts.event("budget", DAILY.event(parts.T0) | {"time_zone": "Mars/Base"})
    assert SpendFold(lambda: Matcher([])).fold(0, [wrong], facts.State()).verdicts[0].field == "time_zone"


def test_a_definition_is_said_again_on_every_day_on_which_money_is_spent(facts):
    fold, state, days = SpendFold(lambda: Matcher([DAILY])), facts.State(), []
    for request, hour in [("a", 1), ("b", 2), ("c", 25), ("d", 24), ("e", 49)]:
        told = fold.fold(0, [facts.call(request, hour * 3600, 5)], state).outputs
        days.append([o.value["kind"] for o in told])
        assert all(o.partition_key == DAILY.key for o in told)
    assert days == [["definition", "spend"], ["spend"], ["definition", "spend"], ["spend"], ["definition", "spend"]]


@st.composite
def histories(draw, facts):
    """Requests decided by up to two routers, called up to three times, partly without prices, with repeats."""
    events, cumulative = [], {"a": 0, "b": 0}
    for number in range(draw(st.integers(1, 5))):
        request = f"r{number}"
        for n in range(draw(st.integers(0, 2))):
            account, bound = draw(st.sampled_from("ab")), draw(st.integers(1, 100))
            cumulative[account] += bound
            events.append(facts.decision(request, draw(st.integers(0, 50)), (account, bound, cumulative[account]), n=n))
        for n in range(draw(st.integers(0, 3))):
            decided = draw(st.sampled_from([None, parts.event_id("decision", request, 1)]))
            cost, shadow = draw(st.none() | st.integers(0, 120)), draw(st.booleans())
            at_s, escalation = draw(st.integers(0, 50)), draw(st.sampled_from([None, None, "kept", "escalated"]))
            events.append(
                facts.call(request, at_s, cost, n=n, decision_id=decided, shadow=shadow, escalation=escalation)
            )
    return events


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_rows_are_the_same_in_any_order_any_batches_and_with_repeats(facts, data):
    events = data.draw(histories(facts))
    again = data.draw(st.lists(st.sampled_from(events), max_size=5)) if events else []
    cuts = st.lists(st.integers(0, len(events)), max_size=4)
    budgets = (DAILY, SOFT)
    state, _ = folded(facts, events, data.draw(cuts), budgets)
    other, _ = folded(facts, data.draw(st.permutations(events + again)), data.draw(cuts), budgets)
    for table in ("rows", "requests", "leaving", "said"):
        assert state.tables.get(table) == other.tables.get(table)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_every_priced_call_is_spent_once_in_every_budget(facts, data):
    events = data.draw(histories(facts))
    known = {e.value["event_id"]: e.value for e in events if e.event == "llm_call"}
    _, rows = folded(facts, events, budgets=(DAILY, SOFT))
    priced = sum(pico(v["cost_usd"]) for v in known.values() if v["cost_usd"] is not None)
    for instance in ("acme/day", "acme/soft"):
        mine = [v for (i, _, _), v in rows.items() if i == instance]
        assert sum(v["calls"] for v in mine) == len(known)
        assert sum(pico(v["spent_usd"]) for v in mine) >= priced
        if not any(v["unpriced"] for v in mine):
            assert sum(pico(v["spent_usd"]) for v in mine) == priced
