"""The detector on a real broker, killed in the middle of its batches: no alert lost, none told twice.

What the ledger says has to be told is computed anew by the core from what lies on the broker, and compared, event by
event, with what the killed service said.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flywheel.events import Codec, LocalRegistry, topics
from flywheel.local.topic_admin import create_topics
from flywheel.observe import load_settings
from flywheel.stream import KafkaBus, Output, Publisher
from flywheel.testkit.replaying import replayed, said
from flywheel_detector.core import LEDGER, DetectFold
from flywheel_detector.settings import DetectorSettings

pytest_plugins = ["flywheel.local.fixtures"]
pytestmark = [pytest.mark.broker, pytest.mark.timeout(900)]
CODEC = Codec(LocalRegistry.load())
FEATURES = ("f1", "f2", "f3")
KILLED_AT = ("before_state_commit:6=crash", "after_state_commit:8=crash", "mid_outbox:5=crash")
PACE = {"tick_s": 0.3, "window_s": 0.5, "warm_up": 64, "resolve_s": 2.0, "quiet_s": 5.0, "repeat_s": 1.0}
"""Everything quicker than shipped."""


def call(feature: str, number: int, at_us: int, failed: bool) -> Output:
    value = {
        "event_id": f"{feature}-{number}", "project": "acme", "request_id": f"{feature}-{number}",
        "occurred_at": at_us, "feature": feature, "provider": "openai", "request_model": "gpt-4o", "variant": "a",
        "status": "ERROR" if failed else "OK", "latency_ms": 900.0,
    }  # fmt: skip
    return Output("llm-calls", value["request_id"], "llm_call", value)


async def start(bootstrap: str, state_dir: Path, faults: str) -> asyncio.subprocess.Process:
    environment = os.environ | {
        "FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap, "FLYWHEEL_STATE_DIR": str(state_dir), "FLYWHEEL_OPS_PORT": "0",
    }  # fmt: skip
    environment |= {f"FLYWHEEL_{name.upper()}": str(value) for name, value in PACE.items()}
    if faults:
        environment |= {"FLYWHEEL_TESTING": "1", "FLYWHEEL_FAULTS": faults}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flywheel_detector", env=environment, stdout=asyncio.subprocess.DEVNULL
    )


async def computed(bootstrap: str) -> dict[str, dict[str, Any]]:
    """What the core says about the ledger as it lies on the broker, by id."""
    settings = load_settings(DetectorSettings, **PACE).detect
    found = await replayed(bootstrap, LEDGER, CODEC, lambda: DetectFold(settings), "detector")
    return found.get("alerts", {})


async def observed(bootstrap: str) -> list[str]:
    """The marks of every observation on the ledger, those of repeats too."""
    found = []
    for entry in (await said(bootstrap, LEDGER, CODEC)).values():
        if entry["kind"] == "observations":
            found += [mark for _, _, mark, _, _ in json.loads(entry["body"])["observations"]]
    return found


async def settled(bootstrap: str, calls: int) -> None:
    """Wait until every call is on the ledger, what fired is resolved, and everything the ledger asks for was said."""
    loop = asyncio.get_running_loop()
    last = loop.time() + 300
    while loop.time() < last:
        await asyncio.sleep(1)
        alerts = await said(bootstrap, "alerts", CODEC)
        fired = {alert["alert_id"] for alert in alerts.values() if alert["kind"] == "error_rate"}
        over = {alert["alert_id"] for alert in alerts.values() if alert["state"] == "resolved"}
        if len(await observed(bootstrap)) < calls or len(fired) < len(FEATURES) or not fired <= over:
            continue
        if alerts == await computed(bootstrap):
            return


async def test_killed_anywhere_no_alert_is_lost_or_told_twice(
    private_kafka: Callable[..., Any], tmp_path: Path
) -> None:
    bootstrap = private_kafka().bootstrap
    await create_topics(bootstrap, topics().values())
    publisher = Publisher(KafkaBus(bootstrap), CODEC, source="test")
    await publisher.start()
    dice, killed, number = random.Random(7), 0, 0
    phases = (*(0.02 for _ in KILLED_AT), 0.9, 0.02)
    process = None
    for place, rate in enumerate(phases):
        faults = KILLED_AT[place] if place < len(KILLED_AT) else ""
        if process is None:
            process = await start(bootstrap, tmp_path, faults)
        last = time.monotonic() + (90 if faults else 12)
        while time.monotonic() < last and process.returncode is None:
            at_us = time.time_ns() // 1000
            made = [call(feature, number, at_us, dice.random() < rate) for feature in FEATURES]
            await publisher.publish(made)
            number += 1
            await asyncio.sleep(0.05)
        if faults:
            killed += process.returncode == -signal.SIGKILL
            process = None
    try:
        await settled(bootstrap, number * len(FEATURES))
    finally:
        if process is not None and process.returncode is None:
            process.terminate()
            async with asyncio.timeout(120):
                await process.wait()
        await publisher.stop()
    assert killed == len(KILLED_AT)
    alerts, marks = await said(bootstrap, "alerts", CODEC), await observed(bootstrap)
    assert len(marks) == len(set(marks)) == number * len(FEATURES)
    assert alerts == await computed(bootstrap)
    errors = [alert for alert in alerts.values() if alert["kind"] == "error_rate"]
    assert {alert["scope"]["feature"] for alert in errors if alert["state"] == "firing"} == set(FEATURES)
