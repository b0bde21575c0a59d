"""Members that are killed or frozen in the middle of a batch, on a real broker; then everything is counted."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from flywheel.events import Codec, LocalRegistry
from flywheel.events import topics as declared_topics
from flywheel.events.examples import examples
from flywheel.local.topic_admin import create_topics
from flywheel.stream import KafkaBus, Output, Publisher, ShardState
from flywheel.stream.shard import Identity, Shard
from flywheel.testkit.draining import read_partitions

pytest_plugins = ["flywheel.local.fixtures"]
codec = Codec(LocalRegistry.load())
THUMB = examples("feedback")["thumb-up"]
REQUESTS, ROUNDS = 150, 40
MEMBER = Path(__file__).with_name("runner_member.py")


@pytest.fixture
async def bus(private_kafka: Callable[..., object]) -> KafkaBus:
    node = private_kafka()
    await create_topics(node.bootstrap, declared_topics().values())  # type: ignore[attr-defined]
    return KafkaBus(node.bootstrap)  # type: ignore[attr-defined]


def bootstrap_of(bus: KafkaBus) -> str:
    return str(bus._common["bootstrap_servers"])


async def feed(bus: KafkaBus) -> None:
    """Each request's feedback, round after round, a little at a time."""
    publisher = Publisher(bus, codec, source="test")
    await publisher.start()
    for number in range(ROUNDS):
        values = [THUMB | {"request_id": f"r{i}", "event_id": f"e{number}-{i}"} for i in range(REQUESTS)]
        await publisher.publish([Output("llm-feedback", v["request_id"], "feedback", v) for v in values])
        await asyncio.sleep(0.1)
    await publisher.stop()


@asynccontextmanager
async def member(
    bus: KafkaBus, group: str, state_dir: Path, *, faults: str = ""
) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = os.environ | ({"FLYWHEEL_TESTING": "1", "FLYWHEEL_FAULTS": faults} if faults else {})
    process = await asyncio.create_subprocess_exec(
        sys.executable, MEMBER, bootstrap_of(bus), group, state_dir, env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            async with asyncio.timeout(120):
                await process.wait()


def folded(state_dir: Path) -> int:
    """How many records the states on disk stand for, read beside whoever has them open."""
    done = 0
    for path in (state_dir / "counter").glob("*.sqlite"):
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        with suppress(sqlite3.OperationalError):  # somebody is making the tables
            (read,) = db.execute("SELECT coalesce(sum(next), 0) FROM offsets").fetchone()
            (unsent,) = db.execute("SELECT count(*) FROM outbox").fetchone()
            done += read - (unsent > 0)
        db.close()
    return done


async def until_all_is_folded(state_dir: Path, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while folded(state_dir) < REQUESTS * ROUNDS:
            await asyncio.sleep(0.1)


def writing(state_dir: Path) -> bool:
    """Whether somebody is in the middle of a write to one of the states: who froze there holds its lock."""
    for path in (state_dir / "counter").glob("*.sqlite"):
        db = sqlite3.connect(path, isolation_level=None, timeout=0.0)
        try:
            db.execute("BEGIN IMMEDIATE")
            db.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return True
        finally:
            db.close()
    return False


async def reconcile(bus: KafkaBus, state_dir: Path) -> int:
    """Nothing lost, nothing doubled, in the states and in what a reader with marks takes; returns the repeats met."""
    counts: dict[str, int] = {}
    for path in (state_dir / "counter").glob("*.sqlite"):
        counts |= {key: int(value) for key, value in ShardState(path).view().scan("counts")}
    assert counts == {f"r{i}": ROUNDS for i in range(REQUESTS)}
    taken: Counter[str] = Counter()
    repeats = 0
    for partition, records in (await read_partitions(bootstrap_of(bus), "llm-evaluations")).items():
        reader = Shard(
            number=partition.partition, state=ShardState(None), codec=codec, identity=Identity("reader", "1")
        )
        batch = reader.sort({partition: records})
        taken.update(e.value["event_id"] for e in batch.events)
        repeats += batch.repeats.total()
    assert taken == Counter(f"r{i}-{n}" for i in range(REQUESTS) for n in range(1, ROUNDS + 1))
    return repeats


@pytest.mark.broker
async def test_a_member_killed_again_and_again_loses_and_doubles_nothing(bus: KafkaBus, tmp_path: Path) -> None:
    dice = random.Random(7)
    feeding = asyncio.create_task(feed(bus))
    kills = 0
    while kills < 6:
        # A group of its own each time: whoever restarts would else wait for the dead one's session to end.
        async with member(bus, f"group-{kills}", tmp_path) as process:
            before = folded(tmp_path) if kills else 0
            async with asyncio.timeout(120):
                while folded(tmp_path) <= before and not feeding.done():
                    await asyncio.sleep(0.02)
            await asyncio.sleep(dice.uniform(0.0, 0.3))
            assert process.returncode is None
            process.kill()
            await process.wait()
        kills += 1
    await feeding
    async with member(bus, "group-last", tmp_path):
        await until_all_is_folded(tmp_path, 90)
        await asyncio.sleep(0.5)
    await reconcile(bus, tmp_path)


@pytest.mark.broker
async def test_a_member_killed_at_every_place_of_a_batch_loses_and_doubles_nothing(
    bus: KafkaBus, tmp_path: Path
) -> None:
    feeding = asyncio.create_task(feed(bus))
    places = ("after_fetch", "before_state_commit", "after_state_commit", "mid_outbox", "before_offset_commit")
    for place in places:
        async with member(bus, f"group-{place}", tmp_path, faults=f"{place}:2=crash") as process:
            async with asyncio.timeout(120):
                assert await process.wait() == -signal.SIGKILL, place
    await feeding
    async with member(bus, "group-last", tmp_path):
        await until_all_is_folded(tmp_path, 90)
        await asyncio.sleep(0.5)
    assert await reconcile(bus, tmp_path) > 0, "what was sent before the kill at mid_outbox was sent again"


@pytest.mark.broker
async def test_a_member_that_froze_while_another_took_over_harms_nothing(bus: KafkaBus, tmp_path: Path) -> None:
    feeding = asyncio.create_task(feed(bus))
    async with member(bus, "group", tmp_path) as zombie:
        async with asyncio.timeout(120):
            while not (tmp_path / "counter").exists() or folded(tmp_path) == 0:
                await asyncio.sleep(0.02)
        zombie.send_signal(signal.SIGSTOP)
        while writing(tmp_path):  # whom it would keep waiting: `test_stream_trouble` shows that
            zombie.send_signal(signal.SIGCONT)
            await asyncio.sleep(0.01)
            zombie.send_signal(signal.SIGSTOP)
        async with member(bus, "group", tmp_path):
            await feeding
            await until_all_is_folded(tmp_path, 90)  # the group gave the frozen member's partitions away
            zombie.send_signal(signal.SIGCONT)
            await asyncio.sleep(3.0)  # it comes back with what it had in hand
            assert zombie.returncode is None, "it joins again instead of dying"
    await reconcile(bus, tmp_path)
