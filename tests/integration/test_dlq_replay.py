"""Dead letters put back on a real broker under the real runner: once, however often replay is run or killed."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flywheel.cli.dead_letters import ACTIONS
from flywheel.cli.main import cli
from flywheel.events import Codec, LocalRegistry, headers
from flywheel.events import topics as declared_topics
from flywheel.events.examples import examples
from flywheel.local.topic_admin import create_topics
from flywheel.observe import Health, Metrics
from flywheel.stream import (
    Event,
    FoldResult,
    KafkaBus,
    Outgoing,
    RawRecord,
    Reject,
    Runner,
    RunnerSettings,
    ShardState,
    StateView,
)
from flywheel.stream.records import SEQUENCE, SOURCE

pytest_plugins = ["flywheel.local.fixtures"]
pytestmark = pytest.mark.broker
codec = Codec(LocalRegistry.load())
THUMB = examples("feedback")["thumb-up"]
KILLED_BEFORE_THE_NOTE = """
import os, signal, sys
from flywheel.cli import dead_letters
from flywheel.cli.main import cli
async def killed(*_): os.kill(os.getpid(), signal.SIGKILL)
dead_letters._note = killed
cli(["dlq", "replay", *sys.argv[2:], "--kafka", sys.argv[1]])
"""


class CountAcceptable:
    """Counts what it takes, without looking at event ids: a record taken twice shows. An old version refuses some."""

    def __init__(self, refused: Sequence[str]) -> None:
        self._refused = refused

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
        verdicts = {}
        for index, event in enumerate(events):
            request = event.value["request_id"]
            if request in self._refused:
                verdicts[index] = Reject("unsupported", "request_id", f"{request} is not for version 1")
                continue
            count = int(state.get("counts", request) or b"0") + 1
            state.put("counts", request, str(count).encode())
        return FoldResult([], verdicts)


@pytest.fixture
async def bootstrap(private_kafka: Callable[..., Any]) -> str:
    node = private_kafka()
    await create_topics(node.bootstrap, declared_topics().values())
    return str(node.bootstrap)


async def feed(bootstrap: str, requests: Sequence[str]) -> None:
    """Feedback as another step emits it: with a lineage, whose numbers the runner remembers."""
    producer = KafkaBus(bootstrap).producer()
    await producer.start()
    records = []
    for number, request in enumerate(requests):
        value = THUMB | {"request_id": request, "event_id": f"e-{request}"}
        envelope = headers(event="feedback", event_id=f"e-{request}", source="test")
        envelope += [(SOURCE, b"upstream/0/x"), (SEQUENCE, b"%d" % number)]
        records.append(Outgoing("llm-feedback", request.encode(), codec.encode("feedback", value), envelope))
    await producer.send_many(records)
    await producer.stop()


@asynccontextmanager
async def version(bootstrap: str, state_dir: Path, number: int, refused: Sequence[str]) -> AsyncIterator[None]:
    runner = Runner(
        service="counter",
        service_version=str(number),
        bus=KafkaBus(bootstrap),
        codec=codec,
        step=CountAcceptable(refused),
        topics=["llm-feedback"],
        group=f"group-{number}",
        name="counter",
        state_dir=state_dir,
        metrics=Metrics(),
        health=Health(),
        settings=RunnerSettings(commit_every_s=0.1),
    )
    running = asyncio.create_task(runner.run())
    try:
        yield
    finally:
        await runner.stop()
        async with asyncio.timeout(120):
            await running


async def records_of(bootstrap: str, topic: str) -> list[RawRecord]:
    consumer = KafkaBus(bootstrap).consumer(topics=[topic], group=None)
    await consumer.start()
    ends = await consumer.end_offsets(sorted(consumer.assignment()))
    found: list[RawRecord] = []
    async with asyncio.timeout(120):
        while len(found) < sum(ends.values()):
            for records in (await consumer.poll(max_records=500, timeout_ms=100)).values():
                found += records
    await consumer.stop()
    return found


async def until_read(bootstrap: str, state_dir: Path) -> None:
    """Until the states stand at the end of the topic."""
    total = len(await records_of(bootstrap, "llm-feedback"))
    async with asyncio.timeout(120):
        while sum(sum(s.values()) for s in offsets(state_dir)) < total:
            await asyncio.sleep(0.1)


def offsets(state_dir: Path) -> list[dict[Any, int]]:
    found = []
    for path in (state_dir / "counter").glob("*.sqlite"):
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            found.append({"all": db.execute("SELECT coalesce(sum(next), 0) FROM offsets").fetchone()[0]})
        except sqlite3.OperationalError:  # somebody is making the tables
            pass
        finally:
            db.close()
    return found


def counts(state_dir: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for path in (state_dir / "counter").glob("*.sqlite"):
        found |= {key: int(value) for key, value in ShardState(path).view().scan("counts")}
    return found


async def flywheel(bootstrap: str, *arguments: str, code: int = 0) -> Any:
    """What the command answers, run in a thread, as it has an event loop of its own."""
    words = ["dlq", *arguments, "--kafka", bootstrap, "--json"]
    ended = await asyncio.to_thread(CliRunner().invoke, cli, words)
    assert ended.exit_code == code, ended.output
    return json.loads(ended.stdout)


async def test_what_an_old_version_refused_is_taken_once_after_a_replay_also_when_it_is_killed(
    bootstrap: str, tmp_path: Path
) -> None:
    requests = [f"r{i}" for i in range(12)]
    await feed(bootstrap, requests)
    async with version(bootstrap, tmp_path, 1, refused=["r3", "r7"]):
        await until_read(bootstrap, tmp_path)
    listed = await flywheel(bootstrap, "list")
    assert [(g["reason"], g["letters"], g["open"]) for g in listed["groups"]] == [("unsupported", 2, 2)]
    ids = [letter["id"] for letter in listed["newest"]]
    dry = await flywheel(bootstrap, "replay", "--topic", "llm-feedback", "--dry-run")
    assert [m["action"] for m in dry["moves"]] == ["send", "send"]
    assert len(await records_of(bootstrap, "llm-feedback")) == 12

    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED_BEFORE_THE_NOTE, bootstrap, *ids)
    assert await killed.wait() == -signal.SIGKILL
    assert len(await records_of(bootstrap, "llm-feedback")) == 13

    async with version(bootstrap, tmp_path, 2, refused=[]):
        again = await flywheel(bootstrap, "replay", *ids)
        assert [(m["action"], m["replays"]) for m in again["moves"]] == [("send", 1), ("send", 1)]
        assert (await flywheel(bootstrap, "replay", *ids))["moves"] == [], "a second run finds nothing open"
        await until_read(bootstrap, tmp_path)
    assert len(await records_of(bootstrap, "llm-feedback")) == 15, "one of them went out twice"
    assert counts(tmp_path) == dict.fromkeys(requests, 1)
    states = {s["id"]: (s["state"], s["replays"]) for s in (await flywheel(bootstrap, "list"))["newest"]}
    assert states == dict.fromkeys(ids, ("replayed", 1))


async def test_a_refusal_after_a_replay_counts_on_until_it_is_enough(bootstrap: str, tmp_path: Path) -> None:
    await feed(bootstrap, ["r0", "bad"])
    async with version(bootstrap, tmp_path, 1, refused=["bad"]):
        await until_read(bootstrap, tmp_path)
        for replays in (1, 2):
            done = await flywheel(bootstrap, "replay", "--topic", "llm-feedback", "--policy", "reinsert", "--max", "2")
            assert [(m["action"], m["replays"]) for m in done["moves"]] == [("send", replays)]
            async with asyncio.timeout(120):
                while len(await records_of(bootstrap, "llm-feedback.dlq")) < replays + 1:
                    await asyncio.sleep(0.1)
    halted = await flywheel(bootstrap, "replay", "--topic", "llm-feedback", code=1)
    assert [m["action"] for m in halted["moves"]] == ["halt"]
    enough = ["replay", "--topic", "llm-feedback", "--policy", "reinsert", "--max", "2"]
    assert [m["action"] for m in (await flywheel(bootstrap, *enough, code=1))["moves"]] == ["leave"]
    listed = (await flywheel(bootstrap, "list"))["newest"]
    assert sorted((s["state"], s["replays"]) for s in listed) == [
        ("open", 2),
        ("refused again", 2),
        ("refused again", 2),
    ]
    dropped = await flywheel(bootstrap, "drop", "--topic", "llm-feedback", "--yes")
    assert [m["action"] for m in dropped["moves"]] == ["drop"]
    assert (await flywheel(bootstrap, "replay", "--topic", "llm-feedback"))["moves"] == []
    assert len(await records_of(bootstrap, ACTIONS)) == 3
    assert counts(tmp_path) == {"r0": 1}


async def test_show_hides_what_people_wrote(bootstrap: str, tmp_path: Path) -> None:
    value = THUMB | {"request_id": "bad", "event_id": "e", "comment": "my secret"}
    producer = KafkaBus(bootstrap).producer()
    await producer.start()
    await producer.send_many([Outgoing("llm-feedback", b"bad", codec.encode("feedback", value))])
    await producer.send_many([Outgoing("llm-feedback", b"junk", b"my secret, not framed")])
    await producer.stop()
    async with version(bootstrap, tmp_path, 1, refused=["bad"]):
        await until_read(bootstrap, tmp_path)
    letters = {s["reason"]: s["id"] for s in (await flywheel(bootstrap, "list"))["newest"]}
    for reason in ("unsupported", "undecodable"):
        hidden, clear = [await flywheel(bootstrap, "show", letters[reason], *extra) for extra in ((), ("--content",))]
        assert "my secret" not in json.dumps(hidden) and b"my secret".hex() not in json.dumps(hidden)
        assert "my secret" in json.dumps(clear)
    assert hidden["preview"]["bytes"] == 21
    for words, told in ((["list"], "unsupported"), (["replay", "--reason", "undecodable", "--dry-run"], "send")):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "flywheel.cli", "dlq", *words, "--kafka", bootstrap, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0 and told in out.decode() and letters["undecodable"] in out.decode()
