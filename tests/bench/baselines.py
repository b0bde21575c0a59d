"""What our figures stand beside, measured in the same run: an ASGI app that does nothing, and a bare aiokafka loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiokafka
import httpx

from flywheel.events import Codec, load_registry

_BODY = b'{"ok":true}'
Message = dict[str, Any]


async def empty_app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Any]) -> None:
    """The least an ASGI app can do: read the body, answer 200 with eleven bytes."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _BODY})


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class ProxyApp:
    """The least a proxy can do: hand the body to ``UPSTREAM_URL`` over httpx, and the answer back."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Any]
    ) -> None:
        if scope["type"] != "http":
            return
        if self._client is None:
            self._client = httpx.AsyncClient(trust_env=False, timeout=60)
        message = await receive()
        body = message["body"]
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        headers = {"content-type": "application/json", "authorization": "Bearer none"}
        reply = await self._client.post(os.environ["UPSTREAM_URL"] + scope["path"], content=body, headers=headers)
        said = [(b"content-type", b"application/json"), (b"content-length", str(len(reply.content)).encode())]
        await send({"type": "http.response.start", "status": reply.status_code, "headers": said})
        await send({"type": "http.response.body", "body": reply.content})


proxy_app = ProxyApp()


@contextlib.asynccontextmanager
async def asgi_server(app: str = "empty_app", **environ: str) -> AsyncIterator[tuple[int, int]]:
    """Run an app of this module in a process of its own under uvicorn, as our services run; yields port and pid."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", f"baselines:{app}", "--port", str(port), "--no-access-log"]
    command += ["--log-level", "warning", "--loop", "uvloop", "--http", "httptools", "--app-dir"]
    process = await asyncio.create_subprocess_exec(*command, str(Path(__file__).parent), env={**os.environ, **environ})
    try:
        await until_open(port, 300)
        yield port, process.pid
    finally:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def empty_asgi_server() -> AsyncIterator[int]:
    """Run `empty_app` in a process of its own; yields its port."""
    async with asgi_server() as (port, _):
        yield port


async def until_open(port: int, seconds: float = 20.0) -> None:
    """Wait until something listens on a port of loopback. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return


async def bare_consume(bootstrap: str, topics: list[str], count: int) -> float:
    """Events a second of the plainest loop: ``getmany``, decode, commit. Reads ``count`` events from the beginning."""
    codec = Codec(load_registry())
    consumer = aiokafka.AIOKafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap,
        group_id=f"bare-{time.time_ns()}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        seen, started = 0, 0.0
        while seen < count:
            batches = await consumer.getmany(timeout_ms=1000, max_records=5000)
            started = started or time.perf_counter()
            for records in batches.values():
                for record in records:
                    codec.decode(record.value)
                seen += len(records)
            await consumer.commit()
        return seen / (time.perf_counter() - started)
    finally:
        await consumer.stop()
