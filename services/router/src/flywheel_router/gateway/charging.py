"""An attempt as a call event: its usage in disjoint buckets, priced. Pure.

Usage is the provider's own wherever there is any. A stream that ended before it came is estimated from what was
streamed: four bytes of text a token, and no less than one token for each piece; the event says so in its flags. A call
that a hard budget pays for is not estimated: without usage its cost is unknown, and the budget counts its bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from flywheel.policy import Arm, DecideRequest, Decision
from flywheel.policy.cascade import PLAN
from flywheel.pricing import BUCKETS, PriceBook, PricedCall, counted, price_call, price_usage
from flywheel_router.gateway.asking import Endpoint
from flywheel_router.gateway.cascading import Judged
from flywheel_router.gateway.planning import FREE, Ending
from flywheel_router.gateway.streams import Tally

Status = Literal["OK", "ERROR", "TIMEOUT", "CANCELLED", "FILTERED"]

ESTIMATED: Final = "usage_estimated"
BYTES_PER_TOKEN: Final = 4
_OPERATIONS: Final[Mapping[Endpoint, str]] = {"chat": "CHAT", "messages": "CHAT", "embeddings": "EMBEDDINGS"}
_WORD: Final = re.compile(r"[A-Za-z0-9_.:-]{1,32}", re.ASCII)
_CONTEXT: Final = ("service_tier", "speed", "inference_geo")
_FILTERED: Final = frozenset({"content_filter", "refusal"})


@dataclass(slots=True)
class Attempt:
    """One attempt at an arm, as far as it went. Times: ``started_us`` since the epoch, the rest in milliseconds."""

    number: int
    arm: Arm
    provider: str
    model: str
    started_us: int
    body: Mapping[str, Any] = field(default_factory=dict)
    ending: Ending = "ok"
    error_type: str | None = None
    latency_ms: float = 0.0
    ttft_ms: float | None = None
    tally: Tally = field(default_factory=Tally)
    shadow: bool = False
    answered: bool = False
    """Whether any of the answer came."""
    judged: Judged | None = None
    """What was made of the answer, where a plan has one judged."""


def status_of(attempt: Attempt) -> Status:
    """How the attempt ended, in the words of the call's schema."""
    if attempt.ending == "ok":
        return "FILTERED" if attempt.tally.finish_reason in _FILTERED else "OK"
    if attempt.ending == "timeout":
        return "TIMEOUT"
    return "CANCELLED" if attempt.ending == "cancelled" else "ERROR"


def call_event(
    attempt: Attempt,
    *,
    event_id: str,
    endpoint: Endpoint,
    request: DecideRequest,
    decision: Decision | None,
    prices: PriceBook,
    input_bytes: int,
    streaming: bool,
    reserved: bool,
    received_us: int,
) -> dict[str, Any]:
    """The ``llm_call`` event of an attempt.

    Args:
        event_id: of this attempt alone.
        decision: that chose the arm; None for a model that was asked for by its name.
        input_bytes: of the body that was sent, for an estimate.
        reserved: a hard budget pays, so nothing is estimated.
    """
    tally, arm = attempt.tally, attempt.arm
    event: dict[str, Any] = {
        "event_id": event_id,
        "project": request.project,
        "request_id": request.request_id,
        "occurred_at": attempt.started_us,
        "environment": request.environment,
        "app": request.app,
        "feature": request.feature or None,
        "team": request.team,
        "user_hash": request.user_hash,
        "trace_id": request.trace_id,
        "operation": _OPERATIONS[endpoint],
        "provider": attempt.provider,
        "request_model": attempt.model,
        "response_model": tally.model,
        "response_id": tally.response_id,
        "prompt_name": arm.prompt_name,
        "prompt_version": arm.prompt_version,
        "temperature": _number(attempt.body.get("temperature")),
        "top_p": _number(attempt.body.get("top_p")),
        "max_tokens": _cap(attempt.body),
        "params": {name: text for name, text in arm.params.items() if name != PLAN},
        "streaming": streaming,
        "latency_ms": attempt.latency_ms,
        "ttft_ms": attempt.ttft_ms,
        "status": status_of(attempt),
        "error_type": attempt.error_type,
        "finish_reason": tally.finish_reason,
        "tool_calls": tally.tool_calls if attempt.ending == "ok" else None,
        "attempt": attempt.number,
        "shadow": attempt.shadow,
        "received_at": received_us,
    }
    if decision is not None:
        event |= {
            "decision_id": decision.decision_id,
            "policy": decision.policy,
            "policy_version": decision.policy_version,
            "variant": arm.name,
            "propensity": decision.propensity if arm.name == decision.arm else None,
        }
    judged = attempt.judged
    if judged is not None:
        event |= {
            "doubt_raw": judged.raw,
            "doubt": judged.doubt,
            "escalation": judged.verdict,
            "escalation_propensity": judged.chance,
        }
    _put_cost(event, attempt, endpoint, prices, input_bytes=input_bytes, reserved=reserved)
    return event


def _put_cost(
    event: dict[str, Any], attempt: Attempt, endpoint: Endpoint, prices: PriceBook, *, input_bytes: int, reserved: bool
) -> None:
    tally = attempt.tally
    flags: tuple[str, ...] = ()
    context = () if tally.service_tier is None else (("service_tier", _word(tally.service_tier)),)
    models = (tally.model, attempt.model)
    if tally.usage is not None:
        priced = price_call(
            tally.usage,
            prices,
            provider=attempt.provider,
            models=models,
            at_us=attempt.started_us,
            emitter="anthropic" if endpoint == "messages" else None,
            context=context,
        )
        event["usage_source"] = "PROVIDER"
        event["usage_emitter"] = priced.usage.emitter
        event.update({name: count for name, count in priced.usage.reported.items() if count is not None})
    elif attempt.ending not in FREE and (attempt.answered or attempt.shadow) and not reserved:
        usage = counted(estimated(tally, input_bytes), "EXCLUSIVE")
        flags = (ESTIMATED,)
        priced = price_usage(usage, prices, provider=attempt.provider, models=models, at_us=attempt.started_us)
    elif attempt.ending == "ok":
        event["flags"] = ["usage_missing"]
        return
    else:
        return
    _put_priced(event, priced, flags)
    told = {**dict(context), **{name: _word(value) for name, value in priced.usage.context if name in _CONTEXT}}
    if told:
        event["price_context"] = told


def _put_priced(event: dict[str, Any], priced: PricedCall, flags: tuple[str, ...]) -> None:
    usage, rates = priced.usage, priced.rates
    event["usage_convention"] = usage.convention
    if usage.priceable:
        event["input_tokens"], event["output_tokens"] = usage.input_tokens, usage.output_tokens
        for name, count in zip(BUCKETS, usage.buckets, strict=True):
            if count is not None:
                event[name] = count
    if rates is not None:
        event["price_source"], event["price_model"] = rates.source, rates.model
        event["price_version"] = rates.version
        if rates.above_tokens is not None:
            event["price_above_tokens"] = rates.above_tokens
    event["cost_usd"], event["cost_source"] = priced.cost_usd, priced.cost_source
    if priced.cost_source == "PROVIDER":
        event["price_source"], event["computed_usd"] = "provider", priced.computed_usd
    flags += priced.flags
    if flags:
        event["flags"] = list(flags)


def estimated(tally: Tally, input_bytes: int) -> dict[str, object]:
    """Tokens of an answer that was cut off, by our own names."""
    output = max(tally.pieces, -(-tally.text_bytes // BYTES_PER_TOKEN))
    return {"uncached_input_tokens": -(-input_bytes // BYTES_PER_TOKEN), "visible_output_tokens": output}


def _cap(body: Mapping[str, Any]) -> int | None:
    value = body.get("max_tokens", body.get("max_completion_tokens"))
    return value if type(value) is int else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _word(value: str) -> str:
    return value if _WORD.fullmatch(value) else "other"
