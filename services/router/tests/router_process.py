"""The router as a process of its own, for the tests with a broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from flywheel.events import Codec, load_registry
from flywheel.stream import KafkaBus, Output, Publisher


class Process:
    """``python -m flywheel_router`` on free ports."""

    def __init__(self, bootstrap: str, folder: Path, **environ: str) -> None:
        self.environ = {
            **os.environ, "FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap, "FLYWHEEL_STATE_DIR": str(folder),
            "FLYWHEEL_PORT": "0", "FLYWHEEL_GRPC_PORT": "0", **environ,
        }  # fmt: skip
        self.log = folder.parent / "router.log"
        self.url = ""
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self, *, until_ready: bool = True) -> None:
        """Start it and learn its port from its log."""
        before = self.log.stat().st_size if self.log.exists() else 0
        self.process = self._spawn()
        async with asyncio.timeout(120):
            while not (port := self._port(before)):
                assert self.process.poll() is None, self.log.read_text()
                await asyncio.sleep(0.05)
            self.url = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient() as http:
                while until_ready and (await http.get(f"{self.url}/ready")).status_code != 200:
                    await asyncio.sleep(0.05)

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "flywheel_router"]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, env=self.environ, stdout=subprocess.DEVNULL, stderr=log)

    def _port(self, before: int) -> int | None:
        for line in self.log.read_bytes()[before:].splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("event") == "listening" and entry.get("name") == "http":
                    return int(entry["port"])
        return None

    def kill(self) -> None:
        """End it with -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """End it as an operator would; returns its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=120)


@contextlib.asynccontextmanager
async def running(bootstrap: str, folder: Path, **environ: str) -> AsyncIterator[Process]:
    process = Process(bootstrap, folder, **environ)
    try:
        await process.start()
        yield process
    finally:
        if process.process is not None and process.process.poll() is None:
            process.kill()


async def publish(bootstrap: str, *events: Mapping[str, Any]) -> None:
    publisher = Publisher(KafkaBus(bootstrap), Codec(load_registry()), source="bandit")
    await publisher.start()
    await publisher.publish([Output("policies", f"{e['project']}/{e['feature']}", "policy", e) for e in events])
    await publisher.stop()
