"""Ingest over HTTP: statuses, limits, what is promised and when."""

from __future__ import annotations

import asyncio
import gzip
import stat
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from ingest_parts import JSON, NOW_US, Broker, Gated, client, ingest

from flywheel.events import header
from flywheel_ingest.adapters import KafkaFactLog, RedactedLog, user_hash_key, user_hasher

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def broker() -> Broker:
    return Broker()


def call(**fields: Any) -> dict[str, Any]:
    return {"request_id": "r1", "occurred_at": NOW_US, "provider": "openai", "request_model": "gpt-4o", **fields}


async def test_a_mixed_batch_gets_a_verdict_for_each_item(broker: Broker, tmp_path: Path) -> None:
    async with client(await ingest(broker, tmp_path)) as http:
        answer = await http.post("/v1/calls", json={"items": [call(event_id="a"), call(input_tokens=-1), call()]})
    assert answer.status_code == 207
    said = answer.json()
    assert (said["accepted"], said["duplicate"], said["rejected"]) == (2, 0, 1)
    assert said["items"][1] == {
        "index": 1,
        "event_id": None,
        "status": "rejected",
        "errors": [{"field": "input_tokens", "message": "Input should be greater than or equal to 0"}],
    }
    assert [value["event_id"] for value in broker.values()] == [
        said["items"][0]["event_id"],
        said["items"][2]["event_id"],
    ]


async def test_a_bare_list_feedback_and_evaluations(broker: Broker, tmp_path: Path) -> None:
    said = {"request_id": "r", "occurred_at": NOW_US}
    async with client(await ingest(broker, tmp_path)) as http:
        assert (await http.post("/v1/calls", json=[call()])).status_code == 200
        thumbs = await http.post("/v1/feedback", json=[{**said, "kind": "user.thumb", "value": 1}])
        judged = await http.post("/v1/evaluations", json=[{**said, "evaluator": "judge", "score": 0.5}])
    assert (thumbs.status_code, judged.status_code) == (200, 200)
    for topic in ("llm-calls", "llm-feedback", "llm-evaluations"):
        (value,) = broker.values(topic)
        assert value["occurred_at"] == NOW_US


async def test_nothing_is_answered_before_the_log_acknowledged(broker: Broker, tmp_path: Path) -> None:
    service = await ingest(broker, tmp_path)
    held = Gated(service.log)
    async with client(replace(service, log=held)) as http:
        posting = asyncio.create_task(http.post("/v1/calls", json=[call()]))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not posting.done()
        held.gate.set()
        assert (await posting).status_code == 200
    assert len(broker.values()) == 1


async def test_kafka_away_is_503_and_the_same_batch_goes_through_later(broker: Broker, tmp_path: Path) -> None:
    service = await ingest(broker, tmp_path)
    broker.bus.refused.add("llm-calls")
    async with client(service) as http:
        away = await http.post("/v1/calls", json=[call(event_id="a")])
        assert (away.status_code, away.headers["retry-after"]) == (503, "1")
        assert away.json()["error"]["field"] == "kafka"
        assert (await http.get("/ready")).status_code == 503
        broker.bus.refused.clear()
        assert (await http.post("/v1/calls", json=[call(event_id="a")])).json()["accepted"] == 1
        assert (await http.post("/v1/calls", json=[call(event_id="a")])).json()["duplicate"] == 1
        assert isinstance(service.log, RedactedLog)
        assert isinstance(service.log.behind, KafkaFactLog)
        assert await service.log.behind.ask()
        assert (await http.get("/ready")).status_code == 200
    assert len(broker.values()) == 1
    assert service.metrics.value("ingest_items_total", kind="call", verdict="unavailable") == 1
    assert service.metrics.value("ingest_items_total", kind="call", verdict="accepted") == 1
    assert service.metrics.value("ingest_items_total", kind="call", verdict="duplicate") == 1


async def test_a_batch_without_a_good_item_does_not_need_kafka(broker: Broker, tmp_path: Path) -> None:
    broker.bus.refused.add("llm-calls")
    async with client(await ingest(broker, tmp_path)) as http:
        assert (await http.post("/v1/calls", json=[{}])).status_code == 422
        assert (await http.post("/v1/calls", json=[])).status_code == 200


async def test_gzip_bodies(broker: Broker, tmp_path: Path) -> None:
    body = orjson.dumps([call()])
    halves = gzip.compress(body[:20]) + gzip.compress(body[20:])
    async with client(await ingest(broker, tmp_path)) as http:
        for sent in (gzip.compress(body), halves):
            answer = await http.post("/v1/calls", content=sent, headers={**JSON, "content-encoding": "gzip"})
            assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "body", "told"),
    [
        ({"content-type": "text/plain"}, b"[]", (415, "content-type")),
        ({}, b"[]", (415, "content-type")),
        ({"content-type": "application/json; charset=utf-16"}, b"[]", (415, "content-type")),
        ({**JSON, "content-encoding": "br"}, b"[]", (415, "content-encoding")),
        ({**JSON, "content-encoding": "gzip"}, b"[]", (400, "body")),
        ({**JSON, "content-encoding": "gzip"}, gzip.compress(b"[]", mtime=0)[:-3], (400, "body")),
        ({**JSON, "content-encoding": "gzip"}, gzip.compress(b"[]", mtime=0) + b"tail", (400, "body")),
        ({**JSON, "content-encoding": "gzip"}, zlib.compress(b"[]"), (400, "body")),
        (JSON, b"", (400, "body")),
        (JSON, b"  ", (400, "body")),
        (JSON, b"{}", (400, "items")),
        (JSON, b'{"items":{}}', (400, "items")),
        (JSON, b'{"items":[],"more":1}', (400, "more")),
        (JSON, b"7", (400, "items")),
        (JSON, b'"x"', (400, "items")),
        (JSON, b"[", (400, "body")),
        (JSON, b'[{"a":"b]', (400, "body")),
        (JSON, b"[}", (400, "body")),
        (JSON, b"[] []", (400, "body")),
        (JSON, b"nonsense", (400, "body")),
        (JSON, b"[" + b"{}," * 2_000 + b"{}]", (413, "items")),
    ],
)
async def test_requests_that_are_turned_away(
    broker: Broker, tmp_path: Path, headers: dict[str, str], body: bytes, told: tuple[int, str]
) -> None:
    async with client(await ingest(broker, tmp_path)) as http:
        answer = await http.post("/v1/calls", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["field"]) == told
    assert answer.json()["error"]["message"]
    assert broker.values() == []


async def test_a_body_above_the_limit_is_refused_while_it_streams(broker: Broker, tmp_path: Path) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1024
            yield b"[" * 1024

    async with client(await ingest(broker, tmp_path, max_body_bytes=10_000)) as http:
        announced = await http.post("/v1/calls", content=b"[" * 10_001, headers=JSON)
        assert (announced.status_code, announced.json()["error"]["field"]) == (413, "body")
        chunked = await http.post("/v1/calls", content=endless(), headers=JSON)
        assert chunked.status_code == 413
    assert sent <= 12_000


async def test_a_small_body_that_inflates_to_a_large_one_is_refused(broker: Broker, tmp_path: Path) -> None:
    bomb = gzip.compress(b"[" + b" " * 10_000_000 + b"]")
    assert len(bomb) < 20_000
    service = await ingest(broker, tmp_path, max_inflated_bytes=100_000)
    async with client(service) as http:
        answer = await http.post("/v1/calls", content=bomb, headers={**JSON, "content-encoding": "gzip"})
    assert answer.status_code == 413
    assert "inflates to more than 100000" in answer.json()["error"]["message"]


async def test_a_body_that_does_not_come_is_given_up(broker: Broker, tmp_path: Path) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"["
        await asyncio.sleep(60)

    async with client(await ingest(broker, tmp_path, body_timeout_s=0.05)) as http:
        assert (await http.post("/v1/calls", content=stalled(), headers=JSON)).status_code == 408


async def test_bytes_under_way_are_bounded_and_given_back(broker: Broker, tmp_path: Path) -> None:
    body = orjson.dumps([call()])
    service = await ingest(broker, tmp_path, max_in_flight_bytes=1024)
    held = Gated(service.log)
    async with client(replace(service, log=held)) as http:
        waiting = [asyncio.create_task(http.post("/v1/calls", content=body, headers=JSON)) for _ in range(20)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert {each.result().status_code for each in done} == {503}
        held.gate.set()
        answers = await asyncio.gather(*waiting)
        assert sorted({answer.status_code for answer in answers}) == [200, 503]
        assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 503)
        assert (await http.post("/v1/calls", content=body, headers=JSON)).status_code == 200


async def test_one_unreadable_value_costs_one_item(broker: Broker, tmp_path: Path) -> None:
    good = orjson.dumps(call(event_id="good"))
    bad = {
        b'{"request_id":"r","temperature":NaN}': "temperature",
        b'{"request_id":"r","feature":"\xff\xfe"}': "feature",
        b'{"request_id":"r","team":"\\ud800"}': "team",
        b'{"request_id":"r","attributes":' + b"[" * 3_000 + b"]" * 3_000 + b"}": "attributes",
        b'{"request_id" "r"}': "items[5]",
        b"Infinity": "items[6]",
    }
    async with client(await ingest(broker, tmp_path)) as http:
        answer = await http.post("/v1/calls", content=b"[" + good + b"," + b",".join(bad) + b"]", headers=JSON)
    said = answer.json()
    assert (said["accepted"], said["rejected"]) == (1, len(bad))
    named = [item["errors"][0]["field"] for item in said["items"][1:]]
    assert named[:4] == list(bad.values())[:4]
    assert named[5] == "items[6]"


async def test_the_trace_goes_on_into_the_log(broker: Broker, tmp_path: Path) -> None:
    async with client(await ingest(broker, tmp_path)) as http:
        await http.post("/v1/calls", json=[call()], headers={"traceparent": TRACEPARENT})
        await http.post("/v1/calls", json=[call(attempt=2)])
    first, second = (header(record.headers, "traceparent") for record in broker.bus.records("llm-calls"))
    assert first is not None
    assert first.split("-")[1] == TRACEPARENT.split("-")[1]
    assert second is None


async def test_records_carry_the_request_as_key_and_the_envelope(broker: Broker, tmp_path: Path) -> None:
    async with client(await ingest(broker, tmp_path)) as http:
        said = (await http.post("/v1/calls", json=[call(input_text="hi", request_id="rätsel")])).json()
    (record,), (content,) = (broker.bus.records(topic) for topic in ("llm-calls", "llm-content"))
    assert record.key == content.key == "rätsel".encode()
    assert record.partition == content.partition
    assert header(record.headers, "ce_id") == said["items"][0]["event_id"]
    assert header(record.headers, "ce_type") == "flywheel.llm_call"
    assert header(record.headers, "ce_source") == "flywheel/ingest"
    assert b"hi" not in (record.value or b"")


async def test_content_that_kafka_refused_is_not_half_a_success(broker: Broker, tmp_path: Path) -> None:
    broker.bus.refused.add("llm-content")
    async with client(await ingest(broker, tmp_path)) as http:
        item = call(event_id="a", input_text="hi")
        assert (await http.post("/v1/calls", json=[item])).status_code == 503
        broker.bus.refused.clear()
        assert (await http.post("/v1/calls", json=[item])).json()["accepted"] == 1
    assert len(broker.values("llm-content")) == 1


def test_the_key_of_user_hashes_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    key = user_hash_key(None, tmp_path)
    assert len(key) == 32
    assert user_hash_key(None, tmp_path) == key
    (kept,) = (tmp_path / "ingest").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert user_hash_key("configured", tmp_path) == b"configured"


def test_users_hash_apart_by_project_and_key() -> None:
    hash_user = user_hasher(b"key")
    assert hash_user("p", "ann") == hash_user("p", "ann")
    assert (
        len({hash_user("p", "ann"), hash_user("q", "ann"), hash_user("p", "bob"), user_hasher(b"2")("p", "ann")}) == 4
    )


async def test_the_pages(broker: Broker, tmp_path: Path) -> None:
    async with client(await ingest(broker, tmp_path)) as http:
        document = (await http.get("/openapi.json")).json()
        page = (await http.get("/docs")).text
        wrong = await http.get("/v1/calls")
        nowhere = await http.post("/v1/nothing", json=[])
    item = document["components"]["schemas"]["CallItem"]
    assert set(item["required"]) == {"request_id", "occurred_at", "provider", "request_model"}
    assert set(document["paths"]) == {"/v1/calls", "/v1/feedback", "/v1/evaluations"}
    assert all(name in page for name in item["properties"])
    assert "http://" not in page
    assert "https://" not in page
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (405, "method")
    assert (nowhere.status_code, nowhere.json()["error"]["field"]) == (404, "path")


async def test_the_openapi_schema_takes_what_ingest_takes(broker: Broker, tmp_path: Path) -> None:
    from jsonschema import Draft202012Validator

    async with client(await ingest(broker, tmp_path)) as http:
        document = (await http.get("/openapi.json")).json()
    for name, schema in document["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        if name == "CallItem":
            validator = Draft202012Validator(schema)
            assert validator.is_valid(call(attributes={"a": "b"}, status="ok", cost_usd="0.1"))
            assert not validator.is_valid(call(input_tokens=-1))
            assert not validator.is_valid(call(nope=1))


async def test_an_error_of_ours_is_a_500_that_shows_nothing(broker: Broker, tmp_path: Path) -> None:
    class Broken:
        async def write(self, *_: object) -> None:
            raise RuntimeError("posted: s3cret")

    held = Gated(Broken())
    held.gate.set()
    async with client(replace(await ingest(broker, tmp_path), log=held)) as http:
        answer = await http.post("/v1/calls", json=[call()])
    assert answer.status_code == 500
    assert "s3cret" not in answer.text
