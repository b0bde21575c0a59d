"""The HTTP side of every service: ``/live``, ``/ready``, ``/metrics``, and serving an app on a port that may be
chosen free."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flywheel.observe.health import Health, Part
from flywheel.observe.logs import logger
from flywheel.observe.metrics import CONTENT_TYPE, Metrics

PORT_FILE_ENV = "FLYWHEEL_PORT_FILE"


def operations_routes(health: Health, metrics: Metrics) -> list[Route]:
    """``/live``, ``/ready`` (JSON; 200, or 503 with the parts that are not) and ``/metrics``, to add to an app of
    one's own."""

    async def live(_: Request) -> Response:
        return _report(health.live, "live", "stuck", health.live_parts())

    async def ready(_: Request) -> Response:
        if not health.live:
            return _report(False, "ready", "stuck", {**health.ready_parts(), **health.live_parts()})
        return _report(health.ready, "ready", "not ready", health.ready_parts())

    async def exposition(_: Request) -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    return [Route("/live", live), Route("/ready", ready), Route("/metrics", exposition)]


def operations_app(health: Health, metrics: Metrics) -> Starlette:
    """An ASGI app of nothing but the operations routes."""
    return Starlette(routes=operations_routes(health, metrics))


def _report(ok: bool, good: str, bad: str, parts: Mapping[str, Part]) -> Response:
    body = {
        "status": good if ok else bad,
        "parts": {name: {"ok": part.ok, "detail": part.detail} for name, part in sorted(parts.items())},
    }
    return Response(orjson.dumps(body), status_code=200 if ok else 503, media_type="application/json")


def announce_port(port: int, *, name: str = "http", host: str = "127.0.0.1") -> None:
    """Say where this process listens: one log line ``{"event": "listening", "name": …, "port": …}``, and, when
    ``FLYWHEEL_PORT_FILE`` is set, that file as ``{"port": <http port>, "pid": …, "ports": {"http": …, "grpc": …,
    "ops": …}}``.

    The file is replaced whole, so a reader never sees half of it.
    """
    logger("observe.http").info("listening", name=name, host=host, port=port)
    target = os.environ.get(PORT_FILE_ENV)
    if not target:
        return
    path = Path(target)
    ports: dict[str, int] = {}
    with contextlib.suppress(OSError, orjson.JSONDecodeError):
        found = orjson.loads(path.read_bytes())
        # A file left by an earlier process says nothing about this one.
        ports = found["ports"] if found.get("pid") == os.getpid() else {}
    ports[name] = port
    main = ports.get("http", port)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(f"{path.suffix}.{os.getpid()}")
    half.write_bytes(orjson.dumps({"port": main, "pid": os.getpid(), "ports": ports}))
    half.replace(path)


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set ``stop`` at SIGTERM or SIGINT, so that a service can drain instead of dying."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, stop.set)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: who serves decides when to stop, so that the rest can drain first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one. Raises ``OSError`` naming the address when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(1024)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"listening on {host}:{port}: {error.strerror}") from error
    return sock


async def serve(
    app: Any,
    host: str,
    port: int,
    *,
    name: str = "http",
    http: Any = "httptools",
    on_started: Callable[[int], None] | None = None,
    stop: asyncio.Event | None = None,
    grace_s: float = 5.0,
) -> None:
    """Serve an ASGI app until ``stop`` is set, or, without ``stop``, until SIGTERM or SIGINT; or until cancelled.

    ``http`` is uvicorn's name of an HTTP protocol, or a class of one. Announces the bound port (``announce_port``),
    then calls ``on_started(port)``. Requests under way get ``grace_s`` seconds. Raises ``OSError``
    when the port is taken. Prints nothing on stdout.
    """
    sock = bind(host, port)
    bound = int(sock.getsockname()[1])
    server = _Server(
        uvicorn.Config(
            app,
            http=http,
            loop="none",
            ws="none",
            lifespan="auto",
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=max(1, round(grace_s)),
        )
    )
    if stop is None:
        stop = asyncio.Event()
        stop_on_signals(stop)
    serving = asyncio.create_task(server.serve(sockets=[sock]), name=f"serve-{name}")
    stopping = asyncio.create_task(stop.wait(), name=f"stop-{name}")
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110  uvicorn tells of its start by a flag alone
            await asyncio.sleep(0.005)
        if server.started:
            announce_port(bound, name=name, host=host)
            if on_started is not None:
                on_started(bound)
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        server.should_exit = True
        await asyncio.wait({serving}, timeout=grace_s + 2)
        serving.cancel()
        sock.close()
    if serving.done() and not serving.cancelled():
        serving.result()
