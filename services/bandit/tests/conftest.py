"""Facts to feed the bandit with, and a state that is a dictionary."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pytest

from flywheel.events import Codec, LocalRegistry, event_id
from flywheel.policy import compile_policy
from flywheel.policy.moments import MomentSummary
from flywheel.policy.summary import SpanSums, Summary, unit_of_span
from flywheel.policy.uses import UseSummary
from flywheel.stream import Event, RawRecord
from flywheel.testkit.dict_state import DictState
from flywheel_bandit.core import CharterBook, PolicyFold

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
LARGEST = """
feature: answers
quality: {user.thumb: 1.0}
arms:
policy:
  kind: linear_thompson
  features:
    - {name: chars, kind: number, low: 0, high: 100}
    - {name: question, kind: text, buckets: 29}
"""
TEN_YEARS = 10 * 366 * 86_400_000_000 >> 16
MOST_SPANS = (1 << 36) - 1
"""The newest unit where ten years fall into the most spans: no two of a level are joined."""
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

    def largest(self) -> Largest:
        """What a charter at its bound makes of ten years, every sum as wide as it may be."""
        arms = "".join(f"  - {{name: a{n}, model: m}}\n" for n in range(8))
        charter = LARGEST.replace("arms:\n", f"arms:\n{arms}")
        policy = dict(PolicyFold().fold(0, [self.charter(charter)], self.State()).outputs[-1].value)
        slots, random = len(compile_policy(policy).encode({})), np.random.default_rng(1)
        sums = [
            (span, f"a{arm}", tuple(random.integers(1 << 61, 1 << 62, (slots + 1) * (slots + 2) // 2).tolist()))
            for span in _spans(MomentSummary(newest=MOST_SPANS))
            for arm in range(8)
        ]
        value = {
            **self.largest_uses([f"a{arm}" for arm in range(8)], 3),
            "moments": [{"bucket": span, "arm": arm, "sums": list(packed)} for span, arm, packed in sums],
        }  # fmt: skip
        return Largest(charter, policy, MomentSummary.from_rows(MOST_SPANS, sums), value)

    def largest_uses(self, arms: list[str], measures: int) -> dict[str, Any]:
        """A shard's sums of ten years without features, every one as wide as it may be."""
        sums = [str(1 << 34), *[str(1 << 34), str(1 << 63), str(1 << 93)] * measures]
        return {
            "event_id": "e", "project": "p", "feature": "f", "shard": 0, "occurred_at": T0, "charter_revision": 1,
            "outcomes": 1, "measures": ["latency_ms>3000"] * measures,
            "buckets": [
                {"bucket": span, "arm": arm, "n": 1 << 34, "sum_nano": str(1 << 63), "sumsq_atto": str(1 << 93)}
                for span in _spans(Summary(newest=MOST_SPANS))
                for arm in arms
            ],
            "uses": [
                {"bucket": span, "arm": arm, "sums": sums}
                for span in _spans(UseSummary(newest=MOST_SPANS))
                for arm in arms
            ],
        }  # fmt: skip


def _spans(summary: SpanSums[Any]) -> list[int]:
    """The spans of ten years, oldest first."""
    found, unit = [], summary.newest
    while unit > summary.newest - TEN_YEARS:
        found.append(summary.span_of(unit))
        unit = unit_of_span(found[-1]) - 1
    return found[::-1]


class Largest(NamedTuple):
    """A charter at its bound, its first policy, and a shard's sums of ten years with the event that carries them."""

    charter: str
    policy: dict[str, Any]
    moments: MomentSummary
    summary: dict[str, Any]


def _at(seconds: float) -> int:
    return T0 + round(seconds * 1e6)


def _base(name: str, request: str, at_s: float) -> dict[str, Any]:
    at = _at(at_s)
    return {"event_id": event_id(name, request, at), "project": "default", "request_id": request, "occurred_at": at}


@pytest.fixture(scope="session")
def facts() -> Facts:
    return Facts()
