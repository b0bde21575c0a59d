"""Calls that ask no decision can't be held by a budget: how far it is passed until the alert that says so is there.

One producer posts calls at a steady rate; several budgets over all of them are passed one after the other. For each:
the reaction time, from the acknowledged post that passed the amount to the alert ``budget_exhausted`` in a subscriber's
hands, and the money posted meanwhile. The bound that is published is rate times reaction time. Baseline of the
reaction: a record through Kafka and back with bare aiokafka, in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import aiokafka
import httpx
from harness import Result, percentile, write

from flywheel.budget import Budget, to_usd
from flywheel.events import Codec, load_registry
from flywheel.local.runtime import Runtime
from flywheel.stream import KafkaBus, Output, Publisher

COMMAND = "python tests/bench/run.py overshoot"
PARTS = ("registry", "ingest", "budget")
CALLS_PER_S = 400
TICK_S = 0.05
CALL_USD = Decimal("0.001")
STEP_USD = Decimal("0.8")
"""Two seconds of calls from one budget's amount to the next one's."""
ROUND_TRIPS = 50
KIND = "budget_exhausted"


def budgets(count: int) -> list[Budget]:
    """Budgets of everything, each larger than the one before."""
    amounts = [int(STEP_USD * (n + 1) * 10**12) for n in range(count)]
    return [Budget("default", f"passed-{n}", 1, 0, amount, per="month", warn_at=()) for n, amount in enumerate(amounts)]


async def declare(bootstrap: str, declared: Sequence[Budget]) -> None:
    """Publish them, and return when the guard has said where each stands."""
    codec, now_us = Codec(load_registry()), time.time_ns() // 1000
    publisher = Publisher(KafkaBus(bootstrap, client_id="bench"), codec, source="bench")
    await publisher.start()
    await publisher.publish([Output("budgets", b.key, "budget", b.event(now_us)) for b in declared])
    await publisher.stop()
    known: set[str] = set()
    consumer = aiokafka.AIOKafkaConsumer("budget-states", bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    async with asyncio.timeout(60):
        while len(known) < len(declared):
            record = await consumer.getone()
            known.add(codec.decode(record.value).value["instance"])
    await consumer.stop()


async def alerts(bootstrap: str, seen: dict[str, float], ready: asyncio.Event) -> None:
    """Note when each budget's alert arrives, for ever."""
    codec = Codec(load_registry())
    consumer = aiokafka.AIOKafkaConsumer("alerts", bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        await consumer.end_offsets(consumer.assignment())
        ready.set()
        async for record in consumer:
            value = codec.decode(record.value).value
            if value["kind"] == KIND:
                seen.setdefault(value["subject"], time.perf_counter())
    finally:
        await consumer.stop()


async def post(url: str, until: float, posted: list[tuple[float, Decimal]]) -> None:
    """Post calls at the rate; note what was acknowledged, and when."""
    size, total, number = round(CALLS_PER_S * TICK_S), Decimal(0), 0
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        due = time.perf_counter()
        while time.perf_counter() < until:
            now_us = time.time_ns() // 1000
            items = [
                {"event_id": f"over-{number + n}", "request_id": f"over-{number + n}", "occurred_at": now_us,
                 "feature": "over", "provider": "openai", "request_model": "gpt-4o", "status": "OK",
                 "cost_usd": str(CALL_USD)}
                for n in range(size)
            ]  # fmt: skip
            (await http.post("/v1/calls", json={"items": items})).raise_for_status()
            number, total = number + size, total + size * CALL_USD
            posted.append((time.perf_counter(), total))
            due += TICK_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))


async def round_trip_s(bootstrap: str) -> float:
    """Median seconds of a record through Kafka and back."""
    consumer = aiokafka.AIOKafkaConsumer("dead-letter-actions", bootstrap_servers=bootstrap)
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap)
    await consumer.start()
    await producer.start()
    await consumer.end_offsets(consumer.assignment())
    took = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        await producer.send_and_wait("dead-letter-actions", b"x", key=b"x")
        await consumer.getone()
        took.append(time.perf_counter() - began)
    await producer.stop()
    await consumer.stop()
    return percentile(took, 0.5)


async def measure(runtime: Runtime, count: int) -> None:
    """Pass every budget, and write the worst."""
    bootstrap, declared = runtime.bootstrap, budgets(count)
    await declare(bootstrap, declared)
    seen: dict[str, float] = {}
    posted: list[tuple[float, Decimal]] = []
    ready = asyncio.Event()
    watching = asyncio.create_task(alerts(bootstrap, seen, ready))
    await ready.wait()
    seconds = float(STEP_USD * (count + 1) / CALL_USD) / CALLS_PER_S
    await post(runtime.addresses["ingest"], time.perf_counter() + seconds, posted)
    async with asyncio.timeout(30):
        while len(seen) < count:
            await asyncio.sleep(0.05)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    rate_usd_s = float(posted[-1][1]) / (posted[-1][0] - posted[0][0])
    reactions, overshoots = [], []
    for budget in declared:
        amount = to_usd(budget.amount_pico)
        passed = next(at for at, total in posted if total >= amount)
        told = seen[budget.key]
        reactions.append(told - passed)
        overshoots.append(float(max(total for at, total in posted if at <= told) - amount))
    bare = await round_trip_s(bootstrap)
    note = f"{count} budgets passed at {CALLS_PER_S} calls/s; median {percentile(reactions, 0.5) * 1e3:.0f} ms"
    write(Result("overshoot_reaction", max(reactions) * 1e3, "ms", bare * 1e3, "a record through Kafka", COMMAND, note))
    note = "the worst of them; posts come in batches of a twentieth of a second"
    bound = rate_usd_s * (max(reactions) + TICK_S)
    write(Result("overshoot_usd", max(overshoots), "USD", bound, "rate x (reaction + batch)", COMMAND, note))


def main() -> None:
    """Measure on a fresh system of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", type=int, default=8, help="how many budgets are passed [8]")
    parser.add_argument("--json", action="store_true", help="print the results as JSON at the end")
    arguments = parser.parse_args()
    os.environ.setdefault("FLYWHEEL_LOG_LEVEL", "WARNING")
    with tempfile.TemporaryDirectory() as folder, Runtime(Path(folder), parts=PARTS) as runtime:
        asyncio.run(measure(runtime, arguments.budgets))
    if arguments.json:
        names = ("overshoot_reaction", "overshoot_usd")
        print(json.dumps([json.loads((Path(__file__).parent / "results" / f"{n}.json").read_text()) for n in names]))


if __name__ == "__main__":
    main()
