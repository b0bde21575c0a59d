"""What stage 1 takes from its topics, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flywheel.budget import (
    Budget,
    BudgetInvalid,
    Instance,
    Matcher,
    budget_key_of,
    dimensions_of_call,
    to_pico,
    windows_of,
)
from flywheel.stream import Reject, Skip
from flywheel_budget.core.requests import FAILED, Call, Decision, Reserved

INPUTS: Final = ("llm-decisions", "llm-calls", "budgets")
ESCALATED: Final = "escalated"
"""What a call says of itself that another call of its decision follows."""
MAX_ID: Final = 512
MAX_RESERVATIONS: Final = 64
_MOST_USD: Final = 10**9


def decision_part(value: Mapping[str, Any], matcher: Matcher) -> Decision | Skip | Reject:
    """Return the part of a ``decision`` event; one that reserved nothing brings none."""
    made = value["reservations"]
    if not made:
        return Skip("no_reservation")
    if len(made) > MAX_RESERVATIONS:
        return Reject("out_of_range", "reservations", f"more than {MAX_RESERVATIONS}")
    reservations = []
    for index, r in enumerate(made):
        bound, cumulative = to_pico(r["bound_usd"]), to_pico(r["cumulative_usd"])
        if not 0 <= bound <= cumulative:
            return Reject("out_of_range", f"reservations.{index}.bound_usd", "must lie between 0 and cumulative_usd")
        if not r["account"] or len(r["account"]) + len(r["budget"]) + len(r["window"]) > 3 * MAX_ID:
            return Reject("out_of_range", f"reservations.{index}.account", "empty, or too long")
        # A budget nobody declared has no ledger to settle in.
        if budget_key_of(r["budget"]) in matcher.budgets:
            reservations.append(Reserved(r["budget"], r["window"], r["account"], bound, cumulative))
    if not reservations:
        return Skip("unknown_budget")
    return Decision(value["occurred_at"], value["event_id"], tuple(reservations))


def call_part(value: Mapping[str, Any], matcher: Matcher, read_us: int) -> Call | Skip | Reject:
    """Return the part of an ``llm_call`` event. ``read_us``: the broker's clock of its record."""
    project = value["project"]
    if not matcher.declared(project):
        return Skip("no_budget")
    cost = value["cost_usd"]
    if cost is not None and not 0 <= cost < _MOST_USD:
        return Reject("out_of_range", "cost_usd", f"{cost} is not a cost")
    found = matcher.instances(project, dimensions_of_call(value), value["occurred_at"])
    passive = [p for instance in found if (p := _passive(instance, value["occurred_at"], read_us)) is not None]
    if not passive and not matcher.reserving(project):
        return Skip("no_budget")
    return Call(
        occurred_at=value["occurred_at"],
        id=value["event_id"],
        decision_id=value["decision_id"],
        shadow=value["shadow"],
        cost=to_pico(cost) if cost is not None else _unpriced(value),
        passive=tuple(passive),
        escalated=value["escalation"] == ESCALATED,
    )


def _passive(instance: Instance, occurred_at_us: int, read_us: int) -> tuple[str, str] | None:
    """Instance and window in which a call counts without a reservation: by its own time, or in a rolling budget when it
    is read; None when that is so much later that it lies outside already."""
    budget = instance.budget
    if budget.rolling_s is None:
        return instance.key, windows_of(budget).at(occurred_at_us).id
    if occurred_at_us < read_us - budget.rolling_s * 1_000_000:
        return None
    return instance.key, windows_of(budget).at(read_us).id


def _unpriced(value: Mapping[str, Any]) -> int | None:
    """What a call without a price cost: nothing when it failed before anything was counted, else nobody knows."""
    counted = value["input_tokens"] is not None or value["output_tokens"] is not None
    return 0 if value["status"] in FAILED and not counted else None


def definition_of(value: Mapping[str, Any]) -> Budget | Reject:
    """Return the budget of a ``budget`` event."""
    try:
        return Budget.from_event(value)
    except BudgetInvalid as error:
        return Reject("budget_invalid", error.field, error.message)


def time_problem(value: Mapping[str, Any], read_ms: int, max_future_us: int) -> Reject | None:
    """Return why the time or the id of a fact can't be right, None where it can."""
    occurred_at = value["occurred_at"]
    if occurred_at <= 0 or (read_ms > 0 and occurred_at > read_ms * 1000 + max_future_us):
        return Reject("time_out_of_range", "occurred_at", f"{occurred_at} is not possible at {read_ms} ms")
    if not value["request_id"] or len(value["request_id"]) + len(value["project"]) > MAX_ID:
        return Reject("id_out_of_range", "request_id", f"1 to {MAX_ID} characters, together with the project")
    return None
