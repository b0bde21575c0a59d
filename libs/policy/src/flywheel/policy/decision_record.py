"""What is logged of a decision: the ``decision`` event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.policy.decide import DecideRequest, Decision
from flywheel.policy.eligibility import Value

_MAX_CONTEXT_TEXT = 256


def decision_event(
    decision: Decision, request: DecideRequest, *, occurred_at_us: int, decider: str = "router"
) -> dict[str, Any]:
    """Return the ``decision`` event. Only context fields the policy declares are logged."""
    event: dict[str, Any] = {
        "event_id": decision.decision_id,
        "project": request.project,
        "request_id": request.request_id,
        "occurred_at": occurred_at_us,
        "environment": request.environment,
        "app": request.app,
        "feature": request.feature,
        "team": request.team,
        "user_hash": request.user_hash,
        "trace_id": request.trace_id,
        "policy": decision.policy,
        "policy_version": decision.policy_version,
        "policy_kind": decision.policy_kind,
        "arm": decision.arm,
        "propensity": decision.propensity,
        "arms": list(decision.arms),
        "propensities": list(decision.propensities),
        "propensity_error": decision.propensity_error,
        "model": decision.model,
        "prompt_name": decision.prompt_name,
        "prompt_version": decision.prompt_version,
        "params": dict(decision.params),
        "fallback": decision.fallback,
        "reason": decision.reason,
        "context": _logged(request.context, decision.context) if decision.context else {},
        "decider": decider,
        "policy_age_ms": decision.policy_age_ms,
    }
    if decision.output_tokens_bound is not None or decision.budget_price is not None:
        event |= {
            "reservations": decision.reservations,
            "input_tokens_bound": decision.input_tokens_bound,
            "output_tokens_bound": decision.output_tokens_bound,
            "downgraded_from": decision.downgraded_from,
            "budget_price": decision.budget_price,
        }
    if decision.control is not None:
        event["control"] = decision.control
    if decision.encoding is not None:
        event |= {"features": list(decision.features), "encoding": decision.encoding}
    return event


def _logged(context: Mapping[str, Value], declared: Sequence[str]) -> dict[str, str]:
    logged: dict[str, str] = {}
    for name in declared:
        value = context.get(name)
        if value is not None:
            logged[name] = value[:_MAX_CONTEXT_TEXT] if isinstance(value, str) else _text(value)
    return logged


def _text(value: float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)
