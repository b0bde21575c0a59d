"""The gateway with everything on: requests a second through decision, call, charge and log, one worker, 16 connections.

In front of a mock provider, with the real Kafka and the real guard: every request is decided among eight arms, within
three nested hard budgets, logged, called, priced, and its call logged. Beside it in the same run: the least proxy (an
ASGI app that hands the body on over httpx), and LiteLLM's proxy where ``LITELLM_PYTHON`` names the interpreter of its
environment (``bench_peer_budget.py`` says how to make one); it logs and charges nothing in this run.

Machines differ and share their cores: what a process of each spends of CPU on a request is in the notes, and says what
one core of its own would give.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import orjson
import psutil
import uvloop
from baselines import asgi_server, free_port, until_open
from bench_decide import WITHIN, checked, cpu_s, router
from harness import Result, percentile, write
from load import Load, closed_loop, http_request

from flywheel.local.kafka import KafkaNode

COMMAND: Final = "LITELLM_PYTHON=… python tests/bench/run.py gateway"
CONNECTIONS: Final = 16
MODEL: Final = "gpt-4o"
MESSAGES: Final = [
    {"role": "system", "content": "You answer the questions of customers, briefly."},
    {"role": "user", "content": "Where is my parcel, and when will it come ? " * 4},
]
START_S: Final = 600.0
SETTLE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of one proxy."""

    load: Load
    cpu_us: float

    def note(self) -> str:
        """The run in words."""
        taken = self.load.latencies_ms
        return (
            f"{CONNECTIONS} connections, one worker; p50 {percentile(taken, 0.5):.1f} ms, p99 "
            f"{percentile(taken, 0.99):.1f} ms, {self.cpu_us:.0f} us CPU per request"
        )


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
    return Measured(load, (sum(map(cpu_s, processes)) - before_s) / len(load.latencies_ms) * 1e6)


@asynccontextmanager
async def provider() -> AsyncIterator[int]:
    """The mock provider in a process of its own; yields its port."""
    port = free_port()
    started = "import uvloop; from flywheel.testkit.provider_server import main; uvloop.run(main())"
    command = [sys.executable, "-c", started, "--port", str(port)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    try:
        await until_open(port, SETTLE_S)
        yield port
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def litellm(python: str, upstream: int, folder: Path) -> AsyncIterator[tuple[int, int, str]]:
    """LiteLLM's proxy, one worker, in front of the provider; yields port, process and the header of its key."""
    port = free_port()
    deployment = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "none"}
    declared = {"model_list": [{"model_name": MODEL, "litellm_params": deployment}]}
    (folder / "config.yaml").write_text(json.dumps(declared))  # JSON is YAML
    environ = {
        **os.environ, "LITELLM_MASTER_KEY": "sk-bench", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR",
    }  # fmt: skip
    command = [str(Path(python).parent / "litellm"), "--config", "config.yaml", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--telemetry", "False"]
    with (folder / "litellm.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, cwd=folder, env=environ, stdout=log, stderr=log)
        try:
            async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(START_S):
                while not await _alive(http, f"http://127.0.0.1:{port}/health/liveliness"):
                    if process.returncode is not None:
                        raise RuntimeError((folder / "litellm.log").read_text()[-2000:])
                    await asyncio.sleep(0.5)
            yield port, process.pid, "authorization: Bearer sk-bench"
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _alive(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url, timeout=2)).status_code == 200
    except httpx.HTTPError:
        return False


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


async def told(port: int) -> None:
    """Print how requests and attempts ended, to say why a run measured nothing."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        lines = (await http.get(f"http://127.0.0.1:{port}/metrics")).text.splitlines()
    print(*(line for line in lines if line.startswith(("flywheel_gateway_", "flywheel_budget_ref"))), sep="\n")


async def run(seconds: float, *, dry: bool) -> None:
    """Measure each in turn."""
    found: dict[str, Measured] = {}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = await stack.enter_async_context(provider())
        url = f"http://127.0.0.1:{upstream}"
        proxied, pid = await stack.enter_async_context(asgi_server("proxy_app", UPSTREAM_URL=url))
        found["proxy"] = await measure(proxied, pid, requests(MODEL, "p"), seconds=seconds)
        print(f"the least proxy: {found['proxy'].load.per_second:.0f}/s; {found['proxy'].note()}", flush=True)
        python = os.environ.get("LITELLM_PYTHON")
        if python:
            async with litellm(python, upstream, folder) as (port, peer, key):
                found["litellm"] = await measure(port, peer, requests(MODEL, "l", key), seconds=seconds)
            print(f"litellm: {found['litellm'].load.per_second:.0f}/s; {found['litellm'].note()}", flush=True)
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
                found[name] = await measure(port, process.pid, made, seconds=seconds)
            except SystemExit:
                await told(port)
                raise
            behind_s = await logged(port)
            print(f"{name}: {found[name].load.per_second:.0f}/s; {found[name].note()}", flush=True)
            for base in (each for each in ("litellm", "proxy") if each in found and not dry):
                note = f"{found[name].note()}; all in Kafka {behind_s:.1f} s after; {base}: {found[base].note()}"
                label = "LiteLLM's proxy" if base == "litellm" else "ASGI app over httpx"
                ours, theirs = found[name].load.per_second, found[base].load.per_second
                write(Result(f"{name}_beside_{base}", ours, "requests/s", theirs, label, COMMAND, note))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each is kept busy (default 8)")
    parser.add_argument("--dry", action="store_true", help="write no results")
    arguments = parser.parse_args()
    uvloop.run(run(arguments.seconds, dry=arguments.dry))


if __name__ == "__main__":
    main()
