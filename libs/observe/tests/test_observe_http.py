"""Serving: a free port is found and announced, requests under way end, a taken port is named."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from flywheel.observe import Health, Metrics, announce_port, bind, operations_app, serve


async def test_a_free_port_is_announced_and_written_to_the_port_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run" / "port.json"
    monkeypatch.setenv("FLYWHEEL_PORT_FILE", str(file))
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    health = Health()
    serving = asyncio.create_task(
        serve(operations_app(health, Metrics()), "127.0.0.1", 0, on_started=started.set_result, stop=stop)
    )
    port = await started
    announce_port(4000, name="grpc")
    assert json.loads(file.read_text()) == {"port": port, "pid": os.getpid(), "ports": {"http": port, "grpc": 4000}}
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{port}/live")).status_code == 200
    stop.set()
    await serving
    bind("127.0.0.1", port).close()
    assert capsys.readouterr().out == ""


async def test_a_request_under_way_is_answered_before_the_end() -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> Response:
        entered.set()
        await release.wait()
        return PlainTextResponse("done")

    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    app = Starlette(routes=[Route("/", slow)])
    serving = asyncio.create_task(serve(app, "127.0.0.1", 0, on_started=started.set_result, stop=stop))
    async with httpx.AsyncClient() as client:
        asking = asyncio.create_task(client.get(f"http://127.0.0.1:{await started}/"))
        await entered.wait()
        stop.set()
        await asyncio.sleep(0)
        release.set()
        assert (await asking).text == "done"
    await serving


async def test_without_a_stop_event_sigterm_ends_it() -> None:
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    app = operations_app(Health(), Metrics())
    serving = asyncio.create_task(serve(app, "127.0.0.1", 0, on_started=started.set_result))
    await started
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, 120)


async def test_cancelling_frees_the_port() -> None:
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    app = operations_app(Health(), Metrics())
    serving = asyncio.create_task(serve(app, "127.0.0.1", 0, on_started=started.set_result, stop=asyncio.Event()))
    port = await started
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    bind("127.0.0.1", port).close()


def test_a_taken_port_is_named() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"listening on 127.0.0.1:{port}"):
            bind("127.0.0.1", port)


def test_the_port_file_of_an_earlier_process_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "port.json"
    file.write_text(json.dumps({"port": 1, "pid": os.getpid() + 1, "ports": {"http": 1}}))
    monkeypatch.setenv("FLYWHEEL_PORT_FILE", str(file))
    announce_port(7, name="ops")
    assert json.loads(file.read_text())["ports"] == {"ops": 7}
