"""Stage 1: passes what the controller needs on to the ledger, by project, so that there is one order of everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from flywheel.control import ControlInvalid, Record, RulesInvalid, Silence, parse_rules
from flywheel.events import event_id
from flywheel.policy import CharterInvalid, parse_charter
from flywheel.stream import Event, FoldResult, Output, Reject, Skip, StateView, as_body
from flywheel_controller.core.ledger import LEDGER, alert_body, figure
from flywheel_controller.core.published import OWN_ALERTS

INPUTS: Final = ("alerts", "charters", "policies", "controls", "silences", "control-rules")
POLICY_EVERY_MS: Final = 60_000
"""Beliefs are passed on at most so often by the records' time: they only rank arms."""
PriceOf = Callable[[str, int], float | None]
"""The price in US dollars of a typical call of a model (``provider/model``) at a time (microseconds since the epoch);
None where it is not known."""


class IntakeFold:
    """The fold of stage 1."""

    def __init__(self, price_of: PriceOf = lambda model, at_us: None) -> None:
        self._price_of = price_of

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
        """Pass on what matters, each as one entry."""
        outputs: list[Output] = []
        verdicts: dict[int, Skip | Reject] = {}
        for index, event in enumerate(events):
            found = self._entry(event, state)
            if isinstance(found, Output):
                outputs.append(found)
            else:
                verdicts[index] = found
        return FoldResult(outputs, verdicts)

    def _entry(self, event: Event, state: StateView) -> Output | Skip | Reject:
        value = event.value
        if event.event == "alert":
            return _alert(value)
        if event.event == "charter":
            return _charter(value)
        if event.event == "policy":
            return self._policy(event, state)
        if event.event == "control":
            return _control(value)
        if event.event == "silence":
            return _silence(value)
        if event.event == "control_rules":
            return _rules(value)
        return Skip("not_an_input")

    def _policy(self, event: Event, state: StateView) -> Output | Skip:
        value = event.value
        key = f"{value['project']}/{value['feature']}"
        stored = state.get("policies", key)
        revision, passed_ms = (int(part) for part in stored.split(b" ")) if stored else (-1, 0)
        now_ms = event.raw.timestamp_ms
        if value["charter_revision"] == revision and now_ms - passed_ms < POLICY_EVERY_MS:
            return Skip("soon_again")
        state.put("policies", key, f"{value['charter_revision']} {now_ms}".encode())
        arms = [
            {
                "name": arm["name"],
                "mean": figure(arm["mean"]) if arm["weight"] > 0 else None,
                "price": figure(self._price_of(arm["model"], value["occurred_at"])),
            }
            for arm in value["arms"]
        ]
        return _output("policy", value, value["feature"], {"version": value["policy_version"], "arms": arms})


def _alert(value: Mapping[str, Any]) -> Output | Skip | Reject:
    if value["kind"].startswith(OWN_ALERTS):
        return Skip("own")
    if value["state"] == "acknowledged":
        return Skip("acknowledged")  # a person has seen it; what is seen has not changed
    body = alert_body(value)
    return body if isinstance(body, Reject) else _output("alert", value, body["scope"].get("feature", ""), body)


def _charter(value: Mapping[str, Any]) -> Output | Skip:
    try:
        charter = parse_charter(value["charter_yaml"])
    except CharterInvalid:
        return Skip("charter_invalid")  # the bandit reads the same record and sends it to the dead letters
    if (charter.project, charter.feature) != (value["project"], value["feature"]):
        return Skip("charter_invalid")
    body = {
        "revision": value["revision"],
        "digest": value["digest"],
        "text": value["charter_yaml"],
        "event_id": value["event_id"],
        "at_us": value["occurred_at"],
        "default": charter.default_arm,
        "arms": [{"name": arm.name, "model": arm.model, "enabled": arm.enabled} for arm in charter.policy_arms],
    }
    return _output("charter", value, value["feature"], body)


def _control(value: Mapping[str, Any]) -> Output | Skip | Reject:
    try:
        record = Record.from_event(value)
    except ControlInvalid as error:
        return Reject("control_invalid", error.field, error.message)
    if record.owner != "person":
        return Skip("own")
    return _output("control", value, record.feature, record.event())


def _silence(value: Mapping[str, Any]) -> Output | Reject:
    try:
        silence = Silence.from_event(value)
    except ControlInvalid as error:
        return Reject("silence_invalid", error.field, error.message)
    return _output("silence", value, "", silence.event())


def _rules(value: Mapping[str, Any]) -> Output | Reject:
    try:
        parse_rules(value["rules_yaml"])
    except RulesInvalid as error:
        problem = error.problems[0]
        return Reject("rules_invalid", problem.field or "rules_yaml", str(problem))
    return _output("rules", value, "", {"revision": value["revision"], "text": value["rules_yaml"]})


def _output(kind: str, value: Mapping[str, Any], feature: str, body: Mapping[str, Any]) -> Output:
    entry = {
        "event_id": event_id("control_entry", kind, value["event_id"]),
        "project": value["project"],
        "occurred_at": value["occurred_at"],
        "kind": kind,
        "feature": feature,
        "body": as_body(body),
    }
    return Output(LEDGER, value["project"], "control_entry", entry)
