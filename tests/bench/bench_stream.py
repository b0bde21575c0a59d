"""Events through the whole runner: consume, decode, fold into SQLite, outbox acknowledged by Kafka; and a raw sink.

Each request is three events (decision, call, feedback) that the fold joins into one evaluation. Baseline: a bare
aiokafka loop (``getmany``, decode, commit) over the same topics in the same run; it keeps no state and sends nothing.
CPU per event is noted too.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
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
    RunnerSettings,
    StateView,
    TopicPartition,
)

COMMAND = "python tests/bench/run.py stream"
REQUESTS = 30_000
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


async def run_until(runner: Runner, done: object) -> tuple[float, float]:
    """Seconds from the first to the last event and CPU seconds of this process meanwhile."""
    task = asyncio.create_task(runner.run())
    started, cpu = time.perf_counter(), time.process_time()
    while not done():  # type: ignore[operator]
        if task.done():
            task.result()
        await asyncio.sleep(0.02)
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    await runner.stop()
    await task
    return took, cpu


def runner(bus: KafkaBus, step: object, name: str, folder: Path, metrics: Metrics) -> Runner:
    """A runner over the three topics."""
    return Runner(
        service="bench",
        service_version="1",
        bus=bus,
        codec=codec,
        step=step,  # type: ignore[arg-type]
        topics=list(TOPICS),
        group=name,
        state_dir=folder,
        metrics=metrics,
        health=Health(),
        settings=RunnerSettings(),
    )


async def main() -> None:
    """Measure the fold and the sink, each beside the bare loop."""
    with tempfile.TemporaryDirectory() as folder, KafkaNode(Path(folder) / "kafka") as node:
        node.wait_ready()
        await create_topics(node.bootstrap, topics().values())
        bus = KafkaBus(node.bootstrap)
        await fill(bus)
        total = REQUESTS * len(TOPICS)
        bare = await bare_consume(node.bootstrap, list(TOPICS), total)
        metrics = Metrics()
        profile = cProfile.Profile() if "--profile" in sys.argv else None
        fold = runner(bus, Join(), "join", Path(folder), metrics)
        if profile:
            profile.enable()
        took, cpu = await run_until(
            fold,
            lambda: (
                sum(s.state.emitted for s in fold._shards.values()) >= REQUESTS
                and not any(s.unsent for s in fold._shards.values())
            ),
        )
        if profile:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(30)
        note = f"three events a request; {cpu / total * 1e6:.0f} µs of CPU per event, start of the group included"
        write(Result("stream_fold_events", total / took, "events/s", bare, "bare aiokafka loop", COMMAND, note))
        drain = Drain()
        took, cpu = await run_until(runner(bus, drain, "drain", Path(folder), Metrics()), lambda: drain.count >= total)
        note = f"undecoded; {cpu / total * 1e6:.0f} µs of CPU per event, start of the group included"
        write(Result("stream_sink_events", total / took, "events/s", bare, "bare aiokafka loop", COMMAND, note))


if __name__ == "__main__":
    asyncio.run(main())
