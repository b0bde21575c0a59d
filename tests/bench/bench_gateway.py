"""The gateway with everything on: requests a second through decision, call, charge and log, one worker, 16 connections.

In front of a mock provider, with the real Kafka and the real guard: every request is decided among eight arms, within
three nested hard budgets, logged, called, priced, and its call logged. Beside it in the same run: the least proxy (an
ASGI app that hands the body on over httpx), LiteLLM's proxy where ``LITELLM_PYTHON`` names the interpreter of its
environment, and TensorZero's gateway, embedded in the process that asks it, where ``TENSORZERO_PYTHON`` does::

    uv venv ENV
    uv pip install --python ENV/bin/python --require-hashes -r tests/bench/peers/litellm/requirements.lock

LiteLLM logs and charges nothing in this run. TensorZero is measured without its observability and with it, as it is by
default: each inference is sent to ClickHouse in the background, and the run waits until all are there. There is no
server here, so that is the embedded engine behind as much of ClickHouse's HTTP interface as TensorZero needs
(``peers/tensorzero/clickhouse_http.py``), whose CPU is not counted; nor is Kafka's of ours. TensorZero is asked by
Python calls and has no HTTP to read.

Machines differ and share their cores: what a process of each spends of CPU on a request is in the notes, and says what
one core of its own would give.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import orjson
import psutil
import uvloop
from baselines import asgi_server, free_port, until_open
from bench_decide import WITHIN, checked, cpu_s, router
from gateway_peers import Measured, clickhouse, tensorzero
from harness import Result, write
from litellm_proxy import deployment, litellm
from load import closed_loop, http_request

from flywheel.local.kafka import KafkaNode

COMMAND: Final = "LITELLM_PYTHON=… TENSORZERO_PYTHON=… python tests/bench/run.py gateway"
HERE: Final = Path(__file__).parent
CONNECTIONS: Final = 16
MODEL: Final = "gpt-4o"
LITELLM_KEY: Final = "sk-bench"
MESSAGES: Final = [
    {"role": "system", "content": "You answer the questions of customers, briefly."},
    {"role": "user", "content": "Where is my parcel, and when will it come ? " * 4},
]
SETTLE_S: Final = 300.0
LABELS: Final = {
    "proxy": "ASGI app over httpx",
    "litellm": "LiteLLM's proxy",
    "tensorzero": "TensorZero embedded, observability on",
    "tensorzero_blind": "TensorZero embedded, observability off",
}


def requests(model: str, prefix: str, *headers: str) -> Iterator[bytes]:
    """Chat completions, each with an id of its own, of fifty users of a team."""
    body = orjson.dumps({"model": model, "messages": MESSAGES, "max_tokens": 100})
    for number in itertools.count():
        named = (*headers, f"x-request-id: {prefix}-{number:09d}", f"x-flywheel-user: user-{number % 50}")
        yield http_request("POST", "/v1/chat/completions", body, headers=named)


async def measure(port: int, pid: int, made: Iterator[bytes], *, seconds: float) -> Measured:
    """Keep every connection busy; the CPU is that of the process and those below it."""
    checked(await closed_loop(port, made, connections=CONNECTIONS, seconds=min(2.0, seconds)))
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    before_s = sum(map(cpu_s, processes))
    load = checked(await closed_loop(port, made, connections=CONNECTIONS, seconds=seconds))
    used_s = sum(map(cpu_s, processes)) - before_s
    return Measured(load, used_s / len(load.latencies_ms) * 1e6, CONNECTIONS)


@asynccontextmanager
async def provider() -> AsyncIterator[int]:
    """The mock provider in a process of its own; yields its port."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(sys.executable, str(HERE / "mock_provider.py"), str(port))
    try:
        await until_open(port, SETTLE_S)
        yield port
    finally:
        process.terminate()
        await process.wait()


async def opened(port: int) -> None:
    """Return when every user's account is open, so that no request waits for its first lease."""
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(SETTLE_S):
        for number in range(50):
            while True:
                headers = {"x-flywheel-user": f"user-{number}", "x-flywheel-project": WITHIN, "x-flywheel-team": "cx"}
                reply = await http.post(
                    f"http://127.0.0.1:{port}/v1/chat/completions",
                    json={"model": "flywheel/support-answers", "messages": MESSAGES, "max_tokens": 100},
                    headers=headers,
                )
                if reply.status_code == 200:
                    break
                if reply.status_code != 429:
                    raise SystemExit(f"the gateway answers {reply.status_code}: {reply.text[:500]}")
                await asyncio.sleep(0.1)


async def logged(port: int) -> float:
    """Seconds until Kafka has every decision and call."""
    started = time.perf_counter()
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(SETTLE_S):
        while b"flywheel_decision_log_pending 0.0" not in (await http.get(f"http://127.0.0.1:{port}/metrics")).content:
            await asyncio.sleep(0.05)
    return time.perf_counter() - started


async def explain(port: int) -> None:
    """Print how requests and attempts ended, to say why a run measured nothing."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        lines = (await http.get(f"http://127.0.0.1:{port}/metrics")).text.splitlines()
    print(*(line for line in lines if line.startswith(("flywheel_gateway_", "flywheel_budget_ref"))), sep="\n")


async def peers(upstream: str, folder: Path, seconds: float) -> dict[str, Measured]:
    """Measure what the environment names, one after another."""
    found: dict[str, Measured] = {}
    async with asgi_server("proxy_app", UPSTREAM_URL=upstream) as (port, pid):
        found["proxy"] = told("proxy", await measure(port, pid, requests(MODEL, "p"), seconds=seconds))
    if python := os.environ.get("LITELLM_PYTHON"):
        made = requests(MODEL, "l", f"authorization: Bearer {LITELLM_KEY}")
        declared = {"model_list": [{"model_name": MODEL, "litellm_params": deployment(MODEL, upstream)}]}
        async with litellm(python, declared, folder, key=LITELLM_KEY) as (port, pid):
            found["litellm"] = told("litellm", await measure(port, pid, made, seconds=seconds))
    if python := os.environ.get("TENSORZERO_PYTHON"):
        ask = partial(tensorzero, python, upstream, MESSAGES, connections=CONNECTIONS, seconds=seconds)
        found["tensorzero_blind"] = told("tensorzero_blind", await ask(clickhouse=None))
        async with clickhouse(folder) as url:
            found["tensorzero"] = told("tensorzero", await ask(clickhouse=url))
    return found


def told(name: str, measured: Measured) -> Measured:
    """Print what was measured."""
    print(f"{name}: {measured.load.per_second:.0f}/s; {measured.note()}", flush=True)
    return measured


async def run(seconds: float, *, dry: bool) -> None:
    """Measure each in turn."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = f"http://127.0.0.1:{await stack.enter_async_context(provider())}"
        beside = await peers(url, folder, seconds)
        node = stack.enter_context(KafkaNode(folder / "kafka"))
        await asyncio.to_thread(node.wait_ready)
        declared = folder / "providers.yaml"
        declared.write_text(json.dumps({"providers": {n: {"base_url": f"{url}/v1"} for n in ("openai", "groq")}}))
        os.environ |= {
            "FLYWHEEL_PROVIDERS_FILE": str(declared), "FLYWHEEL_USER_HASH_KEY": "of-the-bench",
            "FLYWHEEL_LEASE_WAIT_MS": "10000",  # a machine that is busy with other things must not refuse
        }  # fmt: skip
        port, process = await stack.enter_async_context(router(node.bootstrap, folder))
        await opened(port)
        for name, project in (("gateway_unbudgeted", "default"), ("gateway", WITHIN)):
            headers = (f"x-flywheel-project: {project}", "x-flywheel-team: cx")
            made = requests("flywheel/support-answers", name, *headers)
            try:
                ours = told(name, await measure(port, process.pid, made, seconds=seconds))
            except SystemExit:
                await explain(port)
                raise
            behind_s = await logged(port)
            for base in () if dry else beside:
                theirs = beside[base]
                note = f"{ours.note()}; all in Kafka {behind_s:.1f} s after; {base}: {theirs.note()}; "
                note += f"CPU of theirs over ours {theirs.cpu_us / ours.cpu_us:.2f}"
                rates = ours.load.per_second, theirs.load.per_second
                write(Result(f"{name}_beside_{base}", rates[0], "requests/s", rates[1], LABELS[base], COMMAND, note))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each is kept busy (default 8)")
    parser.add_argument("--dry", action="store_true", help="write no results")
    arguments = parser.parse_args()
    uvloop.run(run(arguments.seconds, dry=arguments.dry))


if __name__ == "__main__":
    main()
