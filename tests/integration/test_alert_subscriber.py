"""Alerts on a real broker as a subscriber sees them: the program of the notifier's page as written, people's words, and
silences said, listed and lifted by the command."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flywheel.cli.alert_words import Word, say
from flywheel.cli.main import cli
from flywheel.events import Codec, LocalRegistry, event_id, topics
from flywheel.incident import Episode
from flywheel.local.topic_admin import create_topics
from flywheel.stream import KafkaBus, Output, Publisher

pytest_plugins = ["flywheel.local.fixtures"]
pytestmark = pytest.mark.broker
PAGE = Path(__file__).parents[2] / "services/notifier/README.md"
PATIENCE_S = 240.0


def report(state: str, severity: str) -> Output:
    at_us = time.time_ns() // 1000
    value = {
        "event_id": event_id("alert", state, severity, at_us), "alert_id": "e", "project": "acme", "occurred_at": at_us,
        "kind": "error_rate", "severity": severity, "state": state, "subject": "acme/answers", "title": "errors",
    }  # fmt: skip
    return Output("alerts", "acme/answers", "alert", value)


async def printed(process: asyncio.subprocess.Process, lines: int) -> list[str]:
    """So many lines of what a process prints."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        return [(await process.stdout.readline()).decode().strip() for _ in range(lines)]


async def test_the_subscriber_of_the_page_prints_every_change(private_kafka: Callable[..., Any]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip() and not line.startswith(("#", "import"))]) <= 15
    bootstrap = private_kafka().bootstrap
    await create_topics(bootstrap, topics().values())
    publisher = Publisher(KafkaBus(bootstrap), Codec(LocalRegistry.load()), source="test")
    await publisher.start()
    await publisher.publish([report("firing", "warning"), report("firing", "warning"), report("firing", "critical")])
    now_us = time.time_ns() // 1000
    seen = Episode("acme", "e", now_us, now_us, None, "error_rate", "critical", subject="acme/answers", title="errors")
    await say(bootstrap, [seen], Word("acknowledged", "ana", "on it"))
    await publisher.publish([report("resolved", "critical")])
    await publisher.stop()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, bootstrap, "mine", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert await printed(process, 4) == [
            "firing | warning | errors |", "firing | critical | errors |", "acknowledged | critical | errors | ana",
            "resolved | critical | errors |",
        ]  # fmt: skip
    finally:
        process.kill()
        await process.wait()
    await asyncio.to_thread(silences_by_the_command, bootstrap)


def silences_by_the_command(bootstrap: str) -> None:
    def flywheel(*arguments: str) -> Any:
        answer = CliRunner().invoke(cli, ["alerts", *arguments, "--kafka", bootstrap, "--json"], prog_name="flywheel")
        assert answer.exit_code == 0, answer.output
        return json.loads(answer.stdout)

    said = flywheel("silence", "--feature", "answers", "--until", "2h", "--reason", "moving", "--by", "ana")
    assert (said["state"], said["features"], said["by"]) == ("holds", ["answers"], "ana")
    later = flywheel("silence", "--all", "--from", "1h", "--until", "2h", "--reason", "test", "--project", "other")
    assert {each["silence_id"]: each["state"] for each in flywheel("silences")} == {
        said["silence_id"]: "holds", later["silence_id"]: "to come",
    }  # fmt: skip
    lifted = flywheel("unsilence", said["silence_id"][:12], "--by", "bo")
    assert (lifted["state"], lifted["by"], lifted["reason"]) == ("lifted", "bo", "moving")
    assert [each["silence_id"] for each in flywheel("silences")] == [later["silence_id"]]
    assert len(flywheel("silences", "--all")) == 2
