"""Facts to feed the bandit with, and a state that is a dictionary."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from flywheel.events import Codec, LocalRegistry, event_id
from flywheel.stream import Event, RawRecord
from flywheel.testkit.dict_state import DictState
from flywheel_bandit.core import CharterBook

T0 = 1_750_000_000_000_000
CHARTER = """
feature: answers
quality: {judge: 0.5, user.thumb: 0.5}
weights: {cost: 0.2, latency: 0.1}
reference: {cost_usd: 0.01, latency_ms: 1000}
arms:
  - {name: strong, model: openai/gpt-4o}
  - {name: cheap, model: openai/gpt-4o-mini}
policy: {kind: thompson, half_life: 50 outcomes, explore_floor: 0.02}
attribution_window: 60s
"""
_TOPICS = {
    "decision": "llm-decisions",
    "llm_call": "llm-calls",
    "feedback": "llm-feedback",
    "evaluation": "llm-evaluations",
    "charter": "charters",
    "arm_summary": "arm-summaries",
}


class Facts:
    """Events as the codec gives them: every field there, defaults filled in."""

    T0 = T0
    CHARTER = CHARTER
    State = DictState

    def __init__(self) -> None:
        self._codec = Codec(LocalRegistry.load())

    def event(self, name: str, value: dict[str, Any], *, sent_ms: int = 0) -> Event:
        full = self._codec.decode(self._codec.encode(name, value)).value
        return Event(RawRecord(_TOPICS[name], 0, 0, sent_ms, b"", b""), name, 1, full)

    def charter(
        self, text: str = CHARTER, *, revision: int = 1, at_s: float = -10.0, feature: str = "answers"
    ) -> Event:
        value = {
            "event_id": f"charter-{revision}", "project": "default", "feature": feature, "occurred_at": _at(at_s),
            "revision": revision, "charter_yaml": text, "digest": f"digest-{revision}",
        }  # fmt: skip
        return self.event("charter", value)

    def book(self, *charters: Event) -> CharterBook:
        return CharterBook.of([event.value for event in charters or (self.charter(),)])

    def decision(self, request: str, at_s: float, arm: str = "strong", *, sent_ms: int = 0, **more: Any) -> Event:
        value = {
            **_base("decision", request, at_s), "feature": "answers", "policy": "answers", "policy_version": 1,
            "policy_kind": "thompson_beta", "arm": arm, "propensity": 0.5, "reason": "policy", "decider": "router",
        }  # fmt: skip
        return self.event("decision", {**value, **more}, sent_ms=sent_ms)

    def call(
        self, request: str, at_s: float, *, cost: str | None = "0.005", ms: float | None = 500.0, **more: Any
    ) -> Event:
        value = {
            **_base("llm_call", request, at_s), "feature": "answers", "provider": "openai", "request_model": "gpt-4o",
            "cost_usd": None if cost is None else Decimal(cost), "latency_ms": ms, "status": "OK",
        }  # fmt: skip
        return self.event("llm_call", {**value, **more})

    def thumb(self, request: str, at_s: float, value: float | None, **more: Any) -> Event:
        fact = {**_base("feedback", request, at_s), "kind": "user.thumb", "value": value}
        return self.event("feedback", {**fact, **more})

    def judged(self, request: str, at_s: float, score: float | None, **more: Any) -> Event:
        fact = {**_base("evaluation", request, at_s), "evaluator": "judge", "score": score}
        return self.event("evaluation", {**fact, **more})


def _at(seconds: float) -> int:
    return T0 + round(seconds * 1e6)


def _base(name: str, request: str, at_s: float) -> dict[str, Any]:
    at = _at(at_s)
    return {"event_id": event_id(name, request, at), "project": "default", "request_id": request, "occurred_at": at}


@pytest.fixture(scope="session")
def facts() -> Facts:
    return Facts()
