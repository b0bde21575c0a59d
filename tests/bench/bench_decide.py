"""Decisions a second and how long one takes: over HTTP with the decision log on and Kafka running, and in process.

Baseline of HTTP: an empty ASGI app under the same server and the same load; of deciding within budgets (three nested
ones, one of them each user's, granted by the real guard): the same load on the same router without, in turns. Kafka,
the router and the load generator share the machine, so the router's CPU per request is noted too: it says what one core
of its own would give.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import uvloop
from baselines import empty_asgi_server, free_port
from harness import Result, percentile, write
from load import Load, closed_loop, http_request, open_loop

from flywheel.budget import PICO_PER_USD, Budget
from flywheel.client import Flywheel
from flywheel.events import Codec, event_id, load_registry, topics
from flywheel.local.kafka import KafkaNode
from flywheel.local.topic_admin import create_topics
from flywheel.policy import DecideRequest, compile_policy, decide
from flywheel.stream import KafkaBus, Output, Publisher

COMMAND = "python tests/bench/run.py decide"
SECONDS = 8.0
CONNECTIONS = 16
SCHEDULE_PER_S = 3000
CALM_PER_S = 500
IN_PROCESS = 20_000
ARMS = 8
MODELS = (
    "openai/gpt-4o", "openai/gpt-4o-mini", "openai/gpt-4.1", "openai/gpt-4.1-mini", "openai/gpt-4.1-nano", "openai/o3",
    "openai/o4-mini", "groq/llama-3.3-70b-versatile",
)  # fmt: skip
WITHIN = "within"
"""Project of the requests that fall under budgets."""
TURNS = 4


def policy(project: str = "default") -> dict[str, Any]:
    """Thompson sampling over eight arms, two of them with a rule."""
    arms = [
        {
            "name": f"arm-{place}", "model": MODELS[place], "prompt_name": "support", "prompt_version": "7",
            "params": {"temperature": "0.2", "max_tokens": "600"}, "enabled": True, "weight": 50.0, "mean": 0.5,
            "eligible_when": [{"field": "plan", "operator": "eq", "value": '"pro"'}] if place < 2 else [],
            "variance": 0.01, "alpha": 20.0 + place, "beta": 20.0, "score": 0.0, "propensity": 0.0,
        }
        for place in range(ARMS)
    ]  # fmt: skip
    return {
        "event_id": event_id("policy", project, "support-answers", 1), "project": project,
        "feature": "support-answers", "occurred_at": time.time_ns() // 1000, "policy_version": 1,
        "kind": "thompson_beta", "charter_digest": "d", "charter_revision": 1, "default_arm": "arm-0",
        "explore_floor": 0.01, "epsilon": 0.0, "stale_after_s": 0.0, "outcomes": 400, "arms": arms,
        "context": ["plan", "language", "n_chars"],
    }  # fmt: skip


def budgets() -> list[Budget]:
    """More money than the run can use: for the project, a team and each of its users."""
    made: tuple[tuple[str, tuple[tuple[str, str], ...], tuple[str, ...]], ...] = (
        ("all", (), ()), ("team", (("team", "cx"),), ()), ("user", (), ("user_hash",)),
    )  # fmt: skip
    return [
        Budget(
            project=WITHIN, name=name, revision=1, effective_from_us=1, amount_pico=10**9 * PICO_PER_USD, per="month",
            scope=scope, each=each, mode="hard", max_input_tokens=2000,
        )
        for name, scope, each in made
    ]  # fmt: skip


def context(number: int) -> dict[str, Any]:
    """Three declared features."""
    return {"plan": ("pro", "free")[number % 2], "language": "en", "n_chars": number % 500}


def requests(prefix: str, project: str = "default") -> Iterator[bytes]:
    """Decide requests, each with an id of its own, of fifty users."""
    for number in itertools.count():
        body = {
            "feature": "support-answers", "request_id": f"{prefix}-{number:09d}", "context": context(number),
            "app": "shop", "team": "cx", "environment": "production", "project": project,
            "user_hash": f"user-{number % 50}",
        }  # fmt: skip
        yield http_request("POST", "/v1/decide", orjson.dumps(body))


@asynccontextmanager
async def router(bootstrap: str, folder: Path) -> AsyncIterator[tuple[int, psutil.Process]]:
    """The router in a process of its own, with one policy; yields its port and process."""
    await create_topics(bootstrap, topics().values())
    publisher = Publisher(KafkaBus(bootstrap), Codec(load_registry()), source="bench")
    await publisher.start()
    await publisher.publish(
        [
            *(Output("policies", f"{name}/support-answers", "policy", policy(name)) for name in ("default", WITHIN)),
            *(Output("budgets", each.key, "budget", each.event(1)) for each in budgets()),
        ]
    )
    await publisher.stop()
    port = free_port()
    env = {
        **os.environ, "FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap, "FLYWHEEL_STATE_DIR": str(folder),
        "FLYWHEEL_PORT": str(port), "FLYWHEEL_GRPC_PORT": "0",
    }  # fmt: skip
    process, guard = [
        await asyncio.create_subprocess_exec(sys.executable, "-m", module, env=env | more, stderr=subprocess.DEVNULL)
        for module, more in (("flywheel_router", {}), ("flywheel_budget", {"FLYWHEEL_OPS_PORT": "0"}))
    ]
    try:
        async with httpx.AsyncClient() as http, asyncio.timeout(300):
            while not await ready(http, port):
                await asyncio.sleep(0.1)
        yield port, psutil.Process(process.pid)
    finally:
        for each in (process, guard):
            each.terminate()
        await asyncio.gather(process.wait(), guard.wait())


async def ready(http: httpx.AsyncClient, port: int) -> bool:
    """Whether the router listens and has read its policies."""
    try:
        return (await http.get(f"http://127.0.0.1:{port}/ready")).status_code == 200
    except httpx.HTTPError:
        return False


def checked(load: Load) -> Load:
    """A run in which something failed measures nothing."""
    if load.failures:
        raise SystemExit(f"{load.failures} of {len(load.latencies_ms)} requests failed")
    return load


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds a process has used."""
    used = process.cpu_times()
    return float(used.user + used.system)


async def settled(port: int) -> float:
    """Wait until Kafka has every decision; returns the seconds that took."""
    started = time.perf_counter()
    async with httpx.AsyncClient() as http, asyncio.timeout(300):
        while b"flywheel_decision_log_pending 0.0" not in (await http.get(f"http://127.0.0.1:{port}/metrics")).content:
            await asyncio.sleep(0.05)
    return time.perf_counter() - started


async def over_http(port: int, process: psutil.Process, empty_port: int) -> None:
    """Throughput with every connection busy, then latency on two schedules."""
    checked(await closed_loop(port, requests("warm"), connections=CONNECTIONS, seconds=2))
    before_s = cpu_s(process)
    ours = checked(await closed_loop(port, requests("closed"), connections=CONNECTIONS, seconds=SECONDS))
    behind_s = await settled(port)
    us = (cpu_s(process) - before_s) / len(ours.latencies_ms) * 1e6
    empty = checked(await closed_loop(empty_port, requests("e"), connections=CONNECTIONS, seconds=SECONDS))
    note = f"{CONNECTIONS} connections, one worker; {us:.0f} us CPU per request; all in Kafka {behind_s:.1f} s after"
    write(Result("decide_http", ours.per_second, "requests/s", empty.per_second, "empty ASGI app", COMMAND, note))
    for name, per_second, share in (("p99", SCHEDULE_PER_S, 0.99), ("p50", CALM_PER_S, 0.5)):
        await settled(port)
        load = checked(await open_loop(port, requests(name), per_second=per_second, seconds=SECONDS))
        bare = checked(await open_loop(empty_port, requests("e"), per_second=per_second, seconds=SECONDS))
        note = f"open loop at {per_second} requests/s, {load.per_second:.0f}/s answered; latency from the schedule"
        write(
            Result(
                f"decide_http_{name}_at_{per_second}", percentile(load.latencies_ms, share), "ms",
                percentile(bare.latencies_ms, share), "empty ASGI app", COMMAND, note,
            )
        )  # fmt: skip


async def within_budgets(port: int, process: psutil.Process) -> None:
    """The same open loop with and without budgets, in turns: the ratio is what budgets add."""
    async with httpx.AsyncClient() as http, asyncio.timeout(300):
        for number in range(50):  # every user's account is open
            while not await decides(http, port, number):
                await asyncio.sleep(0.1)
    taken: dict[str, list[float]] = {"default": [], WITHIN: []}
    used_s = dict.fromkeys(taken, 0.0)
    await open_loop(port, requests("rate", WITHIN), per_second=CALM_PER_S, seconds=SECONDS / 2)  # leases learn the rate
    for turn in range(TURNS):
        for project in taken:
            await settled(port)
            asked, before_s = requests(f"b{turn}", project), cpu_s(process)
            load = checked(await open_loop(port, asked, per_second=CALM_PER_S, seconds=SECONDS / 2))
            taken[project] += load.latencies_ms
            used_s[project] += cpu_s(process) - before_s
    cpu_us = {project: used_s[project] / len(taken[project]) * 1e6 for project in taken}
    for name, share in (("p99", 0.99), ("p50", 0.5)):
        ours, bare = percentile(taken[WITHIN], share), percentile(taken["default"], share)
        note = f"three nested hard budgets, open loop at {CALM_PER_S} requests/s in {TURNS} turns; asked: 1.3 at p99; "
        note += f"the router's CPU per request {cpu_us[WITHIN]:.0f} us, without {cpu_us['default']:.0f}"
        write(Result(f"decide_within_budgets_{name}", ours, "ms", bare, "without budgets", COMMAND, note))


async def decides(http: httpx.AsyncClient, port: int, number: int) -> bool:
    """Whether a user's request is decided, and not still waiting for its first lease."""
    body = {
        "feature": "support-answers", "request_id": f"open-{number}-{time.monotonic_ns()}", "project": WITHIN,
        "team": "cx", "user_hash": f"user-{number}",
    }  # fmt: skip
    return (await http.post(f"http://127.0.0.1:{port}/v1/decide", json=body)).status_code == 200


def in_process(port: int) -> None:
    """One decision after another in this process: the pure function, and the client, which also logs."""
    compiled = compile_policy(policy())
    asked = [DecideRequest("default", "support-answers", f"p-{n}", context(n)) for n in range(IN_PROCESS)]
    pure_us = [timed_us(lambda r=request: decide(compiled, r, 0)) for request in asked]  # type: ignore[misc]
    with Flywheel(router_url=f"http://127.0.0.1:{port}", mode="in_process", decide_timeout_s=10.0) as client:
        client.decide("support-answers", request_id="first")

        def ask(number: int) -> Any:
            return client.decide("support-answers", request_id=f"c-{number}", context=context(number))

        ours_us = [timed_us(lambda n=number: ask(n)) for number in range(IN_PROCESS // 4)]  # type: ignore[misc]
        client.flush(30)
        if client.stats()["router"].dropped or client.fallbacks:
            raise SystemExit("decisions were lost")
    nothing_us = [timed_us(lambda: None) for _ in range(IN_PROCESS)]
    for name, taken, note in (
        ("decide_in_process_p99", pure_us, "flywheel.policy.decide, 8 arms, 3 context fields, 2 rules"),
        ("decide_client_in_process_p99", ours_us, "Flywheel(mode='in_process').decide, logging included"),
    ):
        told = f"{note}; p50 {percentile(taken, 0.5):.1f} us"
        base = percentile(nothing_us, 0.99)
        write(Result(name, percentile(taken, 0.99), "us", base, "empty function", COMMAND, told))


def timed_us(work: Any) -> float:
    """Microseconds one call takes."""
    started_ns = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - started_ns) / 1000


async def main() -> None:
    """Run everything against one broker."""
    with tempfile.TemporaryDirectory() as folder, KafkaNode(Path(folder) / "kafka") as node:
        node.wait_ready()
        async with router(node.bootstrap, Path(folder)) as (port, process), empty_asgi_server() as empty_port:
            await over_http(port, process, empty_port)
            await within_budgets(port, process)
            await asyncio.to_thread(in_process, port)


if __name__ == "__main__":
    uvloop.run(main())
