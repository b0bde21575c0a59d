"""The monitor on a real broker: an error wave is seen, told and over; killed with -9 it comes back with its windows."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flywheel.events import Codec, LocalRegistry, event_id, topics
from flywheel.local.topic_admin import create_topics
from flywheel.stream import KafkaBus, Output, Publisher
from flywheel.testkit.draining import read_topic

pytest_plugins = ["flywheel.local.fixtures"]
pytestmark = pytest.mark.broker
CODEC = Codec(LocalRegistry.load())
PATIENCE_S = 300.0
"""With a busy machine; nothing is held against it but that it comes at all."""
CHARTER = """project: acme
feature: answers
arms: [{name: a, model: m/a}]
slo:
  - {metric: error_rate, max: 0.01, window: 30d}
  - {metric: latency_ms, below: 1000, share: 0.9, window: 7d}
"""


def charter() -> Output:
    value = {
        "event_id": event_id("charter", "answers"), "project": "acme", "feature": "answers",
        "occurred_at": now_us(), "revision": 1, "charter_yaml": CHARTER, "digest": "1",
    }  # fmt: skip
    return Output("charters", "acme/answers", "charter", value)


def now_us() -> int:
    return time.time_ns() // 1000


def calls(first: int, n: int, status: str) -> Iterator[Output]:
    for number in range(first, first + n):
        request = f"r{number}"
        yield Output(
            "llm-calls", request, "llm_call",
            {
                "event_id": event_id("call", request), "project": "acme", "request_id": request,
                "occurred_at": now_us(), "feature": "answers", "provider": "p", "request_model": "m", "variant": "a",
                "latency_ms": 200.0 + number % 10, "status": status,
            },
        )  # fmt: skip


async def start(bootstrap: str, folder: Path) -> asyncio.subprocess.Process:
    port_file(folder).unlink(missing_ok=True)
    environment = os.environ | {
        "FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap, "FLYWHEEL_STATE_DIR": str(folder), "FLYWHEEL_PORT": "0",
        "FLYWHEEL_OPS_PORT": "0", "FLYWHEEL_TICK_S": "0.5", "FLYWHEEL_QUIET_S": "1",
        "FLYWHEEL_PORT_FILE": str(port_file(folder)),
    }  # fmt: skip
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "flywheel_monitor", env=environment)


def port_file(folder: Path) -> Path:
    return folder / "ports.json"


async def page(folder: Path, path: str) -> dict[str, Any]:
    """What the monitor answers; {} while it does not yet."""
    try:
        ports = json.loads(port_file(folder).read_text())["ports"]
        async with httpx.AsyncClient() as client:
            return dict((await client.get(f"http://127.0.0.1:{ports['http']}{path}")).json())
    except (OSError, KeyError, httpx.HTTPError):
        return {}


async def until(question: Callable[[], Any]) -> Any:
    """Ask again until there is an answer."""
    async with asyncio.timeout(PATIENCE_S):
        while not (answer := await question()):
            await asyncio.sleep(0.3)
    return answer


async def counted(folder: Path, n: int) -> dict[str, Any] | None:
    """The hour of the feature, once it holds n calls; more would be calls counted twice."""
    found = await page(folder, "/v1/slis?project=acme&feature=answers&window=1h&by=feature")
    for sli in found.get("slis", []):
        assert sli["counts"]["calls"] <= n
        if sli["counts"]["calls"] == n:
            return dict(sli)
    return None


async def alerts(bootstrap: str) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for record in await read_topic(bootstrap, "alerts"):
        value = CODEC.decode(record.value or b"").value
        assert found.setdefault(value["event_id"], value) == value
    return sorted(found.values(), key=lambda value: int(value["occurred_at"]))


async def told(bootstrap: str, state: str) -> list[dict[str, Any]]:
    return [value for value in await alerts(bootstrap) if value["state"] == state and value["severity"] == "critical"]


async def killed_and_started(process: asyncio.subprocess.Process, bootstrap: str, folder: Path) -> Any:
    process.send_signal(signal.SIGKILL)
    await process.wait()
    return await start(bootstrap, folder)


async def some_counted(folder: Path, more_than: int) -> bool:
    found = await page(folder, "/v1/slis?project=acme&feature=answers&window=1h")
    return any(sli["counts"]["calls"] > more_than for sli in found.get("slis", []))


async def test_a_wave_of_errors_is_told_and_over_and_no_kill_loses_or_doubles_a_call(
    private_kafka: Callable[..., Any], tmp_path: Path
) -> None:
    bootstrap = private_kafka().bootstrap
    await create_topics(bootstrap, topics().values())
    publisher = Publisher(KafkaBus(bootstrap), CODEC, source="test")
    await publisher.start()
    await publisher.publish([charter(), *calls(0, 300, "OK"), *calls(300, 60, "ERROR")])
    process = await start(bootstrap, tmp_path)
    try:
        sli = await until(lambda: counted(tmp_path, 360))
        assert (sli["counts"]["failed"], sli["error_rate"]) == (60, 60 / 360)
        assert sli["latency_ms"]["p50"] == pytest.approx(204.5, rel=0.05)
        (fired,) = await until(lambda: told(bootstrap, "firing"))
        assert fired["kind"] == "slo_burn"
        assert fired["value"] >= 6  # by what was read when it was looked at: that may be a part

        process = await killed_and_started(process, bootstrap, tmp_path)  # at rest
        again = await until(lambda: counted(tmp_path, 360))
        assert again["counts"] == sli["counts"]

        await publisher.publish([*calls(360, 8000, "OK")])
        await until(lambda: some_counted(tmp_path, 360))
        process = await killed_and_started(process, bootstrap, tmp_path)  # in the middle of them, or just after
        calm = await until(lambda: counted(tmp_path, 8360))
        assert calm["within"] == {"latency_ms<1000": {"below": 8300, "of": 8300}}
        (over,) = await until(lambda: told(bootstrap, "resolved"))
        assert over["alert_id"] == fired["alert_id"]
        assert len(await told(bootstrap, "firing")) == 1

        slos = {each["slo"]: each for each in (await page(tmp_path, "/v1/slos?project=acme"))["slos"]}
        assert slos["error_rate"]["alerts"]["page"]["state"] == "resolved"
        assert slos["error_rate"]["bad"] == 60
        assert slos["latency_ms<1000"]["budget_left"] == 1.0
        process.terminate()
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await publisher.stop()
