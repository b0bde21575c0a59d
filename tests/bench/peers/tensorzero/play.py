"""Asks TensorZero's gateway, embedded in this process as its client embeds it, in an environment of its own.

Reads ``{"upstream", "clickhouse", "connections", "seconds", "messages"}`` as one argument of JSON; ``clickhouse`` null:
its observability is off. Eight variants of a function, drawn evenly, each a chat completion of the upstream; every
coroutine has one call under way. Prints ``{"latencies_ms", "seconds", "cpu_s"}``; the CPU is this process's. Ends when
its standard input does, as it records in the background and what it has not recorded by then is lost.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tensorzero import AsyncTensorZeroGateway

FUNCTION = "support-answers"
VARIANTS = 8


def config(upstream: str, *, observed: bool) -> str:
    """The gateway's configuration."""
    model = f"""
[gateway]
observability.enabled = {json.dumps(observed)}

[models.mock]
routing = ["mock"]

[models.mock.providers.mock]
type = "openai"
model_name = "gpt-4o"
api_base = "{upstream}/v1/"
api_key_location = "none"

[functions.{FUNCTION}]
type = "chat"
"""
    arms = [
        f'[functions.{FUNCTION}.variants.arm-{place}]\ntype = "chat_completion"\nmodel = "mock"\nmax_tokens = 100\n'
        for place in range(VARIANTS)
    ]
    return "\n".join([model, *arms])


async def busy(gateway: Any, messages: Any, connections: int, seconds: float) -> tuple[list[float], float]:
    """Keep as many calls under way; return their latencies in milliseconds, and the span in seconds."""
    taken: list[float] = []
    started = time.perf_counter()
    end = started + seconds

    async def caller() -> None:
        while (now := time.perf_counter()) < end:
            await gateway.inference(function_name=FUNCTION, input=messages)
            taken.append((time.perf_counter() - now) * 1e3)

    await asyncio.gather(*(caller() for _ in range(connections)))
    return taken, time.perf_counter() - started


async def main() -> None:
    """Warm up, then measure."""
    asked = json.loads(sys.argv[1])
    system = next(each["content"] for each in asked["messages"] if each["role"] == "system")
    said = {"system": system, "messages": [each for each in asked["messages"] if each["role"] != "system"]}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tensorzero.toml"
        file.write_text(config(asked["upstream"], observed=asked["clickhouse"] is not None))
        built = AsyncTensorZeroGateway.build_embedded(config_file=str(file), clickhouse_url=asked["clickhouse"])
        gateway: Any = await built  # type: ignore[misc]
        await busy(gateway, said, asked["connections"], min(2.0, asked["seconds"]))
        before_s = time.process_time()
        latencies_ms, seconds = await busy(gateway, said, asked["connections"], asked["seconds"])
        cpu_s = time.process_time() - before_s
    print(json.dumps({"latencies_ms": latencies_ms, "seconds": seconds, "cpu_s": cpu_s}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
