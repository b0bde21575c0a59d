"""Calls posted to ingest in batches until SQL sees them, with Kafka, router, bandit and recorder all running.

Two runs: as fast as the system takes them (rate from the first post to the last call queryable), and at half the
promised rate, where a row's lag is the time from the moment its batch was due until a query finds it. Baseline: a bare
aiokafka loop (``getmany``, decode, commit) over the same topic right after, with the services stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import tempfile
import time
from pathlib import Path

import httpx
import orjson
import psutil
from baselines import bare_consume
from bench_ingest import call
from harness import Result, percentile, write
from load import closed_loop, http_request, open_loop

from flywheel.local.runtime import Runtime

COMMAND = "python tests/bench/run.py pipeline"
BATCH = 250
TARGET_PER_S = 6_000
PARTS = ("registry", "ingest", "router", "bandit", "budget", "recorder")


def posts(start: int, count: int) -> list[bytes]:
    """HTTP requests with ``count`` calls from number ``start`` on, made before the clock starts."""
    at_us = time.time_ns() // 1_000
    calls = (call(number, at_us) for number in itertools.count(start))
    return [
        http_request("POST", "/v1/calls", orjson.dumps({"items": list(itertools.islice(calls, BATCH))}))
        for _ in range(count // BATCH)
    ]


class Sql:
    """Questions to the recorder's HTTP endpoint."""

    def __init__(self, url: str) -> None:
        # Shorter than the server's, else a question after a pause may meet a connection just being closed.
        limits = httpx.Limits(keepalive_expiry=2.0)
        self._client = httpx.AsyncClient(base_url=url, timeout=30.0, limits=limits)

    async def count(self) -> int:
        """Calls that a query finds."""
        answer = await self._client.post("/", content="SELECT count() FROM v_calls", params={"database": "flywheel"})
        answer.raise_for_status()
        return int(answer.text)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()


async def watch(sql: Sql, every_s: float, until: asyncio.Event) -> list[tuple[float, int]]:
    """Times and counts, until told to stop."""
    seen: list[tuple[float, int]] = []
    while not until.is_set():
        count = await sql.count()
        seen.append((time.perf_counter(), count))
        await asyncio.sleep(every_s)
    return [*seen, (time.perf_counter(), await sql.count())]  # what it waited for came after the last look


async def all_queryable(sql: Sql, count: int, seconds: float = 120.0) -> float:
    """Wait until a query finds ``count`` calls; returns when that was."""
    async with asyncio.timeout(seconds):
        while await sql.count() < count:
            await asyncio.sleep(0.1)
    return time.perf_counter()


async def full_speed(port: int, sql: Sql, start: int, seconds: float) -> tuple[float, int]:
    """Post for ``seconds`` as fast as ingest answers; calls a second until the last one is queryable, and how many."""
    before = await sql.count()
    source = iter(posts(start, int(seconds * 16_000)))
    started = time.perf_counter()
    load = await closed_loop(port, source, connections=4, seconds=seconds)
    assert load.failures == 0, f"{load.failures} batches failed"
    sent = len(load.latencies_ms) * BATCH
    ended = await all_queryable(sql, before + sent)
    return sent / (ended - started), sent


async def lags(port: int, sql: Sql, start: int, seconds: float) -> list[float]:
    """Post at half the promised rate; for each call, seconds from when it was due until a query found that many."""
    before = await sql.count()
    per_second = TARGET_PER_S / 2 / BATCH
    total = int(per_second * seconds)
    done = asyncio.Event()
    watcher = asyncio.create_task(watch(sql, 0.05, done))
    began = time.perf_counter()
    source = iter(posts(start, total * BATCH))
    began = time.perf_counter()
    load = await open_loop(port, source, per_second=per_second, seconds=seconds, connections=8)
    assert load.failures == 0, f"{load.failures} batches failed"
    await all_queryable(sql, before + total * BATCH)
    done.set()
    seen = await watcher
    found: list[float] = []
    at = 0
    for batch in range(total):
        while seen[at][1] < before + (batch + 1) * BATCH:
            at += 1
        found += [seen[at][0] - (began + batch / per_second)] * BATCH
    return found


def cpu_seconds(runtime: Runtime) -> dict[str, float]:
    """CPU seconds used so far by each part."""
    used: dict[str, float] = {}
    for part in runtime.status().parts:
        if part.pid:
            times = psutil.Process(part.pid).cpu_times()
            used[part.name] = times.user + times.system
    return used


async def measure(runtime: Runtime, seconds: float) -> None:
    """Both runs and the baseline; stops the services for the latter."""
    port = int(runtime.addresses["ingest"].rsplit(":", 1)[1].rstrip("/"))
    sql = Sql(runtime.addresses["clickhouse"])
    await full_speed(port, sql, 10_000_000, 3.0)
    before = cpu_seconds(runtime)
    rate, sent = await full_speed(port, sql, 20_000_000, seconds)
    used = {name: (cpu - before[name]) / sent * 1e6 for name, cpu in cpu_seconds(runtime).items()}
    spent = ", ".join(f"{name} {us:.0f}" for name, us in sorted(used.items(), key=lambda item: -item[1]))
    waits = [s * 1e3 for s in await lags(port, sql, 30_000_000, seconds)]
    await sql.close()
    for name in ("recorder", "budget", "bandit", "router", "ingest"):
        runtime.kill(name)
    bare = await bare_consume(runtime.bootstrap, ["llm-calls"], 40_000)
    note = f"batches of {BATCH}; µs of CPU per call: {spent}"
    write(Result("calls_to_queryable", rate, "calls/s", bare, "bare aiokafka loop", COMMAND, note))
    note = f"at {TARGET_PER_S // 2}/s; p50 {percentile(waits, 0.5):.0f} ms, max {max(waits):.0f} ms"
    write(Result("lag_p99_at_half_load", percentile(waits, 0.99), "ms", 2_000.0, "the promised 2 s", COMMAND, note))


def main() -> None:
    """Measure on a fresh system of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each run posts")
    parser.add_argument("--json", action="store_true", help="print the results as JSON at the end")
    arguments = parser.parse_args()
    os.environ.setdefault("FLYWHEEL_LOG_LEVEL", "WARNING")
    with tempfile.TemporaryDirectory() as folder, Runtime(Path(folder), parts=PARTS) as runtime:
        asyncio.run(measure(runtime, arguments.seconds))
    if arguments.json:
        names = ("calls_to_queryable", "lag_p99_at_half_load")
        print(json.dumps([json.loads((Path(__file__).parent / "results" / f"{n}.json").read_text()) for n in names]))


if __name__ == "__main__":
    main()
