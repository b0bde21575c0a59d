"""A controller in memory: facts go through stage 1 into the ledger and through stage 2 into what it says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import pytest

from flywheel.control import Item, Record
from flywheel.control.shipped import default_rules
from flywheel.events import Codec, LocalRegistry, event_id
from flywheel.stream import Event, Output, RawRecord
from flywheel.testkit.dict_state import DictState
from flywheel_controller.core import ActFold, IntakeFold

T0 = 1_795_219_200_000_000  # 2026-11-21T00:00:00Z
PRICES = {"openai/gpt-4o": 0.01, "openai/gpt-4o-mini": 0.001, "anthropic/claude-haiku": 0.002}
CODEC = Codec(LocalRegistry.load())
CHARTER = """feature: {feature}
project: acme
arms:
  - {{name: strong, model: openai/gpt-4o, prompt: support@{prompt}}}
  - {{name: cheap, model: openai/gpt-4o-mini}}
  - {{name: other, model: anthropic/claude-haiku}}
policy: {{kind: thompson, default: strong}}
"""


def full(name: str, value: dict[str, Any]) -> dict[str, Any]:
    """The value with every default filled in, as a reader sees it."""
    return CODEC.decode(CODEC.encode(name, value)).value


def event_of(topic: str, name: str, value: dict[str, Any], at_us: int, offset: int = 0) -> Event:
    return Event(RawRecord(topic, 0, offset, at_us // 1000, b"", b""), name, 1, full(name, value))


class World:
    """One project, ``acme``; times in seconds after `T0`. What the controller says to charters is heard again."""

    def __init__(self, tree: Any = None) -> None:
        self.intake, self.act = IntakeFold(lambda model, at_us: PRICES.get(model)), ActFold(tree or default_rules())
        self.before, self.state = DictState(), DictState()
        self.ledger: list[Event] = []
        self.said: list[Output] = []
        self.verdicts: list[Any] = []
        self.now_s = 0.0
        self.revisions: dict[str, int] = {}
        self._again = DictState()

    # -- facts ---------------------------------------------------------------------------------------------------------

    def alert(self, alert_id: str, kind: str, *, state: str = "firing", at_s: float | None = None, **more: Any) -> None:
        self.now_s = self.now_s if at_s is None else at_s
        more.setdefault("scope", {"feature": "support", "arm": "strong"})
        value = {
            "event_id": event_id("alert", alert_id, state, self.now_s), "alert_id": alert_id, "project": "acme",
            "occurred_at": T0 + round(self.now_s * 1e6), "kind": kind, "severity": "critical", "state": state,
            "subject": alert_id, "title": f"{kind} of support", **more,
        }  # fmt: skip
        self._pass_on("alerts", "alert", value)

    def resolve(self, alert_id: str, kind: str, **more: Any) -> None:
        self.alert(alert_id, kind, state="resolved", **more)

    def charter(
        self,
        prompt: int,
        *,
        feature: str = "support",
        at_s: float | None = None,
        revision: int = 0,
        occurred_s: float | None = None,
    ) -> None:
        """``occurred_s``: when it was declared, where that is not when it is read."""
        self.now_s = self.now_s if at_s is None else at_s
        declared_s = self.now_s if occurred_s is None else occurred_s
        text = CHARTER.format(feature=feature, prompt=prompt)
        revision = revision or self.revisions.get(feature, 0) + 1
        self.revisions[feature] = max(revision, self.revisions.get(feature, 0))
        digest = sha256(text.encode()).hexdigest()
        value = {
            "event_id": event_id("charter", "acme", feature, revision, digest), "project": "acme", "feature": feature,
            "occurred_at": T0 + round(declared_s * 1e6), "revision": revision, "charter_yaml": text, "digest": digest,
        }  # fmt: skip
        self._pass_on("charters", "charter", value)

    def policy(self, version: int, means: dict[str, float], *, feature: str = "support") -> None:
        models = {"strong": "openai/gpt-4o", "cheap": "openai/gpt-4o-mini", "other": "anthropic/claude-haiku"}
        arms = [
            {"name": name, "model": models[name], "weight": 10.0, "mean": mean, "variance": 0.1, "propensity": 0.3}
            for name, mean in means.items()
        ]
        value = {
            "event_id": f"p{version}", "project": "acme", "feature": feature, "policy_version": version,
            "occurred_at": T0 + round(self.now_s * 1e6), "kind": "thompson_beta", "charter_digest": "d",
            "charter_revision": version, "default_arm": "strong", "arms": arms,
        }  # fmt: skip
        self._pass_on("policies", "policy", value)

    def person(
        self,
        revision: int,
        *items: Item,
        lifted: bool = False,
        expires_s: float | None = None,
        feature: str = "support",
    ) -> None:
        expires = None if expires_s is None else T0 + round(expires_s * 1e6)
        now_us = T0 + round(self.now_s * 1e6)
        record = Record("acme", feature, "person", revision, now_us, items, expires, lifted, by="ana", reason="said so")
        self._pass_on("controls", "control", record.event())

    def rules(self, revision: int, text: str) -> None:
        digest = sha256(text.encode()).hexdigest()
        value = {
            "event_id": f"r{revision}", "project": "acme", "occurred_at": T0, "revision": revision, "rules_yaml": text,
            "digest": digest,
        }  # fmt: skip
        self._pass_on("control-rules", "control_rules", value)

    def tick(self, at_s: float) -> None:
        self.now_s = at_s
        now_us = T0 + round(at_s * 1e6)
        self._enter({"event_id": f"t{at_s}", "project": "", "occurred_at": now_us, "kind": "tick"})

    def ticks(self, until_s: float, every_s: float = 30.0) -> None:
        while self.now_s < until_s:
            self.tick(min(self.now_s + every_s, until_s))

    # -- what it says --------------------------------------------------------------------------------------------------

    def steps(self, state: str | None = None) -> list[tuple[str, str]]:
        """Kind and state of every action's steps, or kind and reason of those in one state."""
        found = [o.value for o in self.said if o.topic == "actions"]
        if state is None:
            return [(value["kind"], value["state"]) for value in found]
        return [(value["kind"], value["reason"]) for value in found if value["state"] == state]

    def actions(self) -> list[dict[str, Any]]:
        return [full("action", dict(o.value)) for o in self.said if o.topic == "actions"]

    def controls(self, feature: str = "support") -> list[tuple[str, tuple[str, ...]]]:
        """What the controller's newest record has in force."""
        found = [o.value for o in self.said if o.topic == "controls" and o.value["feature"] == feature]
        return [(item["kind"], tuple(item["arms"])) for item in found[-1]["items"]] if found else []

    def prompts(self) -> list[str]:
        """The prompt version of each charter it published."""
        texts = [o.value["charter_yaml"] for o in self.said if o.topic == "charters"]
        return [text.split("support@")[1].split("}")[0] for text in texts]

    def told(self) -> list[tuple[str, str]]:
        return [(o.value["kind"], o.value["state"]) for o in self.said if o.topic == "alerts"]

    # -- wires ---------------------------------------------------------------------------------------------------------

    def _pass_on(self, topic: str, name: str, value: dict[str, Any]) -> None:
        event = event_of(topic, name, value, T0 + round(self.now_s * 1e6))
        result = self.intake.fold(0, [event], self.before)
        self.verdicts += result.verdicts.values()
        for output in result.outputs:
            self._enter(dict(output.value))

    def _enter(self, value: dict[str, Any]) -> None:
        at_us = T0 + round(self.now_s * 1e6)
        event = event_of("control-ledger", "control_entry", value, at_us, len(self.ledger))
        self.ledger.append(event)
        result = self.act.fold(0, [event], self.state)
        self.verdicts += result.verdicts.values()
        self.said += result.outputs
        for output in result.outputs:
            full(output.event, {"event_id": "x", **output.value})
            if output.topic == "charters":  # its own echo
                self.revisions[output.value["feature"]] = output.value["revision"]
                self._pass_on("charters", "charter", dict(output.value))

    def act_one(self, event: Event, place: int) -> list[Output]:
        """The outputs of the ``place``-th entry when the ledger is read again from its beginning, one by one."""
        if place == 0:
            self._again = DictState()
        return list(self.act.fold(0, [event], self._again).outputs)

    def replayed(self, cuts: Iterable[int]) -> tuple[list[str], dict[str, dict[str, bytes]]]:
        """The outputs and the state of the same ledger read again, cut into batches at ``cuts``."""
        state, outputs, start = DictState(), [], 0
        for end in [*sorted(cuts), len(self.ledger)]:
            outputs += self.act.fold(0, self.ledger[start:end], state).outputs if end > start else []
            start = max(start, end)
        return [canonical(output) for output in outputs], state.dump()


@pytest.fixture
def world() -> World:
    """A feature with three arms, a charter and a policy, and the default rules."""
    made = World()
    made.charter(1, at_s=0)
    made.policy(1, {"strong": 0.8, "cheap": 0.7, "other": 0.3})
    return made


def canonical(output: Output) -> str:
    return json.dumps([output.topic, output.key, output.event, dict(output.value)], sort_keys=True)
