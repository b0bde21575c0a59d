"""OTLP over HTTP: what an exporter is answered, in which encoding, and when."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from google.rpc.status_pb2 import Status
from ingest_parts import JSON, Broker, Gated, client, ingest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

PROTOBUF = {"content-type": "application/x-protobuf"}
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}
CANARY = "s3cret-canary"


@pytest.fixture
def broker() -> Broker:
    return Broker()


def status_in(answer: httpx.Response) -> tuple[int, str]:
    """Code and message of an error, whichever encoding it came in."""
    if answer.headers["content-type"] == "application/json":
        return answer.json()["code"], answer.json()["message"]
    assert answer.headers["content-type"] == "application/x-protobuf"
    status = Status.FromString(answer.content)
    return status.code, status.message


async def test_protobuf_json_and_gzip_are_answered_in_kind(broker: Broker, tmp_path: Path, otlp: Any) -> None:
    async with client(await ingest(broker, tmp_path)) as http:
        for number, (headers, encode) in enumerate(
            [
                (PROTOBUF, lambda request: request.SerializeToString()),
                (JSON, otlp.json),
                ({**JSON, "content-type": "application/json; charset=utf-8"}, otlp.json),
                ({**PROTOBUF, "content-encoding": "gzip"}, lambda request: gzip.compress(request.SerializeToString())),
            ]
        ):
            body = encode(otlp.traces(otlp.span(CHAT, number=number + 1)))
            answer = await http.post("/v1/traces", content=body, headers=headers)
            assert answer.status_code == 200
            if "json" in headers["content-type"]:
                assert (answer.headers["content-type"], answer.json()) == ("application/json", {})
            else:
                assert answer.headers["content-type"] == "application/x-protobuf"
                assert not ExportTraceServiceResponse.FromString(answer.content).HasField("partial_success")
    calls = broker.values()
    assert [call["span_id"] for call in calls] == [f"{number:016x}" for number in range(1, 5)]
    assert {call["request_id"] for call in calls} == {otlp.trace.hex()}
    assert {call["occurred_at"] for call in calls} == {otlp.start_ns // 1000}


async def test_an_empty_request_is_a_success(broker: Broker, tmp_path: Path) -> None:
    async with client(await ingest(broker, tmp_path)) as http:
        assert (await http.post("/v1/traces", content=b"", headers=PROTOBUF)).status_code == 200
        assert (await http.post("/v1/logs", content=b"{}", headers=JSON)).json() == {}


async def test_a_span_exported_again_is_one_fact(broker: Broker, tmp_path: Path, otlp: Any) -> None:
    body = otlp.traces(otlp.span(CHAT)).SerializeToString()
    by_another_way = otlp.traces(otlp.span(CHAT), resource={"service.name": "shop"}).SerializeToString()
    service = await ingest(broker, tmp_path)
    async with client(service) as http:
        for each in (body, body, by_another_way):
            answer = await http.post("/v1/traces", content=each, headers=PROTOBUF)
            assert (answer.status_code, answer.content) == (200, b"")
    (first,) = broker.values()
    assert service.metrics.value("ingest_items_total", kind="call", verdict="duplicate") == 2
    async with client(await ingest(broker, tmp_path)) as http:  # a replica, which has not seen it
        await http.post("/v1/traces", content=by_another_way, headers=PROTOBUF)
    assert [call["event_id"] for call in broker.values()] == [first["event_id"]] * 2


async def test_a_call_told_by_two_spans_is_one_call_across_requests(broker: Broker, tmp_path: Path, otlp: Any) -> None:
    used = {**CHAT, "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 20}
    inner, outer = otlp.span(used, number=2), otlp.span(used, number=1)
    inner.parent_span_id = outer.span_id
    service = await ingest(broker, tmp_path)
    async with client(service) as http:
        for each in (inner, outer, inner):
            body = otlp.traces(each).SerializeToString()
            assert (await http.post("/v1/traces", content=body, headers=PROTOBUF)).content == b""
    assert [call["span_id"] for call in broker.values()] == ["0000000000000002"]
    assert service.metrics.value("ingest_items_total", kind="span", verdict="told_before") == 1


async def test_a_bad_span_is_named_and_costs_its_neighbours_nothing(broker: Broker, tmp_path: Path, otlp: Any) -> None:
    unnamed = otlp.span(CHAT, number=2)
    unnamed.trace_id = b"short"
    odd = otlp.span({**CHAT, "gen_ai.usage.input_tokens": "many", "gen_ai.usage.output_tokens": 5}, number=3)
    request = otlp.traces(otlp.span(CHAT), unnamed, odd, otlp.span({"http.route": "/"}, number=4))
    service = await ingest(broker, tmp_path)
    async with client(service) as http:
        answer = await http.post("/v1/traces", content=request.SerializeToString(), headers=PROTOBUF)
        as_json = await http.post("/v1/traces", content=otlp.json(request), headers=JSON)
    told = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (answer.status_code, told.rejected_spans) == (200, 1)
    assert "resource_spans[0].scope_spans[0].spans[1]: trace_id is not 16 bytes" in told.error_message
    assert "spans[2]: gen_ai.usage.input_tokens is a string, not an integer" in told.error_message
    assert "many" not in told.error_message
    assert as_json.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert "resourceSpans[0].scopeSpans[0].spans[1]: trace_id" in as_json.json()["partialSuccess"]["errorMessage"]
    good, kept = broker.values()
    assert good["flags"] == ["usage_missing"]
    assert "attribute_invalid" in kept["flags"]
    assert (kept["output_tokens"], kept["cost_usd"]) == (None, None)
    for verdict, count in (("stored", 4), ("rejected", 2), ("not_genai", 2)):
        assert service.metrics.value("ingest_items_total", kind="span", verdict=verdict) == count


async def test_a_warning_rejects_nothing(broker: Broker, tmp_path: Path, otlp: Any) -> None:
    request = otlp.traces(otlp.span({**CHAT, "gen_ai.request.temperature": -1.0}))
    async with client(await ingest(broker, tmp_path)) as http:
        answer = await http.post("/v1/traces", content=otlp.json(request), headers=JSON)
    said = answer.json()["partialSuccess"]
    assert "rejectedSpans" not in said  # 0 is left out in protobuf's JSON
    assert "gen_ai.request.temperature Input should be greater than or equal to 0" in said["errorMessage"]
    assert broker.values()[0]["temperature"] is None


async def test_logs_make_evaluations_feedback_and_calls(broker: Broker, tmp_path: Path, otlp: Any) -> None:
    records = [
        otlp.log(
            {"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 0.5},
            event_name="gen_ai.evaluation.result",
        ),
        otlp.log({"gen_ai.evaluation.name": "stars"}, event_name="gen_ai.evaluation.result"),
        otlp.log(
            {"flywheel.feedback.kind": "user.thumb", "flywheel.feedback.value": 1}, event_name="flywheel.feedback"
        ),
        otlp.log(CHAT, event_name="gen_ai.client.inference.operation.details", sampled=True),
    ]
    body = otlp.logs(*records).SerializeToString()
    async with client(await ingest(broker, tmp_path)) as http:
        answer = await http.post("/v1/logs", content=body, headers=PROTOBUF)
    told = ExportLogsServiceResponse.FromString(answer.content).partial_success
    assert told.rejected_log_records == 1
    assert "log_records[1]: score is required where none of label, passed is given" in told.error_message
    assert [value["score"] for value in broker.values("llm-evaluations")] == [0.5]
    assert [value["kind"] for value in broker.values("llm-feedback")] == ["user.thumb"]
    assert broker.values() == []
    async with client(await ingest(broker, tmp_path, otlp_sampled_events=True)) as http:
        await http.post("/v1/logs", content=body, headers=PROTOBUF)
    assert len(broker.values()) == 1


async def test_nothing_is_answered_before_the_log_acknowledged(broker: Broker, tmp_path: Path, otlp: Any) -> None:
    service = await ingest(broker, tmp_path)
    held = Gated(service.log)
    body = otlp.traces(otlp.span(CHAT)).SerializeToString()
    async with client(replace(service, log=held)) as http:
        posting = asyncio.create_task(http.post("/v1/traces", content=body, headers=PROTOBUF))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not posting.done()
        held.gate.set()
        assert (await posting).status_code == 200
    assert len(broker.values()) == 1


@pytest.mark.parametrize("headers", [PROTOBUF, JSON], ids=["protobuf", "json"])
async def test_kafka_away_is_503_and_the_same_export_goes_through_later(
    broker: Broker, tmp_path: Path, otlp: Any, headers: dict[str, str]
) -> None:
    request = otlp.traces(otlp.span(CHAT))
    body = request.SerializeToString() if headers is PROTOBUF else otlp.json(request)
    service = await ingest(broker, tmp_path)
    broker.bus.refused.add("llm-calls")
    async with client(service) as http:
        away = await http.post("/v1/traces", content=body, headers=headers)
        assert (away.status_code, away.headers["retry-after"]) == (503, "3")
        assert status_in(away)[0] == 14  # UNAVAILABLE
        broker.bus.refused.clear()
        again = await http.post("/v1/traces", content=body, headers=headers)
        assert again.status_code == 200
    assert len(broker.values()) == 1


async def test_a_span_after_its_event_that_kafka_refused_is_stored(broker: Broker, tmp_path: Path, otlp: Any) -> None:
    event = otlp.logs(otlp.log(CHAT, event_name="gen_ai.client.inference.operation.details"))
    broker.bus.refused.add("llm-calls")
    async with client(await ingest(broker, tmp_path)) as http:
        refused = await http.post("/v1/logs", content=event.SerializeToString(), headers=PROTOBUF)
        assert refused.status_code == 503
        broker.bus.refused.clear()
        body = otlp.traces(otlp.span(CHAT)).SerializeToString()
        assert (await http.post("/v1/traces", content=body, headers=PROTOBUF)).status_code == 200
    assert [call["latency_ms"] for call in broker.values()] == [1500.0]


@pytest.mark.parametrize(
    ("headers", "body", "told"),
    [
        (PROTOBUF, b"\xff\xff", (400, "is no ExportTraceServiceRequest")),
        (PROTOBUF, b"\x0a\x7f", (400, "longer than what is left")),
        (PROTOBUF, b"\x08\x01", (400, "is no message")),
        (JSON, b"[]", (400, "is no JSON object")),
        (JSON, b"{", (400, "brackets are not closed")),
        (JSON, b'{"resourceSpans":{}}', (400, "resourceSpans, which is no array")),
        (JSON, b'{"resourceSpans":[7]}', (400, "resourceSpans[0], which is no object")),
        ({**PROTOBUF, "content-encoding": "gzip"}, b"no", (400, "is not valid gzip")),
        ({**PROTOBUF, "content-encoding": "br"}, b"", (415, "neither gzip nor identity")),
        ({"content-type": "text/plain"}, b"", (415, "is not application/x-protobuf or application/json")),
        ({}, b"", (415, "is not application/x-protobuf or application/json")),
        (PROTOBUF, b"\x0a\x06\x12\x04\x12\x00\x12\x00" * 40, (413, "more than 64 records")),
        (JSON, b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b"{}," * 64 + b"{}]}]}]}", (413, "more than 64")),
        (PROTOBUF, b"\x0a" * 20_001, (413, "at most 20000")),
        (
            {**PROTOBUF, "content-encoding": "gzip"},
            gzip.compress(b"\x00" * 10_000_000, mtime=0),
            (413, "inflates to more than"),
        ),
    ],
)
async def test_requests_that_are_turned_away(
    broker: Broker, tmp_path: Path, headers: dict[str, str], body: bytes, told: tuple[int, str]
) -> None:
    service = await ingest(broker, tmp_path, otlp_max_records=64, max_body_bytes=20_000, max_inflated_bytes=100_000)
    async with client(service) as http:
        answer = await http.post("/v1/traces", content=body, headers=headers)
    assert (answer.status_code, status_in(answer)[0]) == (told[0], 3)  # INVALID_ARGUMENT
    assert told[1] in status_in(answer)[1]
    assert service.metrics.value("http_requests_total", route="/v1/traces", status=told[0]) == 1


async def test_bytes_under_way_are_bounded_and_a_slow_body_may_come_again(
    broker: Broker, tmp_path: Path, otlp: Any
) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"\x0a"
        await asyncio.sleep(60)

    service = await ingest(broker, tmp_path, max_in_flight_bytes=1024, body_timeout_s=0.05)
    async with client(service) as http:
        full = await http.post("/v1/traces", content=b"\x0a" * 2_000, headers=PROTOBUF)
        slow = await http.post("/v1/traces", content=stalled(), headers=PROTOBUF)
    assert [(each.status_code, each.headers["retry-after"]) for each in (full, slow)] == [(503, "3")] * 2


async def test_content_that_is_not_wanted_reaches_no_topic_and_is_counted(
    broker: Broker, tmp_path: Path, otlp: Any
) -> None:
    keys = (
        "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.prompt.0.content",
        "llm.input_messages.0.message.content", "traceloop.entity.input", "input.value", "some.other.attribute",
    )  # fmt: skip
    event = {"name": "gen_ai.user.message", "attributes": {"content": CANARY}}
    large = {"gen_ai.output.messages.0": CANARY * 20_000}
    explained = otlp.log(
        {"gen_ai.evaluation.name": "e", "gen_ai.evaluation.score.value": 1, "gen_ai.evaluation.explanation": CANARY},
        event_name="gen_ai.evaluation.result",
    )
    service = await ingest(broker, tmp_path, otlp_content=False)
    async with client(service) as http:
        spans = otlp.traces(
            otlp.span({**CHAT, **dict.fromkeys(keys, CANARY)}, events=[event]), otlp.span({**CHAT, **large}, number=2)
        )
        assert (await http.post("/v1/traces", content=spans.SerializeToString(), headers=PROTOBUF)).content == b""
        logs = otlp.logs(explained, otlp.log({"content": CANARY}, event_name="gen_ai.choice"))
        assert (await http.post("/v1/logs", content=otlp.json(logs), headers=JSON)).json() == {}
    topics = ("llm-calls", "llm-content", "llm-evaluations", "llm-feedback")
    records = [record for topic in topics for record in broker.bus.records(topic)]
    assert len(records) == 3
    assert not [record for record in records if CANARY.encode() in (record.value or b"")]
    assert service.metrics.value("ingest_content_dropped_total", reason="otlp") == 7 + 1 + 1 + 1 + 1


@pytest.mark.parametrize("media_type", [JSON, PROTOBUF])
async def test_content_is_redacted_whatever_form_it_has(
    broker: Broker, tmp_path: Path, otlp: Any, media_type: dict[str, str]
) -> None:
    """As JSON in a text, as a structured value, and too large to be taken."""
    span = otlp.span({**CHAT, "gen_ai.input.messages": '[{"content": "bob\\u0040example.com"}]'})
    message = span.attributes.add(key="gen_ai.output.messages").value.array_value.values.add().kvlist_value.values.add()
    message.key, message.value.string_value = "content", "bob@example.com"
    prose = ["a word " * 60_000, "another"]
    large = otlp.span({**CHAT, "gen_ai.prompt": prose[0], "gen_ai.completion": prose[1]}, number=2)
    service = await ingest(broker, tmp_path)
    async with client(service) as http:
        request = otlp.traces(span, large)
        body = otlp.json(request) if media_type == JSON else request.SerializeToString()
        assert (await http.post("/v1/traces", content=body, headers=media_type)).status_code == 200
    texts = {each["call_id"]: (each["input_text"], each["output_text"]) for each in broker.values("llm-content")}
    flagged = {each["event_id"]: "content_dropped" in each["flags"] for each in broker.values()}
    assert [texts[each] for each in sorted(texts, key=flagged.__getitem__)] == [
        ('[{"content":"[EMAIL_ADDRESS]"}]', '[{"content":"[EMAIL_ADDRESS]"}]'),
        (None, "another"),
    ]
    assert sorted(flagged.values()) == [False, True]
    assert service.metrics.value("ingest_redactions_total", kind="email_address") == 2


async def test_a_large_export_is_taken_whole(broker: Broker, tmp_path: Path, otlp: Any) -> None:
    spans = [otlp.span({**CHAT, "gen_ai.usage.input_tokens": 10}, number=number) for number in range(1, 3_001)]
    body = otlp.traces(*spans).SerializeToString()
    assert len(body) > 256 << 10
    async with client(await ingest(broker, tmp_path)) as http:
        assert (await http.post("/v1/traces", content=body, headers=PROTOBUF)).content == b""
    assert len({call["event_id"] for call in broker.values()}) == 3_000


async def test_an_error_of_ours_is_a_500_that_shows_nothing(broker: Broker, tmp_path: Path, otlp: Any) -> None:
    class Broken:
        async def write(self, *_: object) -> None:
            raise RuntimeError(CANARY)

    async with client(replace(await ingest(broker, tmp_path), log=Broken())) as http:
        body = otlp.json(otlp.traces(otlp.span(CHAT)))
        answer = await http.post("/v1/traces", content=body, headers=JSON)
    assert answer.status_code == 500
    assert status_in(answer)[0] == 13
    assert CANARY not in answer.text


def test_json_ids_are_hex(otlp: Any) -> None:
    span = orjson.loads(otlp.json(otlp.traces(otlp.span(CHAT))))["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert (span["traceId"], span["startTimeUnixNano"]) == (otlp.trace.hex(), str(otlp.start_ns))
