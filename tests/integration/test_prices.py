"""The published wrong bills and what else costs money, posted to ingest, through Kafka, into ClickHouse: right to the
last digit, shared to the last digit, and priced anew without a row of the log or the table being touched."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from flywheel.events import topics
from flywheel.local.topic_admin import create_topics
from flywheel.testkit.draining import ask_sql

from .test_rebuild import WAIT_S, edges, recorder

pytest_plugins = ["flywheel.local.fixtures"]
pytestmark = [pytest.mark.broker, pytest.mark.timeout(500)]

PUBLISHED = runpy.run_path(str(Path(__file__).parents[2] / "libs/pricing/tests/test_pricing_bills.py"))["BILLS"]
OWN = """
- id: vllm
  models: [{id: qwen3-8b, prices: {pool_seconds: 0.0004}}]
"""
NEWER = (
    OWN
    + """
- id: acme
  models: [{id: acme-1, prices: {input_mtok: 3, output_mtok: 7}}]
- id: openai
  models: [{id: gpt-4o, prices: {input_mtok: 2, cache_read_mtok: 1, output_mtok: 8}}]
"""
)
THIRDS = {"cx": "0.333333333", "search": "0.333333333", "sales": "0.333333334"}


@contextmanager
def ingest(bootstrap: str, folder: Path) -> Iterator[str]:
    """An ingest process with own prices; yields its address once Kafka answers it."""
    folder.mkdir()
    (folder / "own.yaml").write_text(OWN)
    environment = {
        "FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap,
        "FLYWHEEL_STATE_DIR": str(folder),
        "FLYWHEEL_PORT": "0",
        "FLYWHEEL_PORT_FILE": str(folder / "ports.json"),
        "FLYWHEEL_PRICE_FILE": str(folder / "own.yaml"),
    }
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "flywheel_ingest"]
        process = subprocess.Popen(command, env=os.environ | environment, stderr=log, stdout=log)
    try:
        yield until(lambda: _ready(folder / "ports.json"), (folder / "log").read_text)
    finally:
        process.terminate()
        process.wait(30)


def _ready(ports: Path) -> str | None:
    try:
        url = f"http://127.0.0.1:{json.loads(ports.read_text())['ports']['http']}"
        return url if httpx.get(f"{url}/ready").status_code == 200 else None
    except (OSError, ValueError, KeyError, httpx.HTTPError):
        return None


def until(found: Any, why: Any) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (answer := found()):
        assert time.monotonic() < deadline, why()
        time.sleep(0.2)
    return answer


def flywheel(environment: dict[str, str], *arguments: str) -> Any:
    """What a command says with --json."""
    ended = subprocess.run(
        [sys.executable, "-m", "flywheel.cli", *arguments, "--json"],
        env=os.environ | environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def items(now_us: int) -> dict[str, tuple[dict[str, Any], str | None]]:
    """Calls by their ids, and what each costs."""
    made: dict[str, tuple[dict[str, Any], str | None]] = {}
    for parameters in PUBLISHED:
        provider, model, usage, bill = parameters.values
        made[parameters.id] = ({"provider": provider, "request_model": model, "usage": usage, "team": "cx"}, bill)
    chat = {"prompt_tokens": 7, "completion_tokens": 3}
    gpt = {"provider": "openai", "request_model": "gpt-4o"}
    acme = {"provider": "acme", "request_model": "acme-1"}
    made["shared"] = ({**gpt, "usage": chat, "shares": THIRDS}, "0.0000475")
    made["curie-547-unknown"] = ({**acme, "usage": chat, "team": "search"}, None)
    made["free"] = ({**gpt, "usage": {"prompt_tokens": 0, "completion_tokens": 0}}, "0")
    made["pool"] = ({"provider": "vllm", "request_model": "qwen3-8b", "pool_seconds": "0.125"}, "0.00005")
    made["contradiction"] = ({**gpt, "input_tokens": 1, "cache_read_tokens": 2, "usage_convention": "INCLUSIVE"}, None)
    common = {"occurred_at": now_us, "status": "ok"}
    return {
        name: ({**item, **common, "event_id": name, "request_id": name}, cost) for name, (item, cost) in made.items()
    }


def span(now_us: int) -> dict[str, Any]:
    """The first published bill as an OpenTelemetry span."""
    said = {"input_tokens": 9, "output_tokens": 22, "reasoning.output_tokens": 21}
    texts = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "gemini-2.5-flash",
    }
    attributes = [{"key": f"gen_ai.usage.{key}", "value": {"intValue": str(count)}} for key, count in said.items()]
    attributes += [{"key": key, "value": {"stringValue": text}} for key, text in texts.items()]
    one = {
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
        "spanId": "00f067aa0ba902b7",
        "name": "chat",
        "startTimeUnixNano": str(now_us * 1000),
        "endTimeUnixNano": str(now_us * 1000 + 1_000_000),
        "attributes": attributes,
    }
    return {"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]}


def costs(url: str, view: str) -> dict[str, Decimal | None]:
    rows = ask_sql(url, f"SELECT event_id, toString(cost_usd) FROM {view}")
    return {name: None if cost is None else Decimal(cost) for name, cost in rows}


async def test_every_bill_is_right_to_the_last_digit_and_can_be_priced_anew(private_kafka: Any, tmp_path: Path) -> None:
    bootstrap, now_us = private_kafka().bootstrap, time.time_ns() // 1000
    await create_topics(bootstrap, topics().values())
    posted = items(now_us)
    right = {name: None if cost is None else Decimal(cost) for name, (_, cost) in posted.items()}
    with ingest(bootstrap, tmp_path / "ingest") as taking, recorder(bootstrap, tmp_path / "recorder") as sql:
        async with httpx.AsyncClient(base_url=taking, timeout=30) as http:
            answer = await http.post("/v1/calls", json=[item for item, _ in posted.values()])
            assert answer.status_code == 200, answer.text
            assert (await http.post("/v1/traces", json=span(now_us))).json() == {}
        until(lambda: len(costs(sql, "v_calls")) == len(posted) + 1, lambda: sorted(costs(sql, "v_calls")))
        (traced,) = costs(sql, "v_calls").keys() - right.keys()
        right[traced] = Decimal("0.0000577")
        assert costs(sql, "v_calls") == costs(sql, "v_costs") == right

        versions = ask_sql(sql, "SELECT DISTINCT price_source, cost_usd IS NULL FROM v_calls ORDER BY 1, 2")
        assert {source for source, unknown in versions if not unknown} == {"genai-prices", "own", "provider"}
        assert ask_sql(sql, "SELECT count() FROM v_calls WHERE cost_source = 'LOCAL' AND price_version IS NULL") == [
            [0]
        ]

        environment = {"FLYWHEEL_CLICKHOUSE_URL": sql, "FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap}
        period = ("--from", "2026-01-01", "--to", "2100-01-01")
        told = flywheel(environment, "showback", *period)
        whole = sum((cost for cost in right.values() if cost is not None), Decimal(0))
        assert Decimal(told["total"]["cost_usd"]) == whole
        assert sum(Decimal(row["cost_usd"] or 0) for row in told["rows"]) == whole
        assert sum(Decimal(row["calls"]) for row in told["rows"]) == len(right)
        by_team = {row["team"]: row for row in told["rows"]}
        parts = {team: Decimal(by_team[team]["cost_usd"]) for team in ("search", "sales")}
        assert parts == {"search": Decimal("0.000015833334"), "sales": Decimal("0.000015833333")}
        assert by_team["search"]["calls"] == "1.333333333"
        assert by_team["search"]["unpriced_share"] == pytest.approx(1 / 1.333333333)
        assert len(flywheel(environment, "showback", *period, "--by", "model", "--by", "prompt")["rows"]) > 3

        log_before = await edges(bootstrap, ["llm-calls"])
        (tmp_path / "newer.yaml").write_text(NEWER)
        command = ("reprice", *period, "--prices", str(tmp_path / "newer.yaml"))
        trial = flywheel(environment, *command)
        assert (trial["applied"], trial["verdicts"]["changed"], trial["unpriced_before"]) == (False, 3, 2)
        count = "SELECT count() FROM v_reprices"
        assert ask_sql(sql, count) == [[0]]
        applied = flywheel(environment, *command, "--apply")
        assert applied["verdicts"] == trial["verdicts"]
        until(
            lambda: ask_sql(sql, "SELECT count() FROM v_reprices") == [[3]],
            lambda: ask_sql(sql, "SELECT * FROM v_reprices"),
        )

        newer = right | {
            "shared": Decimal("0.000038"),
            "langfuse-10592": Decimal("0.017989"),
            "curie-547-unknown": Decimal("0.000042"),
        }
        assert costs(sql, "v_costs") == newer
        assert costs(sql, "v_calls") == right
        assert await edges(bootstrap, ["llm-calls"]) == log_before
        again = flywheel(environment, *command, "--apply")
        assert again["verdicts"].get("changed", 0) == 0
        told = flywheel(environment, "showback", *period)
        assert Decimal(told["total"]["cost_usd"]) == sum((c for c in newer.values() if c is not None), Decimal(0))

        flywheel(environment, "reprice", *period, "--apply")
        until(lambda: costs(sql, "v_costs") == right | {"curie-547-unknown": newer["curie-547-unknown"]},
              lambda: costs(sql, "v_costs"))  # fmt: skip
        assert ask_sql(sql, "SELECT rows, surplus_rows FROM v_audit WHERE table = 'reprices'") == [[5, 0]]
