"""The client against the real ingest and router on a real Kafka."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flywheel.client import Flywheel
from flywheel.events import Codec, load_registry
from flywheel.local.runtime import Runtime
from flywheel.stream import KafkaBus

pytestmark = pytest.mark.broker
README = Path(__file__).parents[2] / "libs/client/README.md"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with Runtime(tmp_path_factory.mktemp("system"), parts=("registry", "ingest", "router")) as runtime:
        yield runtime


def on_topic(system: Runtime, topic: str, wanted: set[str], field: str = "request_id") -> list[dict[str, Any]]:
    """Read a topic until every wanted value of ``field`` is there and nothing more comes."""

    async def read() -> list[dict[str, Any]]:
        codec = Codec(load_registry())
        consumer = KafkaBus(system.bootstrap).consumer(topics=[topic], group=None)
        await consumer.start()
        found: list[dict[str, Any]] = []
        quiet = 0
        async with asyncio.timeout(120):
            while quiet < 3 or not wanted <= {event[field] for event in found}:
                polled = await consumer.poll(max_records=5000, timeout_ms=200)
                quiet = 0 if polled else quiet + 1
                found += [codec.decode(record.value or b"").value for some in polled.values() for record in some]
        await consumer.stop()
        return [event for event in found if event[field] in wanted]

    return asyncio.run(read())


def client_of(system: Runtime, folder: Path, **options: Any) -> Flywheel:
    addresses = system.addresses
    return Flywheel(
        ingest_url=addresses["ingest"], router_url=addresses["router"], spill_dir=folder, linger_s=0.02,
        **{"decide_timeout_s": 2.0, **options},
    )  # fmt: skip


def test_the_quickstart_of_the_readme_runs_as_written(system: Runtime, tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]
    assert len(code.strip().splitlines()) <= 20
    ingest, router = system.addresses["ingest"], system.addresses["router"]
    environ = {**os.environ, "FLYWHEEL_INGEST_URL": ingest, "FLYWHEEL_ROUTER_URL": router}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split()[0] == "strong"
    (call,) = on_topic(system, "llm-calls", {"ticket-1"})
    (feedback,) = on_topic(system, "llm-feedback", {"ticket-1"})
    (decision,) = on_topic(system, "llm-decisions", {"ticket-1"})
    assert (call["project"], call["app"], call["input_tokens"], call["status"]) == ("shop", "web", 12, "OK")
    assert (feedback["kind"], feedback["value"]) == ("user.thumb", 1.0)
    assert call["decision_id"] == decision["event_id"]
    assert (call["variant"], call["propensity"]) == (decision["arm"], decision["propensity"])


def test_a_decision_made_without_a_router_reaches_the_log_when_it_is_back(system: Runtime, tmp_path: Path) -> None:
    client = client_of(system, tmp_path)
    system.kill("router")
    decision = client.decide("support", request_id="without-router", default_arm="strong", user="ann")
    assert (decision.arm, decision.reason) == ("strong", "router_away")
    system.restart("router")
    client.close(0.5)  # the router's port may be another now: what waits is the next client's to send
    with client_of(system, tmp_path) as again:
        assert again.flush(30)
    (event,) = on_topic(system, "llm-decisions", {"without-router"})
    assert (event["event_id"], event["arm"], event["fallback"], event["decider"]) == (
        decision.decision_id, "strong", True, "client",
    )  # fmt: skip


def test_ingest_down_then_up_loses_nothing_and_doubles_nothing(system: Runtime, tmp_path: Path) -> None:
    sent: set[str] = set()

    def report(client: Flywheel, first: int, count: int) -> None:
        for number in range(first, first + count):
            request_id = f"outage-{number}"
            with client.call("support", request_id=request_id, model="openai/gpt-4o") as call:
                call.usage(input_tokens=10, output_tokens=2)
            client.feedback(request_id, "user.thumb", 1.0)
            sent.add(request_id)

    client = client_of(system, tmp_path, buffer_events=100, batch_events=50)
    report(client, 0, 200)
    system.kill("ingest")
    report(client, 200, 300)
    time.sleep(0.5)
    stats = client.stats()["ingest"]
    assert stats.spilled > 0
    assert stats.dropped == 0
    client.close(0.2)
    system.restart("ingest")
    with client_of(system, tmp_path) as next_one:
        report(next_one, 500, 100)
        assert next_one.flush(60)
        assert next_one.stats()["ingest"].rejected == 0
    for topic in ("llm-calls", "llm-feedback"):
        events = on_topic(system, topic, sent)
        by_id = Counter(event["event_id"] for event in events)
        assert len(by_id) == len(sent) == 600
        assert {event["request_id"] for event in events} == sent
