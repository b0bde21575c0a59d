"""What `bench_gateway.py` stands beside in an environment of its own besides LiteLLM's proxy: TensorZero's gateway."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final

import httpx
from harness import percentile
from load import Load

TENSORZERO: Final = Path(__file__).parent / "peers" / "tensorzero"
START_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of one gateway under one load: ``cpu_us`` of its process, or processes, for a request."""

    load: Load
    cpu_us: float
    connections: int

    def note(self) -> str:
        """The run in words."""
        taken = self.load.latencies_ms
        return (
            f"{self.connections} connections, one worker; p50 {percentile(taken, 0.5):.1f} ms, p99 "
            f"{percentile(taken, 0.99):.1f} ms, {self.cpu_us:.0f} us CPU per request"
        )


async def tensorzero(
    python: str,
    upstream: str,
    messages: list[dict[str, str]],
    *,
    connections: int,
    seconds: float,
    clickhouse: str | None,
) -> Measured:
    """TensorZero's gateway, embedded in the process that asks it; ``clickhouse`` None: nothing is recorded."""
    asked = {
        "upstream": upstream, "clickhouse": clickhouse, "connections": connections, "seconds": seconds,
        "messages": messages,
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        python, str(TENSORZERO / "play.py"), json.dumps(asked), stdin=PIPE, stdout=PIPE, limit=64 << 20
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        while not (line := await process.stdout.readline()).startswith(b'{"latencies_ms"'):
            if not line:
                raise RuntimeError("TensorZero's gateway ended before it was measured")
        found: dict[str, Any] = json.loads(line)
        if clickhouse is not None:
            await _recorded(clickhouse, len(found["latencies_ms"]))
    finally:
        process.stdin.close()
        await process.communicate()
    load = Load(found["latencies_ms"], found["seconds"], 0)
    return Measured(load, found["cpu_s"] / len(load.latencies_ms) * 1e6, connections)


async def _recorded(url: str, rows: int) -> None:
    """Return when as many inferences are in ClickHouse. Raises TimeoutError."""
    query = "SELECT count() FROM tensorzero.ChatInference"
    async with httpx.AsyncClient(trust_env=False, timeout=START_S) as http, asyncio.timeout(START_S):
        while int((await http.post(url, content=query)).raise_for_status().text) < rows:
            await asyncio.sleep(0.2)


@asynccontextmanager
async def clickhouse(folder: Path) -> AsyncIterator[str]:
    """ClickHouse's HTTP interface over the embedded engine; yields the address of a database TensorZero may make."""
    command = [sys.executable, str(TENSORZERO / "clickhouse_http.py"), str(folder / "clickhouse")]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_S):
            port = json.loads(await process.stdout.readline())["port"]
        yield f"http://127.0.0.1:{port}/tensorzero"
    finally:
        process.terminate()
        await process.wait()
