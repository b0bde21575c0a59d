"""Events through the whole runner: consume, decode, fold into SQLite, outbox acknowledged by Kafka; and a raw sink.

Each request is three events (decision, call, feedback) that the fold joins into one evaluation. Baseline: a bare
aiokafka loop (``getmany``, decode, commit) over the same topics in the same run; it keeps no state and sends nothing.
CPU per event is noted too.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from baselines import bare_consume
from harness import Result, write

from flywheel.events import Codec, load_registry, topics
from flywheel.events.examples import examples
from flywheel.local.kafka import KafkaNode
from flywheel.local.topic_admin import create_topics
from flywheel.observe import Health, Metrics
from flywheel.stream import (
    Event,
    FoldResult,
    KafkaBus,
    Outgoing,
    Output,
    RawRecord,
    Runner,
    StateView,
    TopicPartition,
)

COMMAND = "python tests/bench/run.py stream"
REQUESTS = 60_000
TOPICS = {"llm-decisions": "decision", "llm-calls": "llm_call", "llm-feedback": "feedback"}
codec = Codec(load_registry())


class Join:
    """Waits for a request's three parts, then says one evaluation and forgets the request."""

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
        waiting = state.get_many("open", [e.value["request_id"] for e in events])
        outputs: list[Output] = []
        for event in events:
            request = event.value["request_id"]
            parts = waiting.get(request, b"") + event.event[:1].encode()
            if len(parts) < len(TOPICS):
                waiting[request] = parts
                state.put("open", request, parts)
                continue
            waiting.pop(request, None)
            state.delete("open", request)
            value = {"event_id": f"joined-{request}", "project": "p", "request_id": request, "evaluator": "bench"}
            value |= {"occurred_at": event.value["occurred_at"], "score": 1.0}
            outputs.append(Output("llm-evaluations", request, "evaluation", value))
        return FoldResult(outputs)


class Drain:
    """A raw sink that keeps only how many records it was given."""

    raw = True

    def __init__(self) -> None:
        self.count = 0

    async def positions(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {}

    async def write(self, records: Sequence[RawRecord | Event]) -> Mapping[int, object]:
        self.count += len(records)
        return {}


async def fill(bus: KafkaBus) -> None:
    """Write every request's three events, in the order of requests within each topic."""
    producer = bus.producer()
    await producer.start()
    for topic, event in TOPICS.items():
        value = dict(next(iter(examples(event).values())))
        for at in range(0, REQUESTS, 5000):
            records = []
            for number in range(at, at + 5000):
                value["request_id"], value["event_id"] = f"request-{number:09d}", f"{number:032x}"
                records.append(Outgoing(topic, value["request_id"].encode(), codec.encode(event, value)))
            await producer.send_many(records)
    await producer.stop()


async def run_until(runner: Runner, ready: Callable[[], bool], done: Callable[[], bool]) -> tuple[float, float]:
    """Seconds from the assignment to the last event, and CPU seconds of this process meanwhile."""
    task = asyncio.create_task(runner.run())
    while not ready():
        await asyncio.sleep(0.005)
    started, cpu = time.perf_counter(), time.process_time()
    while not done():
        if task.done():
            task.result()
        await asyncio.sleep(0.1)
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    await runner.stop()
    await task
    return took, cpu


def runner(
    bus: KafkaBus, step: object, name: str, folder: Path, health: Health, *, given: Codec, metrics: Metrics
) -> Runner:
    """A runner over the three topics."""
    return Runner(
        service="bench",
        service_version="1",
        bus=bus,
        codec=given,
        step=step,  # type: ignore[arg-type]
        topics=list(TOPICS),
        group=name,
        state_dir=folder,
        metrics=metrics,
        health=health,
    )


async def measure_fold(bus: KafkaBus, folder: Path, name: str, given: Codec, bare: float) -> None:
    """Join every request once with a codec, from nothing, and write the figure."""
    metrics, health, total = Metrics(), Health(), REQUESTS * len(TOPICS)
    fold = runner(bus, Join(), name, folder, health, given=given, metrics=metrics)

    def joined() -> bool:
        return metrics.value("stream_outputs_total", topic="llm-evaluations") >= REQUESTS

    took, cpu = await run_until(fold, lambda: health.ready, joined)
    note = f"three events a request; {cpu / total * 1e6:.0f} µs of CPU per event"
    write(Result(name, total / took, "events/s", bare, "bare aiokafka loop", COMMAND, note))


async def measure_sink(bus: KafkaBus, folder: Path, bare: float) -> None:
    """Hand every record to a raw sink that does nothing, and write the figure."""
    drain, health, total = Drain(), Health(), REQUESTS * len(TOPICS)
    sink = runner(bus, drain, "drain", folder, health, given=codec, metrics=Metrics())
    took, cpu = await run_until(sink, lambda: health.ready, lambda: drain.count >= total)
    note = f"undecoded; {cpu / total * 1e6:.0f} µs of CPU per event"
    write(Result("stream_sink_events", total / took, "events/s", bare, "bare aiokafka loop", COMMAND, note))


async def main() -> None:
    """Measure folds, with all fields and with those the step needs, and a raw sink, each beside the bare loop."""
    with tempfile.TemporaryDirectory() as folder, KafkaNode(Path(folder) / "kafka") as node:
        node.wait_ready()
        await create_topics(node.bootstrap, topics().values())
        bus = KafkaBus(node.bootstrap)
        await fill(bus)
        bare = await bare_consume(node.bootstrap, list(TOPICS), REQUESTS * len(TOPICS))
        needed = Codec(load_registry(), only=dict.fromkeys(TOPICS.values(), ("event_id", "request_id", "occurred_at")))
        await measure_fold(bus, Path(folder), "stream_fold_events", codec, bare)
        await measure_fold(bus, Path(folder), "stream_fold_needed_fields", needed, bare)
        await measure_sink(bus, Path(folder), bare)


if __name__ == "__main__":
    asyncio.run(main())
