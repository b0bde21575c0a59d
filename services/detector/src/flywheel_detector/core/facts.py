"""What stage 1 takes from calls, decisions, evaluations and feedback, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final, NamedTuple

from flywheel.events import event_id
from flywheel.stream import Event, Reject, Skip
from flywheel_detector.core.measures import ARM_SHARE, GOLDEN, SCORE

MAX_ID: Final = 512
MAX_NAME: Final = 128
MAX_ARMS: Final = 16
"""Arms of a decision whose shares are watched; the others' are not."""
MAX_CLASSES: Final = 8
"""Fields of a decision's context that are looked at."""
MAX_CLASS: Final = 64
"""Characters of a field's name, and of its value, above which it is no category."""
FAILED: Final = ("ERROR", "TIMEOUT")
ANSWERED: Final = ("OK", "FILTERED")
REFUSED: Final = ("content_filter", "refusal", "safety")
"""Reasons to stop by which a provider says that it would not answer."""
MOST: Final = 1e12
"""Figures lie below this."""


class Fact(NamedTuple):
    """One fact, as far as series need it.

    ``kind``: call, decision, score or probe. ``mark``: 16 hex digits of its id. ``links``: of a call the decision it
    belongs to, of a score the call it judges, empty where unknown. ``seen``: what else it says of how it came about,
    e.g. the model that really answered. ``measured``: values by measure.
    ``classes``: of a decision the values of its context that are short enough to be categories.
    """

    kind: str
    at_us: int
    mark: str
    feature: str
    model: str
    arm: str
    links: str
    seen: Mapping[str, str]
    measured: Mapping[str, float]
    classes: Mapping[str, str] = {}


def fact_of(event: Event, max_future_us: int) -> Fact | Skip | Reject:
    """Return the fact of an event, or why it brings none."""
    read = _READERS.get(event.event)
    if read is None:
        return Skip("not_an_input")
    value, sent_ms = event.value, event.raw.timestamp_ms
    at_us = value["occurred_at"]
    if at_us <= 0 or (sent_ms > 0 and at_us > sent_ms * 1000 + max_future_us):
        return Reject("time_out_of_range", "occurred_at", f"{at_us} is not possible at {sent_ms} ms")
    if not value["request_id"] or len(value["request_id"]) + len(value["project"]) > MAX_ID:
        return Reject("id_out_of_range", "request_id", f"1 to {MAX_ID} characters, together with the project")
    if len(value["feature"] or "") > MAX_NAME:
        return Reject("out_of_range", "feature", f"at most {MAX_NAME} characters")
    return read(value)


def mark_of(fact_id: str) -> str:
    """Return 16 hex digits that stand for a fact."""
    return event_id(fact_id)[:16]


def _call(value: Mapping[str, Any]) -> Fact | Skip | Reject:
    if value["shadow"]:
        return Skip("shadow")
    numbers = ("latency_ms", "ttft_ms", "cost_usd", "input_tokens", "output_tokens", "cache_read_tokens")
    for name in numbers:
        found = value[name]
        if found is not None and not 0 <= found < MOST:
            return Reject("out_of_range", name, f"{found} lies outside 0 to {MOST:g}")
    model = f"{value['provider']}/{value['request_model']}"
    for name, text in (("request_model", model), ("variant", value["variant"] or "")):
        if len(text) > 2 * MAX_NAME:
            return Reject("out_of_range", name, f"at most {2 * MAX_NAME} characters, with the provider")
    return Fact(
        "call", value["occurred_at"], mark_of(value["event_id"]), value["feature"] or "", model,
        value["variant"] or "", mark_of(value["decision_id"]) if value["decision_id"] else "", _seen(value),
        _measured(value),
    )  # fmt: skip


def _measured(value: Mapping[str, Any]) -> dict[str, float]:
    """What a call shows. How long it took and what it cost is told only of calls that were answered: failures are
    quick and free, and a wave of them would hide in the means."""
    status, found = value["status"], dict[str, float]()
    if status in FAILED or status in ANSWERED:
        found["error_rate"] = float(status in FAILED)
    if status not in ANSWERED:
        return found
    found["refusal_rate"] = float(status == "FILTERED" or value["finish_reason"] in REFUSED)
    for name in ("latency_ms", "ttft_ms", "cost_usd", "input_tokens", "output_tokens"):
        if value[name] is not None:
            found[name] = float(value[name])
    if value["cache_read_tokens"] is not None and value["input_tokens"]:
        found["cache_share"] = min(1.0, value["cache_read_tokens"] / value["input_tokens"])
    return found


def _seen(value: Mapping[str, Any]) -> dict[str, str]:
    prompt = "@".join(part for part in (value["prompt_name"], value["prompt_version"]) if part)
    version = value["policy_version"]
    named = {
        "response_model": value["response_model"], "prompt": prompt, "price_version": value["price_version"],
        "policy_version": None if version is None else str(version),
    }  # fmt: skip
    return {name: text[:MAX_NAME] for name, text in named.items() if text}


def _decision(value: Mapping[str, Any]) -> Fact | Skip | Reject:
    if not value["feature"]:
        return Skip("no_feature")
    arm, arms = value["arm"], value["arms"][:MAX_ARMS]
    if max([len(arm), *map(len, arms)]) > MAX_NAME:
        return Reject("out_of_range", "arm", f"at most {MAX_NAME} characters")
    shares = {f"{ARM_SHARE}{name}": float(name == arm) for name in arms} if len(arms) > 1 else {}
    seen = {"policy_version": str(value["policy_version"])}
    mark = mark_of(value["event_id"])
    return Fact(
        "decision", value["occurred_at"], mark, value["feature"], "", arm, "", seen, shares, _classes(value["context"])
    )


def _classes(context: Mapping[str, str]) -> dict[str, str]:
    short = [(name, text) for name, text in sorted(context.items()) if len(name) <= MAX_CLASS >= len(text)]
    return dict(short[:MAX_CLASSES])


def _evaluation(value: Mapping[str, Any]) -> Fact | Skip | Reject:
    score = value["score"]
    if score is None and value["passed"] is not None:
        score = float(value["passed"])
    fact, golden = _score(value, "evaluator", "score", score), value["golden_score"]
    return fact if golden is None or not isinstance(fact, Fact) else _probe(fact, golden)


def _probe(fact: Fact, golden: float) -> Fact | Skip | Reject:
    """A golden probe: of no call and no arm, only of who judges for a feature."""
    if not fact.feature:
        return Skip("no_feature")
    if not 0.0 <= golden <= 1.0:
        return Reject("out_of_range", "golden_score", f"{golden} lies outside 0 to 1")
    ((name, score),) = fact.measured.items()
    measured = {f"{GOLDEN}{name.removeprefix(SCORE)}": 1.0 + score - golden}
    return fact._replace(kind="probe", links="", measured=measured)


def _feedback(value: Mapping[str, Any]) -> Fact | Skip | Reject:
    return _score(value, "kind", "value", value["value"])


def _score(value: Mapping[str, Any], name: str, field: str, score: float | None) -> Fact | Skip | Reject:
    if score is None:
        return Skip("no_score")
    if not (isfinite(score) and 0.0 <= score <= 1.0):
        return Reject("out_of_range", field, f"{score} lies outside 0 to 1")
    if not 0 < len(value[name]) <= MAX_NAME:
        return Reject("out_of_range", name, f"1 to {MAX_NAME} characters")
    version = value.get("evaluator_version")
    seen = {f"{value[name]}": version[:MAX_NAME]} if version else {}
    judged = value.get("call_id")
    return Fact(
        "score", value["occurred_at"], mark_of(value["event_id"]), value["feature"] or "", "", "",
        mark_of(judged) if judged else "", seen, {f"{SCORE}{value[name]}": float(score)},
    )  # fmt: skip


_READERS: Final = {"llm_call": _call, "decision": _decision, "evaluation": _evaluation, "feedback": _feedback}
