"""What stage 1 takes from each input topic, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flywheel.policy.linear_policy import unreadable
from flywheel.stream import Event, Reject, Skip
from flywheel_bandit.core.join import CALL, DECISION, QUALITY, Part, call_part, decision_part, quality_part

SEPARATOR = "\x1f"
"""Between project and request id in the key of an entry."""
MAX_ID = 512

INPUTS = ("llm-decisions", "llm-calls", "llm-feedback", "llm-evaluations")
_TOPIC = {topic: index for index, topic in enumerate(INPUTS)}


Taken = tuple[str, int, int, Part]
"""Key of the request, index of the topic, kind and content of the part."""


def take(event: Event, max_future_us: int) -> Taken | Skip | Reject:
    """Return the part an event brings, or why it brings none."""
    value, raw = event.value, event.raw
    topic = _TOPIC.get(raw.topic)
    found = _READERS.get(event.event)
    if topic is None or found is None:
        return Skip("not_an_input")
    occurred_at, sent_ms = value["occurred_at"], raw.timestamp_ms
    if occurred_at <= 0 or (sent_ms > 0 and occurred_at > sent_ms * 1000 + max_future_us):
        return Reject("time_out_of_range", "occurred_at", f"{occurred_at} is not possible at {sent_ms} ms")
    request_id, project = value["request_id"], value["project"]
    if not request_id or len(request_id) + len(project) > MAX_ID:
        return Reject("id_out_of_range", "request_id", f"1 to {MAX_ID} characters, together with the project")
    kind, read = found
    part = read(value)
    if isinstance(part, list):
        return f"{project}{SEPARATOR}{request_id}", topic, kind, part
    return part


def _decision(value: dict[str, Any]) -> Part | Skip | Reject:
    if not value["feature"]:
        return Skip("no_feature")
    if value["encoding"] is not None and (problem := unreadable(value["features"])) is not None:
        return Reject("out_of_range", "features", problem)
    return decision_part(value)


def _call(value: dict[str, Any]) -> Part | Skip | Reject:
    if value["shadow"]:
        return Skip("shadow")
    latency, cost = value["latency_ms"], value["cost_usd"]
    if latency is not None and not 0.0 <= latency < 1e12:
        return Reject("out_of_range", "latency_ms", f"{latency} is not a duration")
    if cost is not None and not 0 <= cost < 10**9:
        return Reject("out_of_range", "cost_usd", f"{cost} is not a cost")
    return call_part(value)


def _feedback(value: dict[str, Any]) -> Part | Skip | Reject:
    return _quality(value, value["kind"], "value", value["value"])


def _evaluation(value: dict[str, Any]) -> Part | Skip | Reject:
    if value["golden_score"] is not None:
        return Skip("golden_probe")  # it says something about the evaluator, nothing about an arm
    return _quality(value, value["evaluator"], "score", value["score"])


def _quality(value: dict[str, Any], name: str, field: str, score: float | None) -> Part | Skip | Reject:
    if score is None:
        return Skip("no_score")
    if not 0.0 <= score <= 1.0:
        return Reject("out_of_range", field, f"{score} lies outside 0 to 1")
    return quality_part(value, name, score)


_READERS: Mapping[str, tuple[int, Callable[[dict[str, Any]], Part | Skip | Reject]]] = {
    "decision": (DECISION, _decision),
    "llm_call": (CALL, _call),
    "feedback": (QUALITY, _feedback),
    "evaluation": (QUALITY, _evaluation),
}
