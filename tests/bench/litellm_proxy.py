"""LiteLLM's proxy, one worker, in front of a provider, for what stands beside it; in an environment of its own::

uv venv ENV
uv pip install --python ENV/bin/python --require-hashes -r tests/bench/peers/litellm/requirements.lock
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
from baselines import free_port

START_S: Final = 600.0
STOP_S: Final = 20.0


class Proxy(NamedTuple):
    """A proxy that runs: where it listens, and its process."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


def deployment(model: str, provider_url: str) -> dict[str, Any]:
    """What the proxy is told of a model that an OpenAI-compatible provider serves."""
    return {"model": f"openai/{model}", "api_base": f"{provider_url}/v1", "api_key": "none"}


@asynccontextmanager
async def litellm(
    python: str, configuration: Mapping[str, Any], folder: Path, *, key: str, **environ: str
) -> AsyncIterator[Proxy]:
    """The proxy of the environment whose interpreter ``python`` is, ready; ``key`` is its own, ``environ`` what its
    hooks read. What it says is in the folder.

    Raises:
        RuntimeError: it ended instead of coming up; the message has its last words.
        TimeoutError: it did not come up in ten minutes.
    """
    port = free_port()
    (folder / "config.yaml").write_text(json.dumps(configuration))  # JSON is YAML
    surroundings = {
        **os.environ, "LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR",
        **environ,
    }  # fmt: skip
    command = [str(Path(python).parent / "litellm"), "--config", "config.yaml", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--telemetry", "False"]
    log = folder / "litellm.log"
    with log.open("wb") as said:
        process = await asyncio.create_subprocess_exec(*command, cwd=folder, env=surroundings, stdout=said, stderr=said)
    try:
        async with asyncio.timeout(START_S):
            while not await answers(f"http://127.0.0.1:{port}/health/liveliness"):
                if process.returncode is not None:
                    raise RuntimeError(f"the proxy does not come up: {log.read_text()[-2000:]}")
                await asyncio.sleep(0.5)
        yield Proxy(port, process.pid)
    finally:
        await _end(process)


async def answers(url: str) -> bool:
    """Whether what listens there answers with 200."""
    async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
        try:
            return (await http.get(url)).status_code == 200
        except httpx.HTTPError:
            return False


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()
