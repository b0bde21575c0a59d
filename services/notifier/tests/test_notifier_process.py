"""The service as wired, on the in-memory bus, with web servers that really listen, go away and come back."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from flywheel.control import Silence
from flywheel.events import topics
from flywheel.observe import Health, Metrics, load_settings
from flywheel.stream import Fatal, MemoryBus, Output, Publisher
from flywheel_notifier.core.destinations import Destination
from flywheel_notifier.notebook import Notebook
from flywheel_notifier.settings import NotifierSettings
from flywheel_notifier.sink import INPUTS
from flywheel_notifier.wiring import runner_specs, send

_spec = importlib.util.spec_from_file_location("notifier_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)
report, Receiver = parts.report, parts.Receiver


def hook(name: str, url: str, **more: Any) -> Destination:
    return Destination(name=name, kind="webhook", url=SecretStr(url), **more)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(240):
        while not holds():
            await asyncio.sleep(0.02)


class System:
    """A broker in memory and a notifier on it that can be stopped and started."""

    def __init__(self, folder: Path, *destinations: Destination, **settings: Any) -> None:
        self.bus = MemoryBus(lambda: time.time_ns() // 1_000_000)
        self.destinations: Mapping[str, Destination] = {each.name: each for each in destinations}
        fast = {"tick_s": 0.02, "wait_s": 0.0, "settle_s": 0.0, "poll_ms": 5} | settings
        self.settings = load_settings(NotifierSettings, state_dir=folder, **fast)
        self.metrics = Metrics()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.metrics, stop = Metrics(), asyncio.Event()
        service = asyncio.create_task(
            send(self.settings, self.bus, self.metrics, Health(), stop, destinations=self.destinations)
        )
        try:
            yield
        finally:
            stop.set()
            await service

    async def say(self, *values: dict[str, Any], event: str = "alert") -> None:
        publisher = Publisher(self.bus, parts.CODEC, source="test")
        await publisher.start()
        topic = {"alert": "alerts", "silence": "silences"}[event]
        await publisher.publish([Output(topic, value.get("subject", "k"), event, value) for value in values])
        await publisher.stop()

    def count(self, destination: str, outcome: str) -> float:
        return self.metrics.value_if_used("notifications_total", destination=destination, outcome=outcome) or 0.0


async def test_what_fires_is_posted_and_what_waits_survives_both_sides_going_away(
    tmp_path: Path, receiver: Any
) -> None:
    system = System(tmp_path, hook("on-call", receiver.url + "/hook"))
    async with system.running():
        await system.say(report("a", 0), report("b", 0, scope={"feature": "other"}))
        await until(lambda: sorted(receiver.alerts()) == [("firing", "a"), ("firing", "b")])
        assert {got.path for got in receiver.received} == {"/hook"}
        receiver.answers = [(503, {"retry-after": "0"})] * 3
        await system.say(report("a", 60, "resolved"))
        await until(lambda: len(receiver.alerts()) == 3)
        assert receiver.alerts()[2] == ("resolved", "a")
        assert {got.key for got in receiver.refused} == {receiver.received[-1].key}, "each try had the same key"
        assert len({got.raw for got in [*receiver.refused, receiver.received[-1]]}) == 1
        receiver.answers = [(503, {"retry-after": "600"})] * 50
        await system.say(report("c", 60, severity="critical"))
        await until(lambda: system.count("on-call", "failed") >= 4)
        failed = receiver.refused[-1].key
    receiver.answers = []
    async with system.running():  # another process over the same notebook
        await until(lambda: ("firing", "c") in receiver.alerts())
    assert receiver.received[-1].key == failed
    assert len(receiver.alerts()) == 4, "what was told is not told again"


async def test_a_destination_that_is_down_holds_up_nobody_and_hears_the_rest_later(
    tmp_path: Path, receiver: Any
) -> None:
    away, dead = Receiver(), parts.listen(Receiver())
    port = dead.server_address[1]
    dead.shutdown()
    dead.server_close()
    system = System(tmp_path, hook("up", receiver.url), hook("down", f"http://127.0.0.1:{port}"), most_waiting=2)
    names = [f"a{number}" for number in range(6)]
    async with system.running():
        await system.say(*(report(name, 0, scope={"feature": name}) for name in names))
        await until(lambda: len(receiver.alerts()) == 6 and system.count("down", "failed") >= 1)
        assert system.metrics.value("notifications_waiting", destination="down") == 2, "no more wait than may"
        assert system.metrics.value("dependency_up", dependency="down") == 0
    server = parts.listen(away, port)
    try:
        async with system.running():
            await until(lambda: len(away.alerts()) == 6)
    finally:
        server.shutdown()
        server.server_close()
    assert sorted(away.alerts()) == [("firing", name) for name in names]
    assert len({got.key for got in away.received}) == len(away.received)


async def test_what_is_not_taken_is_made_anew_from_how_things_stand(tmp_path: Path, receiver: Any) -> None:
    receiver.answers = [(400, {})]
    system = System(tmp_path, hook("picky", receiver.url), give_up_s=0.01)
    async with system.running():
        await system.say(report("a", 0))
        await until(lambda: receiver.alerts() == [("firing", "a")])
        assert system.count("picky", "refused") == 1 and system.count("picky", "given_up") == 1
    assert receiver.refused[0].key == receiver.received[0].key


async def test_what_a_destination_refuses_holds_up_nothing_else(tmp_path: Path, receiver: Any) -> None:
    system = System(tmp_path, hook("picky", receiver.url))
    await system.say(report("bad", 0, severity="critical"), report("good", 0, scope={"feature": "other"}))
    receiver.answers = [(400, {})]
    async with system.running():
        await until(lambda: len(receiver.alerts()) == 2)
    assert receiver.alerts() == [("firing", "good"), ("firing", "bad")]
    assert (system.count("picky", "refused"), system.count("picky", "failed")) == (1, 0)


async def test_a_silence_keeps_quiet_and_what_cannot_be_read_is_a_dead_letter(tmp_path: Path, receiver: Any) -> None:
    system = System(tmp_path, hook("on-call", receiver.url))
    now_us = time.time_ns() // 1000
    quiet = Silence("acme", "w", 1, now_us, now_us - 10**6, now_us + 10**12, "ana", "moving", features=("quiet",))
    await system.say(quiet.event(), quiet.event() | {"silence_id": "x", "ends_at": 0}, event="silence")
    await system.say(report("hidden", 0, scope={"feature": "quiet"}), report("odd", 0) | {"state": "odd"})
    async with system.running():
        await system.say(report("seen", 0))
        await until(lambda: receiver.alerts() == [("firing", "seen")])
        lifted = quiet.event() | {"revision": 2, "lifted": True, "occurred_at": now_us}
        await system.say(lifted, event="silence")
        await until(lambda: len(receiver.alerts()) == 2)
    assert receiver.alerts()[1] == ("firing", "hidden")
    letters = [parts.CODEC.decode(r.value).value for t in INPUTS for r in system.bus.records(f"{t}.dlq")]
    assert sorted((each["reason"], each["field"]) for each in letters) == [
        ("out_of_range", "state"), ("silence_invalid", "ends_at"),
    ]  # fmt: skip


async def test_what_was_over_before_the_first_start_is_not_told(tmp_path: Path, receiver: Any) -> None:
    system = System(tmp_path, hook("on-call", receiver.url))
    await system.say(report("old", 0), report("old", 60, "resolved"), report("still", 0))
    await asyncio.sleep(0.05)
    async with system.running():
        await until(lambda: receiver.alerts() == [("firing", "still")])
        await system.say(report("new", 90, scope={"feature": "n"}))
        await until(lambda: len(receiver.alerts()) == 2)
    assert receiver.alerts()[1] == ("firing", "new")


def test_one_process_has_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Notebook(tmp_path / "n.sqlite", 1)
    import flywheel_notifier.notebook as module

    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    with pytest.raises(Fatal, match="another notifier has it"):
        Notebook(tmp_path / "n.sqlite", 2)
    first.close()
    again = Notebook(tmp_path / "n.sqlite", 3)
    assert again.since_us == 1
    again.close()


def test_the_topics_read_are_those_declared() -> None:
    assert {name for name, topic in topics().items() if "notifier" in topic.consumers} == set(INPUTS)
    assert [spec.name for spec in runner_specs()] == ["notifier"]
