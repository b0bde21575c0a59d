"""Own prices are taken when the file changes or on SIGHUP; a broken file leaves the old ones and says so."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import ingest_parts as parts
import orjson
import pytest

from flywheel_ingest.http import Ingest
from flywheel_ingest.price_file import PriceFile, PriceFileBroken, follow_prices, hung_up

OURS = "- {{id: openai, models: [{{id: gpt-4o, prices: {{input_mtok: {0}, output_mtok: {0}}}}}]}}"
CALL = {
    "request_id": "r",
    "occurred_at": parts.NOW_US,
    "provider": "openai",
    "request_model": "gpt-4o",
    "input_tokens": 1_000_000,
    "output_tokens": 0,
}


async def cost(ingest: Ingest, broker: parts.Broker) -> tuple[str, str, str]:
    """What a new call costs, whose price that is and which."""
    number = len(broker.values())
    async with parts.client(ingest) as client:
        body = orjson.dumps([{**CALL, "attempt": number + 1}])
        assert (await client.post("/v1/calls", content=body, headers=parts.JSON)).status_code == 200
    event = broker.values()[-1]
    return f"{event['cost_usd'].normalize():f}", event["price_source"], event["price_version"]


@asynccontextmanager
async def following(file: PriceFile, ingest: Ingest, *, every_s: float) -> AsyncIterator[None]:
    task = asyncio.create_task(
        follow_prices(file, ingest.use_prices, ingest.metrics, hung_up(), every_s=every_s), name="follow"
    )
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)


async def until(ingest: Ingest, result: str, count: int) -> None:
    async with asyncio.timeout(120):
        while ingest.metrics.value("ingest_price_file_reads_total", result=result) < count:
            await asyncio.sleep(0.01)


def replace_file(path: Path, text: str) -> None:
    """As editors and mounted configuration do: a new file in place of the old."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


async def test_prices_follow_the_file_and_survive_a_broken_one(tmp_path: Path) -> None:
    broker, path = parts.Broker(), tmp_path / "own.yaml"
    path.write_text(OURS.format(1))
    ingest, file = await parts.ingest(broker, tmp_path / "state"), PriceFile(path)
    ingest.use_prices(file.read())
    first = await cost(ingest, broker)
    assert first[:2] == ("1", "own")
    async with following(file, ingest, every_s=0.01):
        replace_file(path, OURS.format(2))
        await until(ingest, "loaded", 1)
        second = await cost(ingest, broker)
        assert second[:2] == ("2", "own")
        assert second[2] != first[2]
        for times, broken in enumerate(["- {id: openai, models: [{id: x, prices: {input: 1}}]}", "[", "\x00"], 1):
            replace_file(path, broken)
            await until(ingest, "broken", times)
            assert await cost(ingest, broker) == second
        assert ingest.metrics.value("ingest_price_file_broken") == 1
        path.unlink()
        await until(ingest, "broken", 4)
        assert await cost(ingest, broker) == second
        path.write_text(OURS.format(3))
        await until(ingest, "loaded", 2)
        assert (await cost(ingest, broker))[0] == "3"
        assert ingest.metrics.value("ingest_price_file_broken") == 0


async def test_a_signal_has_the_file_read_at_once(tmp_path: Path) -> None:
    broker, path = parts.Broker(), tmp_path / "own.yaml"
    path.write_text(OURS.format(1))
    ingest, file = await parts.ingest(broker, tmp_path / "state"), PriceFile(path)
    ingest.use_prices(file.read())
    async with following(file, ingest, every_s=3600):
        await asyncio.sleep(0)  # the handler is there once the task has begun
        path.write_text(OURS.format(2))
        os.kill(os.getpid(), signal.SIGHUP)
        await until(ingest, "loaded", 1)
        assert (await cost(ingest, broker))[0] == "2"


def test_a_file_that_cannot_be_used_is_named_with_its_fields(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    with pytest.raises(PriceFileBroken, match=r"own\.yaml: No such file"):
        PriceFile(path).read()
    path.write_text("- {id: openai, models: [{id: x, prices: {input_mtok: -1}}]}")
    with pytest.raises(PriceFileBroken, match=r"0\.models\.0\.prices.*input_mtok"):
        PriceFile(path).read()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PriceFileBroken, match="UTF-8"):
        PriceFile(path).read()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(PriceFileBroken, match="is no file"):
        PriceFile(pipe).read()
    with path.open("wb") as large:
        large.truncate(9 << 20)
    with pytest.raises(PriceFileBroken, match="longer than"):
        PriceFile(path).read()


def test_ingest_does_not_start_on_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("- {id: openai, models: []}")
    environment = {"FLYWHEEL_PRICE_FILE": str(path), "FLYWHEEL_STATE_DIR": str(tmp_path), "FLYWHEEL_PORT": "0"}
    ended = subprocess.run(
        [sys.executable, "-m", "flywheel_ingest"],
        env=os.environ | environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert f"ingest: price file {path}: 0.models" in ended.stderr
    assert "Traceback" not in ended.stderr
