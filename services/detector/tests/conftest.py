"""A detector in memory: facts go through stage 1 into the ledger and through stage 2 into alerts."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

from flywheel.events import Codec, LocalRegistry, event_id
from flywheel.stream import Event, Output, RawRecord
from flywheel.testkit.dict_state import DictState
from flywheel_detector.core import AlertTerms, DetectFold, DetectSettings, IntakeFold, tick_entry

T0 = 1_795_219_200_000_000  # 2026-11-21T00:00:00Z
CODEC = Codec(LocalRegistry.load())
TOPICS = {
    "llm_call": "llm-calls", "decision": "llm-decisions", "evaluation": "llm-evaluations", "feedback": "llm-feedback",
    "charter": "charters",
}  # fmt: skip
QUICK = DetectSettings(warm_up=64, alerts=AlertTerms(resolve_us=60_000_000, quiet_us=120_000_000, repeat_us=60_000_000))
"""As shipped, but for how long is learned and how long a series must be back: tests would be long."""
CHARTER = """feature: {feature}
project: acme
arms:
  - {{name: strong, model: openai/gpt-4o, prompt: support@{prompt}}}
  - {{name: cheap, model: openai/gpt-4o-mini}}
"""


def event_of(topic: str, name: str, value: dict[str, Any], at_us: int, offset: int = 0) -> Event:
    """The event as a reader sees it, with every default filled in."""
    full = CODEC.decode(CODEC.encode(name, value)).value
    return Event(RawRecord(topic, 0, offset, at_us // 1000, b"", b""), name, 1, full)


def at(seconds: float) -> int:
    return T0 + round(seconds * 1e6)


def call(n: int, at_s: float, **more: Any) -> Event:
    """Call ``n`` of feature ``support``, answered by arm ``strong``; ``cost`` in US dollars."""
    cost = more.pop("cost", 0.01)
    value = {
        "event_id": f"call-{n}", "project": "acme", "request_id": f"r{n}", "occurred_at": at(at_s),
        "feature": "support", "provider": "openai", "request_model": "gpt-4o", "variant": "strong", "status": "OK",
        "latency_ms": 900.0, "input_tokens": 100, "output_tokens": 50,
        "cost_usd": None if cost is None else Decimal(f"{cost:.12f}"), **more,
    }  # fmt: skip
    return event_of("llm-calls", "llm_call", value, at(at_s) + 50_000)


def score(n: int, at_s: float, value: float, *, name: str = "judge.helpful", **more: Any) -> Event:
    fact = {
        "event_id": f"score-{name}-{n}", "project": "acme", "request_id": f"r{n}", "occurred_at": at(at_s),
        "evaluator": name, "score": value, **more,
    }  # fmt: skip
    return event_of("llm-evaluations", "evaluation", fact, at(at_s) + 50_000)


def decision(n: int, at_s: float, arm: str, **more: Any) -> Event:
    value = {
        "event_id": f"decision-{n}", "project": "acme", "request_id": f"r{n}", "occurred_at": at(at_s),
        "feature": "support", "policy": "support", "policy_version": 1, "policy_kind": "thompson_beta", "arm": arm,
        "propensity": 0.5, "arms": ["strong", "cheap"], "propensities": [0.5, 0.5], "reason": "policy",
        "decider": "router", **more,
    }  # fmt: skip
    return event_of("llm-decisions", "decision", value, at(at_s) + 50_000)


def charter(revision: int, at_s: float, *, more: str = "") -> Event:
    text = CHARTER.format(feature="support", prompt=revision) + more
    value = {
        "event_id": event_id("charter", revision), "project": "acme", "feature": "support", "occurred_at": at(at_s),
        "revision": revision, "charter_yaml": text, "digest": str(revision),
    }  # fmt: skip
    return event_of("charters", "charter", value, at(at_s))


class World:
    """Both stages on states in memory; times in seconds after `T0`."""

    def __init__(self, settings: DetectSettings = QUICK) -> None:
        self.intake, self.detect = IntakeFold(), DetectFold(settings)
        self.before, self.state = DictState(), DictState()
        self.ledger: list[Event] = []
        self.alerts: list[dict[str, Any]] = []
        self.verdicts: list[Any] = []

    def read(self, events: list[Event], at_s: float) -> None:
        """Stage 1 reads a batch, at a time; stage 2 what it passes on."""
        result = self.intake.fold(0, events, self.before)
        self.verdicts += result.verdicts.values()
        self._append(result.outputs, at_s)

    def tick(self, at_s: float) -> None:
        self._append([tick_entry(0, ["key"], at(at_s))], at_s)

    def _append(self, outputs: Any, at_s: float) -> None:
        entries = [
            event_of(output.topic, output.event, dict(output.value), at(at_s), len(self.ledger) + number)
            for number, output in enumerate(outputs)
        ]
        self.ledger += entries
        result = self.detect.fold(0, entries, self.state)
        assert not result.verdicts or all(getattr(v, "reason", "") == "late" for v in result.verdicts.values())
        self.alerts += [said(output) for output in result.outputs]

    def play(self, from_s: float, until_s: float, facts: Any, every_s: float = 1.0) -> None:
        """``facts(n, at_s)`` gives the events of second ``n``; the time is told every ten."""
        n = round(from_s / every_s)
        while n * every_s < until_s:
            at_s = n * every_s
            self.read(facts(n, at_s), at_s + 0.5)
            if n % 10 == 9:
                self.tick(at_s + 1)
            n += 1

    def said(self, kind: str) -> list[dict[str, Any]]:
        return [alert for alert in self.alerts if alert["kind"] == kind]


def said(output: Output) -> dict[str, Any]:
    """An alert as a subscriber reads it."""
    assert output.topic == "alerts"
    return CODEC.decode(CODEC.encode(output.event, dict(output.value))).value


def failing(rate: float, seed: int, **more: Any) -> Any:
    """Facts of one call a second of which a share fails."""

    def facts(n: int, at_s: float) -> list[Event]:
        failed = random.Random(f"{seed}:{n}").random() < rate
        return [call(n, at_s, status="ERROR" if failed else "OK", **more)]

    return facts
