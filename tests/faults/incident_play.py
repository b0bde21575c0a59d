"""One incident from its beginning to when everything is as it was: noticed, acted on, verified, returned."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from incident_kinds import Incident
from incident_world import CHARTER, World
from load import publish

from flywheel.events import Codec, event_id, load_registry
from flywheel.stream import KafkaBus, Output

PROJECT: Final = "default"
PATIENCE_S: Final = 240.0
"""With a busy machine, for each step; nothing is held against it but that it comes."""
ENDS: Final = ("returned", "undone", "expired", "superseded", "overridden")
CROWD: Final = 12.0
ROLLING_S: Final = 60
Event = Mapping[str, Any]


def now_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


def charter_of(feature: str, prompt: int, revision: int) -> Output:
    """The charter of a feature with a prompt version."""
    text = CHARTER.format(feature=feature, prompt=prompt)
    value = {
        "event_id": event_id("charter", feature, revision), "project": PROJECT, "feature": feature,
        "occurred_at": now_us(), "revision": revision, "charter_yaml": text,
        "digest": sha256(text.encode()).hexdigest(),
    }  # fmt: skip
    return Output("charters", f"{PROJECT}/{feature}", "charter", value)


class Heard:
    """What the topics of alerts and actions say, as it comes."""

    def __init__(self, bootstrap: str) -> None:
        self._bus, self._codec = KafkaBus(bootstrap, client_id="incidents"), Codec(load_registry())
        self.alerts: dict[str, Event] = {}
        self.actions: dict[str, Event] = {}

    async def run(self) -> None:
        """Listen until cancelled."""
        consumer = self._bus.consumer(topics=["alerts", "actions"], group=None)
        await consumer.start()
        try:
            while True:
                for partition, records in (await consumer.poll(max_records=1000, timeout_ms=300)).items():
                    held = self.alerts if partition.topic == "alerts" else self.actions
                    for record in records:
                        value = self._codec.decode(record.value or b"").value
                        held[value["event_id"]] = value
        finally:
            await consumer.stop()

    async def alert(self, true: Callable[[Event], bool], seconds: float = PATIENCE_S) -> Event | None:
        """The first alert of which something is true, None where none comes."""
        return await _first(self.alerts, true, seconds)

    async def action(self, true: Callable[[Event], bool], seconds: float = PATIENCE_S) -> Event | None:
        """The first step of an action of which something is true, None where none comes."""
        return await _first(self.actions, true, seconds)

    def on(self, feature: str, *states: str) -> list[Event]:
        """Steps of actions on a feature, in one of these states or in any."""
        found = [each for each in self.actions.values() if each["feature"] == feature]
        return [each for each in found if not states or each["state"] in states]


async def _first(events: Mapping[str, Event], true: Callable[[Event], bool], seconds: float) -> Event | None:
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        found = [each for each in list(events.values()) if true(each)]
        if found:
            return min(found, key=lambda each: each["occurred_at"])
        await asyncio.sleep(0.2)
    return None


@dataclass
class Row:
    """What became of an incident. Times are seconds: of noticing and acting since it began, of verifying since it was
    acted on, of acting again since it was returned to too early, of returning since its cause ended."""

    name: str
    noticed: str = ""
    noticed_s: float | None = None
    calls: int | None = None
    rule: str = ""
    action: str = ""
    acted_s: float | None = None
    verified: str = ""
    verified_s: float | None = None
    again_s: float | None = None
    back: str = ""
    back_s: float | None = None
    actions: int = 0
    """How many were applied."""
    also: list[str] = field(default_factory=list)
    """What else was said about the feature: proposed or refused, and why."""
    problems: list[str] = field(default_factory=list)


@dataclass
class Stage:
    """Where incidents are played. ``amount_usd``: the hard budget of the race in any minute; ``return_s``: the longest
    that a rule waits before it returns."""

    bootstrap: str
    world: World
    heard: Heard
    amount_usd: float
    return_s: float


async def play(incident: Incident, stage: Stage) -> Row:
    """Play an incident; what does not come is a problem in its row."""
    row, begun_us = Row(incident.name), now_us()
    await _begin(incident, stage)
    try:
        if incident.way == "budget":
            await _race(incident, stage, row, begun_us)
        else:
            await _loop(incident, stage, row, begun_us)
    finally:
        _end(incident, stage.world)
    return row


async def _begin(incident: Incident, stage: Stage) -> None:
    world, feature = stage.world, incident.feature
    if incident.way == "arm":
        world.hurt[feature, "strong"] = incident.changes
    elif incident.way == "prompt":
        world.prompts[feature, "2"] = incident.changes
        await publish(stage.bootstrap, [charter_of(feature, 2, 2)])
    else:
        world.rates[feature] = 0.0 if incident.way == "silence" else CROWD


def _end(incident: Incident, world: World) -> None:
    world.hurt.pop((incident.feature, "strong"), None)
    world.rates.pop(incident.feature, None)


async def _loop(incident: Incident, stage: Stage, row: Row, begun_us: int) -> None:
    heard, world, feature = stage.heard, stage.world, incident.feature
    alert = await _noticed(incident, stage, row, begun_us)
    if alert is None:
        return
    made = ("proposed",) if incident.way == "silence" else ("applied",)
    action = await heard.action(lambda a: a["feature"] == feature and a["state"] in made and _for(a, alert))
    if action is None:
        told = [f"{a['kind']} {a['state']}: {a['reason']}" for a in heard.on(feature)]
        row.problems.append(f"nothing was done{': ' if told else ''}{'; '.join(told)}")
    else:
        row.rule, row.action = action["rule"] or "", _named(action)
        row.acted_s = (action["occurred_at"] - begun_us) / 1e6
        if action["kind"] not in incident.answered:
            row.problems.append(f"{action['kind']} is not the answer, but one of {', '.join(incident.answered)}")
        if incident.way != "silence":
            await _verified(heard, row, action)
        if incident.lasts:
            action = await _again(heard, row, action)
    ended_us = now_us()
    _end(incident, world)
    if action is not None and incident.way == "arm":
        await _returned(stage, row, action, ended_us)
    else:
        since_us = begun_us if incident.way == "prompt" else ended_us
        await _resolved(stage, row, alert, since_us)
    if incident.way == "prompt" and world.prompt_of.get(feature) != "1":
        row.problems.append(f"prompt {world.prompt_of.get(feature)} is still served")
    row.actions, due = len(heard.on(feature, "applied")), 0 if incident.way == "silence" else 2 if incident.lasts else 1
    if row.actions != due:
        row.problems.append(f"{row.actions} actions instead of {due}")
    row.also = [f"{a['kind']} {a['state']}: {a['reason']}" for a in heard.on(feature, "proposed", "refused")]


async def _noticed(incident: Incident, stage: Stage, row: Row, begun_us: int) -> Event | None:
    def tells(alert: Event) -> bool:
        about = alert["scope"].get("feature") == incident.feature and alert["occurred_at"] >= begun_us
        return about and alert["kind"] in incident.noticed and alert["state"] == "firing"

    alert = await stage.heard.alert(tells)
    if alert is None:
        row.problems.append("not noticed")
        return None
    arm = alert["scope"].get("arm", "")
    row.noticed = " ".join(part for part in (alert["kind"], alert["attributes"].get("measure", ""), arm) if part)
    row.noticed_s = (alert["occurred_at"] - begun_us) / 1e6
    row.calls = stage.world.calls(incident.feature, arm, begun_us, alert["occurred_at"])
    return alert


async def _verified(heard: Heard, row: Row, action: Event) -> None:
    judged = await heard.action(
        lambda a: a["action_id"] == action["action_id"] and a["state"] in ("verified", *ENDS)
    )  # fmt: skip
    row.verified = judged["state"] if judged else "not judged"
    if judged is not None:
        row.verified_s = (judged["occurred_at"] - action["occurred_at"]) / 1e6
    if row.verified != "verified":
        row.problems.append(f"{row.action}: {row.verified}")


async def _again(heard: Heard, row: Row, action: Event) -> Event:
    """The same, made again after the first was taken back while its cause went on; the first, if that does not come."""
    over = await heard.action(lambda a: a["action_id"] == action["action_id"] and a["state"] in ENDS)
    feature, since_us = action["feature"], action["occurred_at"]
    again = over and await heard.action(
        lambda a: a["feature"] == feature and a["state"] == "applied" and a["occurred_at"] > since_us
    )
    if over is None or again is None:
        row.problems.append(f"{row.action}: {'not made again' if over else 'not taken back while its cause went on'}")
        return action
    row.again_s = (again["occurred_at"] - over["occurred_at"]) / 1e6
    judged = await heard.action(lambda a: a["action_id"] == again["action_id"] and a["state"] in ("verified", *ENDS))
    if judged is None or judged["state"] != "verified":
        row.problems.append(f"{row.action}, made again: {judged['state'] if judged else 'not judged'}")
    return again


async def _returned(stage: Stage, row: Row, action: Event, ended_us: int) -> None:
    longest_s = PATIENCE_S + stage.return_s
    over = await stage.heard.action(lambda a: a["action_id"] == action["action_id"] and a["state"] in ENDS, longest_s)
    row.back = over["state"] if over else "still in force"
    if over is None or over["state"] != "returned":
        row.problems.append(f"{row.action}: {row.back} instead of returned")
        return
    row.back_s = (over["occurred_at"] - ended_us) / 1e6
    last = time.monotonic() + PATIENCE_S
    while not stage.world.calls(row.name, "strong", over["occurred_at"]):
        if time.monotonic() > last:
            row.problems.append("the arm is not asked again")
            return
        await asyncio.sleep(0.3)


async def _resolved(stage: Stage, row: Row, alert: Event, since_us: int) -> None:
    over = await stage.heard.alert(
        lambda a: a["alert_id"] == alert["alert_id"] and a["state"] == "resolved"
        and a["occurred_at"] >= alert["occurred_at"]
    )  # fmt: skip
    row.back = "alert resolved" if over else "alert still fires"
    if over is None:
        row.problems.append(row.back)
    else:
        row.back_s = (over["occurred_at"] - since_us) / 1e6


async def _race(incident: Incident, stage: Stage, row: Row, begun_us: int) -> None:
    """The budget itself acts: arms that it cannot pay do not serve, then requests are refused; its window goes on."""
    world, feature = stage.world, incident.feature
    refused, last = world.refused[feature], time.monotonic() + PATIENCE_S
    if await _noticed(incident, stage, row, begun_us) is None:
        return
    while world.refused[feature] == refused and not _only_cheap(world, feature):
        if time.monotonic() > last:
            row.problems.append("nothing was refused, and the dear arm still served")
            return
        await asyncio.sleep(0.2)
    row.rule, row.acted_s = "(the budget)", (now_us() - begun_us) / 1e6
    row.action = "refused" if world.refused[feature] != refused else "only the cheap arm"
    await asyncio.sleep(10)
    spent = world.dearest(feature, ROLLING_S)
    row.verified, row.verified_s = f"{spent:.3f} of {stage.amount_usd:.3f} USD", 10.0
    if spent > stage.amount_usd:
        row.problems.append(f"{spent:.4f} USD were spent of {stage.amount_usd:.4f}")
    ended_us = now_us()
    _end(incident, world)
    quiet_since, refused = time.monotonic(), world.refused[feature]
    while time.monotonic() - quiet_since < 5 or not world.calls(feature, "", now_us() - 5_000_000):
        if time.monotonic() > last + PATIENCE_S:
            row.problems.append("requests are still refused")
            return
        if world.refused[feature] != refused:
            quiet_since, refused = time.monotonic(), world.refused[feature]
        await asyncio.sleep(0.2)
    row.back, row.back_s = "answered again", (now_us() - ended_us) / 1e6 - 5


def _only_cheap(world: World, feature: str) -> bool:
    since_us = now_us() - 3_000_000
    return world.calls(feature, "cheap", since_us) >= 20 and not world.calls(feature, "strong", since_us)


def _for(action: Event, alert: Event) -> bool:
    return alert["alert_id"] in action["cause"] or action["occurred_at"] >= alert["occurred_at"]


def _named(action: Event) -> str:
    return " ".join([action["kind"], *action["arms"]])
