"""Ready means that SQL is answered: who waits for readiness may ask at once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from flywheel_recorder.settings import RecorderSettings
from flywheel_recorder.wiring import run


async def ready_part(http: httpx.AsyncClient, ports: Path, part: str) -> bool:
    """What ``/ready`` says of a part; False while nothing answers there."""
    if not ports.exists():
        return False
    port = json.loads(ports.read_text())["ports"]["ops"]
    parts = (await http.get(f"http://127.0.0.1:{port}/ready")).json()["parts"]
    return bool(parts[part]["ok"])


@pytest.mark.timeout(120)
async def test_sql_is_answered_from_the_moment_it_is_said_to_be_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = tmp_path / "ports.json"
    monkeypatch.setenv("FLYWHEEL_PORT_FILE", str(ports))
    settings = RecorderSettings(
        kafka_bootstrap="127.0.0.1:1",  # nobody: this part of readiness is not Kafka's affair
        state_dir=tmp_path / "state",
        clickhouse_path=tmp_path / "clickhouse",
        port=0,
        ops_port=0,
    )
    running = asyncio.create_task(run(settings))
    try:
        async with httpx.AsyncClient() as http, asyncio.timeout(100):
            while not await ready_part(http, ports, "sql"):
                await asyncio.sleep(0.002)
            port = json.loads(ports.read_text())["ports"]["http"]
            answer = await http.post(f"http://127.0.0.1:{port}/", content="SELECT 1")
            assert (answer.status_code, answer.text.strip()) == (200, "1")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
