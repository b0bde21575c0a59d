"""Which silence ends a process, and which does not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

import pytest

from flywheel.events import Codec, LocalRegistry
from flywheel.events.examples import examples
from flywheel.observe import Health, Metrics
from flywheel.stream import (
    MemoryBus,
    Outgoing,
    RawRecord,
    Reject,
    Runner,
    RunnerSettings,
    Skip,
    TopicPartition,
    Unavailable,
    watch,
)
from flywheel.stream.stuck import StuckDetector

codec = Codec(LocalRegistry.load())
SETTINGS = RunnerSettings(poll_ms=5, backoff_s=0.001, backoff_max_s=0.002, stuck_after_s=0.4)


class Store:
    """A store that takes its time, and is away or never answers."""

    raw = True

    def __init__(self, *, answers: bool) -> None:
        self.answers, self.asked = answers, 0

    async def positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def write(self, batch: Sequence[RawRecord]) -> Mapping[int, Reject | Skip]:
        self.asked += 1
        if not self.answers:
            await asyncio.Event().wait()
        await asyncio.sleep(0.05)
        raise Unavailable("the store is away")


async def ends(store: Store, monkeypatch: pytest.MonkeyPatch, *, asked: int) -> list[str]:
    """Why a runner over this store would have ended its process, until the store was asked so often."""
    ended: list[str] = []
    monkeypatch.setattr(watch, "dump_and_exit", ended.append)
    bus = MemoryBus()
    bus.append(Outgoing("llm-feedback", b"r", codec.encode("feedback", examples("feedback")["thumb-up"])))
    runner = Runner(
        service="echo", service_version="1", bus=bus, codec=codec, group="echo", state_dir=None, step=store,
        topics=["llm-feedback"], metrics=Metrics(), health=Health(), settings=SETTINGS,
    )  # fmt: skip
    task = asyncio.create_task(runner.run())
    async with asyncio.timeout(120):
        while not ended and store.asked < asked:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return ended


async def test_one_that_tries_again_and_says_why_is_not_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(answers=True)
    assert await ends(store, monkeypatch, asked=40) == [], "40 tries are 2 seconds: five times what silence may last"


async def test_one_whose_store_never_answers_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(answers=False)
    [why, *_] = await ends(store, monkeypatch, asked=40)
    assert (why, store.asked) == ("1 records wait, none finished in 0.4 s", 1)


def test_silence_of_the_event_loop_is_noticed_from_outside() -> None:
    heard, told = [], threading.Event()
    detector = StuckDetector(0.2, on_stuck=lambda why: (heard.append(why), told.set()))
    detector.start()
    assert told.wait(10)
    assert "has not turned" in heard[0]


def test_a_stuck_process_says_where_it_stands_and_exits_1() -> None:
    code = (
        "import asyncio, time\n"
        "from flywheel.stream.stuck import StuckDetector\n"
        "def here_it_hangs(): time.sleep(60)\n"
        "async def main():\n"
        "    StuckDetector(0.3).start()\n"
        "    here_it_hangs()\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert "here_it_hangs" in ended.stderr
