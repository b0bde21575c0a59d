"""What the runner does when something is wrong: with the input, the step, the log, the group or the process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from flywheel.events import Codec, LocalRegistry
from flywheel.events.examples import examples
from flywheel.observe import Health, Metrics
from flywheel.stream import (
    Event,
    Fatal,
    FoldResult,
    MemoryBus,
    Outgoing,
    Output,
    RawRecord,
    Reject,
    Runner,
    RunnerSettings,
    ShardState,
    StateView,
    TopicPartition,
    Unavailable,
    state_digest,
)
from flywheel.stream.breaker import Breaker
from flywheel.stream.kafka import partition_of
from flywheel.stream.memory import MemoryConsumer, MemoryProducer
from flywheel.stream.records import LETTER_BYTES, Lineage, dead_letter, frame
from flywheel.stream.shard import Identity, Shard

codec = Codec(LocalRegistry.load())
THUMB = examples("feedback")["thumb-up"]
SETTINGS = RunnerSettings(
    poll_ms=5, backoff_s=0.02, backoff_max_s=0.05, commit_every_s=0.02, breaker_records=5, breaker_wait_s=0.05
)
PARTITION = TopicPartition("llm-feedback", 0)


class Echo:
    """Says each feedback as an evaluation; raises at the label ``raise``."""

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
        outputs = []
        for event in events:
            state.put("seen", event.value["event_id"], b"")
            if event.value["label"] == "raise":
                raise ZeroDivisionError("absurd value")
            value = {"event_id": event.value["event_id"], "project": "p", "request_id": event.value["request_id"]}
            value |= {"occurred_at": 1, "evaluator": "echo"}
            outputs.append(Output("llm-evaluations", event.value["request_id"], "evaluation", value))
        return FoldResult(outputs)


def feedback(number: int, label: str = "fine") -> Outgoing:
    fields = {"request_id": "r", "event_id": f"e{number}", "label": label}
    return Outgoing("llm-feedback", b"r", codec.encode("feedback", THUMB | fields))


def runner_on(bus: Any, folder: Path | None, **more: Any) -> Runner:
    given = {"step": Echo(), "topics": ["llm-feedback"], "metrics": Metrics(), "health": Health(), "settings": SETTINGS}
    return Runner(
        service="echo", service_version="1", bus=bus, codec=codec, group="echo", state_dir=folder, **given | more
    )


@asynccontextmanager
async def running(bus: Any, folder: Path | None, **more: Any) -> AsyncIterator[Runner]:
    runner = runner_on(bus, folder, **more)
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        await runner.stop()
        await task


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not holds():
            await asyncio.sleep(0.01)


def values(bus: MemoryBus, topic: str) -> list[dict[str, Any]]:
    return [codec.decode(r.value or b"").value for r in bus.records(topic)]


async def test_an_event_at_which_the_step_raises_is_refused_and_its_neighbours_are_not(tmp_path: Path) -> None:
    bus = MemoryBus()
    for number in range(20):
        bus.append(feedback(number, "raise" if number in (3, 11) else "fine"))
    async with running(bus, tmp_path):
        await until(lambda: len(bus.records("llm-evaluations")) == 18)
    letters = values(bus, "llm-feedback.dlq")
    assert [(d["source_offset"], d["reason"], d["detail"]) for d in letters] == [
        (3, "step_failed", "ZeroDivisionError: absurd value"),
        (11, "step_failed", "ZeroDivisionError: absurd value"),
    ]
    [path] = [p for p in tmp_path.rglob("*.sqlite") if ShardState(p).offsets]
    kept = {key for key, _ in ShardState(path).view().scan("seen")}
    assert kept == {f"e{n}" for n in range(20)} - {"e3", "e11"}, "what the failing event had written is gone"


async def test_a_partition_of_nothing_but_poison_is_stopped_and_passes_garbage_that_ends(tmp_path: Path) -> None:
    bus, metrics = MemoryBus(), Metrics()
    for _ in range(8):
        bus.append(Outgoing("llm-feedback", b"r", b"junk"))
    slow = RunnerSettings(
        poll_ms=5, backoff_s=0.02, backoff_max_s=0.05, breaker_records=5, breaker_wait_s=0.3, max_records=2
    )
    async with running(bus, tmp_path, settings=slow, metrics=metrics):
        await until(lambda: len(bus.records("llm-feedback.dlq")) == 6)
        await asyncio.sleep(0.1)
        assert len(bus.records("llm-feedback.dlq")) == 6, "stopped after two polls over the limit's half"
        [number] = {r.partition for r in bus.records("llm-feedback")}
        assert metrics.value("stream_paused", topic="llm-feedback", partition=number) == 1
        bus.append(feedback(1))
        await until(lambda: len(bus.records("llm-evaluations")) == 1)
        for _ in range(4):
            bus.append(Outgoing("llm-feedback", b"r", b"junk"))
        await until(lambda: len(bus.records("llm-feedback.dlq")) == 12)


def test_the_breaker_counts_letters_in_a_row() -> None:
    breaker, other = Breaker(4), TopicPartition("llm-calls", 0)
    record = RawRecord("llm-feedback", 0, 0, 0, None, None)
    assert not breaker.saw(PARTITION, taken=3, bad=3)
    assert not breaker.saw(PARTITION, taken=2, bad=1), "one good record among them starts the count anew"
    assert not breaker.saw(PARTITION, taken=3, bad=3)
    assert breaker.saw(PARTITION, taken=1, bad=1)
    assert breaker.let_through({PARTITION: [record, record], other: [record]}) == {PARTITION: [record], other: [record]}
    assert breaker.saw(PARTITION, taken=0, bad=0), "nothing taken says nothing"
    breaker.forget(PARTITION)
    assert not breaker.is_open(PARTITION)
    never = Breaker(0)
    assert not never.saw(PARTITION, taken=10**6, bad=10**6)


async def test_a_state_that_another_process_opened_is_gone_on_with(tmp_path: Path) -> None:
    bus = MemoryBus()
    bus.append(feedback(0))
    async with running(bus, tmp_path):
        await until(lambda: len(bus.records("llm-evaluations")) == 1)
        [number] = {r.partition for r in bus.records("llm-feedback")}
        path = tmp_path / "echo" / f"{number}.sqlite"
        before = state_digest(path)  # looking does not take it away
        other = ShardState(path)
        view = other.view()
        view.put("seen", "theirs", b"")
        other.commit(view, offsets={}, marks={}, emitted=other.emitted, outbox=None)
        bus.append(feedback(1))
        await until(lambda: len(bus.records("llm-evaluations")) == 2)
        with pytest.raises(Exception, match="another owner"):
            other.commit(other.view(), offsets={}, marks={}, emitted=0, outbox=None)
    assert state_digest(path) != before
    assert {key for key, _ in ShardState(path).view().scan("seen")} == {"e0", "e1", "theirs"}


async def test_a_state_whose_owner_stands_still_in_a_write_is_waited_for_and_others_go_on(tmp_path: Path) -> None:
    bus = MemoryBus()
    bus.partitions_of("llm-feedback")
    bus.append(feedback(0))
    [number] = {r.partition for r in bus.records("llm-feedback")}
    path = tmp_path / "echo" / f"{number}.sqlite"
    ShardState(path).close()
    frozen = sqlite3.connect(path, isolation_level=None)
    frozen.execute("BEGIN IMMEDIATE")
    elsewhere = next(f"other-{n}" for n in range(100) if partition_of(f"other-{n}".encode(), 4) != number)
    fields = {"request_id": elsewhere, "event_id": "e1", "label": "fine"}
    bus.append(Outgoing("llm-feedback", elsewhere.encode(), codec.encode("feedback", THUMB | fields)))
    async with running(bus, tmp_path):
        await until(lambda: [v["event_id"] for v in values(bus, "llm-evaluations")] == ["e1"])
        await asyncio.sleep(0.1)
        assert len(bus.records("llm-evaluations")) == 1, "what is held waits"
        frozen.execute("ROLLBACK")
        await until(lambda: len(bus.records("llm-evaluations")) == 2)
        frozen.execute("BEGIN IMMEDIATE")  # the owner now meets a lock in the middle of its work
        bus.append(feedback(2))
        await asyncio.sleep(0.1)
        assert len(bus.records("llm-evaluations")) == 2
        frozen.execute("ROLLBACK")
        await until(lambda: len(bus.records("llm-evaluations")) == 3)
    frozen.close()


def test_a_state_that_is_no_database_is_said_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "0.sqlite"
    path.write_bytes(b"no database at all, but long enough to look like the head of one" * 20)
    with pytest.raises(Fatal, match=r"state cannot be opened: .*0\.sqlite"):
        ShardState(path)


async def test_a_topic_made_anew_under_a_state_is_said_not_skipped(tmp_path: Path) -> None:
    bus = MemoryBus()
    for number in range(3):
        bus.append(feedback(number))
    async with running(bus, tmp_path):
        await until(lambda: len(bus.records("llm-evaluations")) == 3)
    anew = MemoryBus()
    anew.append(feedback(7))
    with pytest.raises(Fatal, match=r"llm-feedback/\d ends at 1, but echo has read it up to 3"):
        async with asyncio.timeout(120):
            await runner_on(anew, tmp_path).run()


async def test_topics_whose_keys_would_not_meet_are_refused(tmp_path: Path) -> None:
    bus = MemoryBus(default_partitions=3)
    with pytest.raises(Fatal, match=r"not partitioned alike.*'llm-feedback': 4, 'other': 3"):
        await runner_on(bus, tmp_path, topics=["llm-feedback", "other"]).run()


class Aloof(MemoryBus):
    """A broker that is away for whoever names what is refused: joining, committing or asking for offsets."""

    def __init__(self, *away: str) -> None:
        super().__init__()
        self.away = set(away)

    def consumer(self, **given: Any) -> MemoryConsumer:
        bus = self

        class Consumer(MemoryConsumer):
            async def start(self) -> None:
                bus.needs("start")
                await super().start()

            async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
                bus.needs("commit")
                await super().commit(offsets)

            async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
                bus.needs("offsets")
                return await super().end_offsets(partitions)

        return Consumer(self, given["topics"], given["group"], given.get("listener"))

    def needs(self, what: str) -> None:
        if what in self.away:
            raise Unavailable(f"no answer to {what}", 0.0)


async def test_a_group_that_cannot_be_told_offsets_stops_nothing(tmp_path: Path) -> None:
    bus = Aloof("commit")
    async with running(bus, tmp_path):
        for number in range(3):
            bus.append(feedback(number))
            await until(lambda n=number: len(bus.records("llm-evaluations")) == n + 1)  # type: ignore[misc]
        assert bus.committed("echo") == {}
        bus.away.clear()
        await until(lambda: sum(bus.committed("echo").values()) == 3)


@pytest.mark.parametrize("away", ["start", "offsets"])
async def test_whoever_waits_for_the_broker_can_still_be_stopped(tmp_path: Path, away: str) -> None:
    bus, health = Aloof(away), Health()
    runner = runner_on(bus, tmp_path, health=health)
    task = asyncio.create_task(runner.run())
    await until(lambda: "echo" in health.ready_parts())
    assert not health.ready
    await runner.stop()
    await asyncio.wait_for(task, 120)


class Hanging(MemoryProducer):
    """Never acknowledges; what it holds when told to abandon it fails."""

    def __init__(self, bus: MemoryBus) -> None:
        super().__init__(bus)
        self.abandoned = asyncio.Event()

    async def send_many(self, records: Iterable[Outgoing]) -> None:
        await self.abandoned.wait()
        raise Unavailable("abandoned", 0.0)

    async def abandon(self) -> None:
        self.abandoned.set()


async def test_a_revoke_ends_within_its_deadline_and_abandons_what_is_still_being_sent(tmp_path: Path) -> None:
    bus = MemoryBus()
    producer = Hanging(bus)
    bus.producer = lambda: producer  # type: ignore[method-assign]
    bus.append(feedback(0))
    quick = RunnerSettings(poll_ms=5, backoff_s=0.02, backoff_max_s=0.05, revoke_within_s=0.2)
    async with running(bus, tmp_path, settings=quick) as runner:
        await until(lambda: any(s.unsent for s in runner._shards.values()))
        await asyncio.wait_for(runner.revoked([p for p in bus.partitions_of("llm-feedback")]), 120)
        assert producer.abandoned.is_set()
    assert bus.records("llm-evaluations") == []
    del bus.producer
    async with running(bus, tmp_path):
        await until(lambda: len(bus.records("llm-evaluations")) == 1)


class HangingOnce(MemoryProducer):
    """The first send neither ends nor lets itself be abandoned; the others are as usual."""

    def __init__(self, bus: MemoryBus) -> None:
        super().__init__(bus)
        self.hangs = asyncio.Event()
        self.released = asyncio.Event()

    async def send_many(self, records: Sequence[Outgoing]) -> None:
        if not self.hangs.is_set():
            self.hangs.set()
            await self.released.wait()
            raise Unavailable("too late", 0.0)
        await super().send_many(records)


async def test_a_shard_that_comes_back_does_not_wait_for_a_send_of_its_former_self(tmp_path: Path) -> None:
    bus = MemoryBus()
    producer = HangingOnce(bus)
    bus.producer = lambda: producer  # type: ignore[method-assign]
    bus.append(feedback(0))
    quick = RunnerSettings(poll_ms=5, backoff_s=0.02, backoff_max_s=0.05, revoke_within_s=0.1)
    async with running(bus, tmp_path, settings=quick) as runner:
        await asyncio.wait_for(producer.hangs.wait(), 120)
        partitions = bus.partitions_of("llm-feedback")
        await runner.revoked(partitions)
        await runner.assigned(partitions)
        await until(lambda: len(bus.records("llm-evaluations")) == 1)  # what was left in the outbox
        bus.append(feedback(1))
        await until(lambda: len(bus.records("llm-evaluations")) == 2)
        assert not producer.released.is_set()
        producer.released.set()


def test_a_mark_is_not_set_before_its_record_is_taken() -> None:
    shard = Shard(number=0, state=ShardState(None), codec=codec, identity=Identity("echo", "1"))
    emitted = frame(
        codec,
        Output(
            "llm-evaluations",
            "r",
            "evaluation",
            {"event_id": "x", "project": "p", "request_id": "r"} | {"occurred_at": 1, "evaluator": "e"},
        ),
        service="up",
        emitted=Lineage("up/0/a", 7),
    )
    unknown = RawRecord("llm-evaluations", 0, 0, 0, b"r", b"\x00\x00\x00\x99\x99later", emitted.headers)
    batch = shard.sort({TopicPartition("llm-evaluations", 0): [unknown]})
    assert batch.unknown and batch.marks == {}, "else it would count as a repeat once its schema is known"


def test_an_output_without_an_id_gets_the_same_one_wherever_it_is_made() -> None:
    value = {"project": "p", "request_id": "r", "occurred_at": 1, "evaluator": "e"}
    made = [
        codec.decode(
            frame(codec, Output("t", "r", "evaluation", v), service="s", emitted=Lineage(name, at)).value or b""
        )
        for name, at, v in (("a", 1, value), ("b", 9, value), ("a", 1, value | {"evaluator": "f"}))
    ]
    first, again, different = (d.value["event_id"] for d in made)
    assert first == again != different


def test_a_dead_letter_fits_whatever_the_record_was() -> None:
    huge = RawRecord("llm-feedback", 0, 3, 0, b"k", b"x" * (LETTER_BYTES + 1), [("h", b"y" * LETTER_BYTES)])
    letter = dead_letter(codec, huge, Reject("undecodable", None, "junk"), service="s", version="1")
    assert letter is not None and letter.value is not None and len(letter.value) < 10_000
    said = codec.decode(letter.value).value
    assert (said["value"], said["headers"], said["source_offset"]) == (None, {}, 3)
    assert said["detail"] == f"junk [value of {LETTER_BYTES + 1} bytes left out]"


class Decoded:
    """A sink of events: keeps their ids; refuses the label ``bad``, and then keeps nothing of that call."""

    raw = False

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def positions(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {}

    async def write(self, records: Sequence[Event]) -> dict[int, Reject]:
        bad = {i: Reject("invalid", "label", "bad") for i, e in enumerate(records) if e.value["label"] == "bad"}
        if not bad:
            self.ids += [e.value["event_id"] for e in records]
        return bad


async def test_a_sink_of_events_gets_what_can_be_decoded_and_the_rest_is_buried_first() -> None:
    bus, sink = MemoryBus(), Decoded()
    for record in (feedback(0), Outgoing("llm-feedback", b"r", b"junk"), feedback(1, "bad"), feedback(2)):
        bus.append(record)
    bus.append(Outgoing("llm-feedback", b"r", b"\x00\x00\x00\x99\x99later"))
    bus.append(feedback(3))
    async with running(bus, None, step=sink):
        await until(lambda: sum(bus.committed("echo").values()) == 4)
        await asyncio.sleep(0.1)
    assert sink.ids == ["e0", "e2"], "what comes after an unknown schema waits with it"
    letters = [(d["source_offset"], d["reason"]) for d in values(bus, "llm-feedback.dlq")]
    assert letters == [(1, "undecodable"), (2, "invalid")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_records", 0),
        ("poll_ms", 0),
        ("max_unsent_batches", 0),
        ("commit_every_s", 0.0),
        ("revoke_within_s", 30.0),
        ("backoff_max_s", 0.1),
        ("breaker_records", -1),
        ("breaker_wait_s", 0.0),
        ("synchronous", "OFF"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name}: "):
        RunnerSettings(**{name: value})  # type: ignore[arg-type]
