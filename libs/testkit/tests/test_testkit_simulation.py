"""The simulation's loop and broker: time is a number, a killed process runs no line more, a network loses answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from flywheel.stream import Outgoing, TopicPartition, Unavailable
from flywheel.testkit.simulation import Broker, Process, SimulationLoop, Stuck, Weather


def simulate(main: Callable[[SimulationLoop], Coroutine[Any, Any, Any]], seed: int = 1) -> Any:
    loop = SimulationLoop(Random(seed))
    with contextlib.closing(loop):
        return loop.run_until_complete(main(loop))


def test_a_day_takes_no_time() -> None:
    async def day(loop: SimulationLoop) -> float:
        await asyncio.sleep(86_400.0)
        return loop.time()

    assert simulate(day) == pytest.approx(86_400.0)


def test_waiting_for_nobody_is_an_error_not_a_hang() -> None:
    async def forever(loop: SimulationLoop) -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck):
        simulate(forever)


def test_a_killed_process_does_not_even_clean_up() -> None:
    done: list[str] = []

    async def work() -> None:
        try:
            for number in range(10):
                done.append(f"step {number}")
                await asyncio.sleep(1.0)
        finally:
            done.append("cleaned up")

    async def story(loop: SimulationLoop) -> list[str]:
        process = Process("worker")
        loop.spawn(process, work())
        await asyncio.sleep(2.5)
        process.kill()
        await asyncio.sleep(100.0)
        seen = list(done)
        await loop.bury(process)
        return seen

    assert simulate(story) == ["step 0", "step 1", "step 2"]


@pytest.mark.parametrize("at", range(1, 6))
def test_a_process_dies_instead_of_its_nth_step(at: int) -> None:
    async def story(loop: SimulationLoop) -> tuple[int, bool]:
        steps = 0

        async def work() -> None:
            nonlocal steps
            while True:
                steps += 1
                await asyncio.sleep(0)

        process = Process("worker", dies_at=at)
        loop.spawn(process, work())
        await asyncio.sleep(1.0)
        seen = steps
        await loop.bury(process)
        return seen, process.alive

    assert simulate(story) == (at - 1, False)


def test_a_frozen_process_goes_on_where_it_stood() -> None:
    times: list[float] = []

    async def story(loop: SimulationLoop) -> None:
        async def work() -> None:
            for _ in range(4):
                times.append(loop.time())
                await asyncio.sleep(1.0)

        process = Process("worker")
        task = loop.spawn(process, work())
        await asyncio.sleep(1.5)
        process.frozen = True
        await asyncio.sleep(10.0)
        process.thaw(loop)
        await task

    simulate(story)
    assert times == pytest.approx([0.0, 1.0, 11.5, 12.5])


def test_threads_run_on_the_loop() -> None:
    async def story(loop: SimulationLoop) -> int:
        return await asyncio.to_thread(lambda: 6 * 7)

    assert simulate(story) == 42


RECORDS = [Outgoing("t", b"k", b"%d" % n) for n in range(5)]


@pytest.mark.parametrize(
    ("weather", "arrives"), [(Weather(answer_lost=1.0), {5}), (Weather(request_lost=1.0), set(range(11)))]
)
def test_a_send_that_failed_may_have_arrived(weather: Weather, arrives: set[int]) -> None:
    async def story(loop: SimulationLoop) -> int:
        broker = Broker(loop, Random(3), partitions=1, start_ms=0)
        broker.weather = weather
        sender = broker.client(Process("sender")).producer()
        with pytest.raises(Unavailable):
            await sender.send_many(RECORDS)
        await asyncio.sleep(10.0)
        return len(broker.logs.records("t"))

    assert simulate(story) in arrives


class Listener:
    """Notes what it is given."""

    def __init__(self) -> None:
        self.held: set[TopicPartition] = set()

    async def assigned(self, partitions: list[TopicPartition]) -> None:
        self.held |= set(partitions)

    async def revoked(self, partitions: list[TopicPartition]) -> None:
        self.held -= set(partitions)


def test_a_group_shares_partitions_and_gives_those_of_the_dead_away() -> None:
    async def story(loop: SimulationLoop) -> list[int]:
        broker = Broker(loop, Random(3), partitions=4, start_ms=0)
        processes = [Process(f"p{n}", died=broker.end_session) for n in range(2)]
        listeners = [Listener(), Listener()]

        async def member(process: Process, listener: Listener) -> None:
            consumer = broker.client(process).consumer(topics=["t"], group="g", listener=listener)  # type: ignore[arg-type]
            await consumer.start()
            while True:
                await consumer.poll(max_records=10, timeout_ms=500)

        for process, listener in zip(processes, listeners, strict=True):
            loop.spawn(process, member(process, listener))
        await asyncio.sleep(20.0)
        counts = [len(listener.held) for listener in listeners]
        processes[0].kill()
        await asyncio.sleep(30.0)
        counts.append(len(listeners[1].held))
        for process in processes:
            process.kill()
            await loop.bury(process)
        return counts

    assert simulate(story) == [2, 2, 4]
