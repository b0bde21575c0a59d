"""The controller on a real broker, killed in the middle of its batches: no action lost, none made twice.

What the ledger says has to be done is computed anew by the core from what lies on the broker, and compared, event by
event, with what the killed service said.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flywheel.control.shipped import default_rules
from flywheel.events import Codec, LocalRegistry, event_id, topics
from flywheel.local.topic_admin import create_topics
from flywheel.stream import KafkaBus, Output, Publisher
from flywheel.testkit.replaying import replayed, said
from flywheel_controller.core import LEDGER, ActFold

pytest_plugins = ["flywheel.local.fixtures"]
pytestmark = pytest.mark.broker
CODEC = Codec(LocalRegistry.load())
FEATURES = ("f1", "f2", "f3")
KILLED_AT = ("before_state_commit:4=crash", "after_state_commit:5=crash", "mid_outbox:3=crash")
PATIENCE_S = 300.0
"""With a busy machine; nothing is held against it but that it comes at all."""
ENDS = {"undone", "expired", "returned", "superseded", "overridden"}
RULES = """version: 1
limits: {per_hour: 1000, per_feature_per_hour: 1000}
rules:
  - name: errors
    priority: 9
    when: {kind: error_rate}
    do: [{action: rollback, changed_within: 1h}, {action: disable}]
    verify: {within: 2s}
    expires_after: 6s
    return_after: 1s
    cooldown: 1s
    flaps: {most: 100, within: 1h}
  - name: decay
    when: {kind: drift}
    do: [{action: propose}]
"""
CHARTER = "feature: {feature}\nproject: acme\narms: [{{name: a, model: m/{n}}}, {{name: b, model: m/b}}]\n"


def now_us() -> int:
    return time.time_ns() // 1000


def charter(feature: str, revision: int) -> Output:
    text = CHARTER.format(feature=feature, n=revision)
    value = {
        "event_id": event_id("charter", feature, revision), "project": "acme", "feature": feature,
        "occurred_at": now_us(), "revision": revision, "charter_yaml": text, "digest": f"{revision}",
    }  # fmt: skip
    return Output("charters", f"acme/{feature}", "charter", value)


def alert(name: str, kind: str, state: str, feature: str) -> Output:
    at_us = now_us()
    value = {
        "event_id": event_id("alert", name, state, at_us), "alert_id": name, "project": "acme", "occurred_at": at_us,
        "kind": kind, "severity": "critical", "state": state, "scope": {"feature": feature, "arm": "a"},
        "subject": name, "title": name, "value": 0.2, "threshold": 0.01,
    }  # fmt: skip
    return Output("alerts", name, "alert", value)


async def start(bootstrap: str, state_dir: Path, faults: str) -> asyncio.subprocess.Process:
    environment = os.environ | {
        "FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap, "FLYWHEEL_STATE_DIR": str(state_dir), "FLYWHEEL_OPS_PORT": "0",
        "FLYWHEEL_TICK_S": "0.3",
    }  # fmt: skip
    if faults:
        environment |= {"FLYWHEEL_TESTING": "1", "FLYWHEEL_FAULTS": faults}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flywheel_controller", env=environment, stdout=asyncio.subprocess.DEVNULL
    )


async def computed(bootstrap: str) -> dict[str, dict[str, dict[str, Any]]]:
    """What the core says about the ledger as it lies on the broker, by topic and id."""
    found = await replayed(bootstrap, LEDGER, CODEC, lambda: ActFold(default_rules()), "controller")
    return {name: found.get(name, {}) for name in ("actions", "controls", "charters", "alerts")}


async def rules_read(bootstrap: str, state_dir: Path) -> None:
    """Let the controller run until the rules are on its ledger: topics are read side by side, so an alert that follows
    them closely may come before them."""
    process = await start(bootstrap, state_dir, "")
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not any(e["kind"] == "rules" for e in (await said(bootstrap, LEDGER, CODEC)).values()):
                await asyncio.sleep(0.3)
    finally:
        process.terminate()
        await process.wait()


def over(actions: dict[str, dict[str, Any]]) -> bool:
    """Whether every action that was applied has come to an end."""
    states: dict[str, set[str]] = {}
    for action in actions.values():
        states.setdefault(action["action_id"], set()).add(action["state"])
    applied = [found for found in states.values() if "applied" in found]
    return len(applied) >= len(FEATURES) and all(found & (ENDS | {"verified"}) for found in applied)


async def told(bootstrap: str, topic: str) -> dict[str, dict[str, Any]]:
    """What the controller said on a topic, without what this test put there."""
    found = await said(bootstrap, topic, CODEC)
    if topic == "alerts":
        return {key: value for key, value in found.items() if value["kind"].startswith("action_")}
    if topic == "charters":
        return {key: value for key, value in found.items() if value["revision"] > 2}
    return found


async def settled(bootstrap: str) -> None:
    """Wait until every alert is on the ledger, everything the ledger asks for was said, and what was applied is over.

    A controller that lost an action, or said one too many, never gets there: the comparison after this tells which.
    """
    loop = asyncio.get_running_loop()
    last = loop.time() + PATIENCE_S
    while loop.time() < last:
        await asyncio.sleep(1)
        actions, ledger = await told(bootstrap, "actions"), await said(bootstrap, LEDGER, CODEC)
        heard = {
            key
            for key, value in (await said(bootstrap, "alerts", CODEC)).items()
            if value["kind"] in ("error_rate", "drift")
        }
        read = {event_id("control_entry", "alert", key) for key in heard}
        if read <= ledger.keys() and over(actions) and actions == (await computed(bootstrap))["actions"]:
            return


async def test_killed_anywhere_no_action_is_lost_or_made_twice(
    private_kafka: Callable[..., Any], tmp_path: Path
) -> None:
    bootstrap = private_kafka().bootstrap
    await create_topics(bootstrap, topics().values())
    publisher = Publisher(KafkaBus(bootstrap), CODEC, source="test")
    await publisher.start()
    rules = {"event_id": "r", "project": "acme", "occurred_at": 0, "revision": 1, "rules_yaml": RULES, "digest": "d"}
    await publisher.publish([Output("control-rules", "acme", "control_rules", rules)])
    await publisher.publish([charter(feature, revision) for feature in FEATURES for revision in (1, 2)])
    await rules_read(bootstrap, tmp_path)
    killed = 0
    for number, faults in enumerate([*KILLED_AT, ""]):
        process = await start(bootstrap, tmp_path, faults)
        try:
            for feature in FEATURES:
                name = f"{feature}-{number}"
                await publisher.publish(
                    [alert(name, "error_rate", "firing", feature), alert(f"d{name}", "drift", "firing", feature)]
                )
                await asyncio.sleep(0.3)
                if feature != "f3":
                    await publisher.publish([alert(name, "error_rate", "resolved", feature)])
            if faults:
                async with asyncio.timeout(PATIENCE_S):
                    killed += await process.wait() == -signal.SIGKILL
                continue
            await settled(bootstrap)
        finally:
            if process.returncode is None:
                process.terminate()
                async with asyncio.timeout(120):
                    await process.wait()
    await publisher.stop()
    assert killed == len(KILLED_AT)
    expected = await computed(bootstrap)
    for topic, events in expected.items():
        assert await told(bootstrap, topic) == events, topic
    applied = [a["action_id"] for a in expected["actions"].values() if a["state"] == "applied"]
    assert len(applied) == len(set(applied)) >= len(FEATURES)
