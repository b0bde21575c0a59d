"""Canaries through every door of ingest, and a look everywhere for them: topics and dead letters, ClickHouse, states,
logs, metrics. With a policy that keeps them the same look finds them, so it can fail."""

from __future__ import annotations

import asyncio
import base64
import gzip
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from canaries import Canaries, as_json, files, tables
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from system import SERVICES, System, until

from flywheel.events import topics
from flywheel.testkit.draining import read_topic

pytestmark = [pytest.mark.broker, pytest.mark.timeout(400)]

POLICY = '[projects.open]\ndefault = "keep"\n'
JSON, PROTOBUF = "application/json", "application/x-protobuf"
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}
NEVER_STORED = (
    *("user", "arguments", "unknown attribute", "event of a span", "message of an exception"),
    *("attribute of a message", "body of a log"),
)
Post = tuple[str, bytes, Mapping[str, str]]


def batches(new: Canaries, project: str) -> Iterator[Post]:
    """Calls, feedback and evaluations as JSON, a canary in every field whose schema says that it may hold one."""
    say, now_us = new.text, time.time_ns() // 1_000
    base = {"project": project, "occurred_at": now_us, "request_id": "r"}
    call = {"provider": "openai", "request_model": "gpt-4o", "feature": "canary"}
    messages = as_json([{"role": "user", "content": say("call, JSON in a text")}]).decode()
    yield _json("/v1/calls", [
        base | call | {"input_text": say("call, input"), "output_text": say("call, output")},
        base | call | {"input_text": messages, "user": new.email("call, user"), "request_id": "r2"},
        base | call | {"attributes": {"note": say("call, attribute"), new.email("call, name of an attribute"): "b"}},
        base | call | {"input_text": say("call, long") + " and so on" * 5_000, "request_id": "r3"},
    ])  # fmt: skip
    said = {"comment": say("feedback, comment"), "attributes": {"note": say("feedback, attribute")}}
    yield _json(
        "/v1/feedback", [base | {"kind": "user.thumb", "value": 1.0, "user": new.email("feedback, user")} | said]
    )
    judged = {"evaluator": "judge", "score": 0.5, "explanation": say("evaluation, explanation")}
    yield _json("/v1/evaluations", [base | judged])


def exports(new: Canaries, project: str) -> Iterator[Post]:
    """Traces and logs, in both encodings."""
    trace = project.encode().ljust(16)
    for encoding in (JSON, PROTOBUF):
        spans, logs, says = ExportTraceServiceRequest(), ExportLogsServiceRequest(), f"OTLP {encoding}"
        group = spans.resource_spans.add()
        group.resource.attributes.extend(_pairs({"flywheel.project": project}))
        scope = group.scope_spans.add()
        for at, attributes in enumerate(_spans(new, says), 1):
            span = scope.spans.add(trace_id=trace, span_id=bytes([at] * 7 + [len(encoding)]), name="chat gpt-4o")
            span.start_time_unix_nano, span.end_time_unix_nano = time.time_ns() - 10**9, time.time_ns()
            span.attributes.extend(_pairs(CHAT | attributes))
            span.events.add(
                name="gen_ai.user.message", attributes=_pairs({"content": new.text(f"{says}, event of a span")})
            )
            stack = {"exception.type": "ValueError", "exception.message": new.text(f"{says}, message of an exception")}
            span.events.add(name="exception", attributes=_pairs(stack))
        of_logs = logs.resource_logs.add()
        of_logs.resource.attributes.extend(_pairs({"flywheel.project": project}))
        inner = of_logs.scope_logs.add()
        for name, attributes in _logs(new, says):
            log = inner.log_records.add(
                event_name=name, trace_id=trace, span_id=bytes([9] * 7 + [len(encoding)]), time_unix_nano=time.time_ns()
            )
            log.attributes.extend(_pairs(attributes))
            if name == "gen_ai.choice":
                log.body.string_value = new.text(f"{says}, body of a log")
        for path, request in (("/v1/traces", spans), ("/v1/logs", logs)):
            body = request.SerializeToString() if encoding == PROTOBUF else _otlp_json(request)
            yield path, body, {"content-type": encoding}


def _spans(new: Canaries, says: str) -> Iterator[dict[str, Any]]:
    yield {
        "gen_ai.input.messages": as_json([{"content": new.text(f"{says}, messages")}]).decode(),
        "gen_ai.output.messages": new.text(f"{says}, output"),
        "gen_ai.system_instructions": new.text(f"{says}, system"),
        "gen_ai.tool.call.arguments": new.text(f"{says}, arguments"),
        "user.id": new.email(f"{says}, user"),
        "some.attribute": new.text(f"{says}, unknown attribute"),
    }
    yield {
        "llm.input_messages.0.message.content": new.text(f"{says}, OpenInference"),
        "gen_ai.completion.0.content": new.text(f"{says}, OpenLLMetry"),
        "evaluations.0.evaluation.name": "faithful",
        "evaluations.0.evaluation.label": "good",
        "evaluations.0.evaluation.explanation": new.text(f"{says}, explanation of a span"),
    }


def _logs(new: Canaries, says: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield (
        "gen_ai.evaluation.result",
        {
            "gen_ai.evaluation.name": "e",
            "gen_ai.evaluation.score.label": "good",
            "gen_ai.evaluation.explanation": new.text(f"{says}, explanation"),
        },
    )
    yield (
        "flywheel.feedback",
        {
            "flywheel.feedback.kind": "user.thumb",
            "flywheel.feedback.label": "up",
            "flywheel.feedback.comment": new.text(f"{says}, comment"),
        },
    )
    details = {"gen_ai.input.messages": new.text(f"{says}, details of an inference")}
    yield "gen_ai.client.inference.operation.details", CHAT | details
    yield "gen_ai.choice", {"content": new.text(f"{says}, attribute of a message")}


def malformed(new: Canaries) -> Iterator[Post]:
    """What is refused, whole or in part: nothing of it may be said to anybody but its sender."""
    good = {"occurred_at": time.time_ns() // 1_000, "request_id": "bad", "provider": "openai", "request_model": "m"}
    bad: tuple[Any, ...] = (
        {"input_tokens": new.text("malformed, of another type")},
        {new.email("malformed, unknown field"): 1},
        {"status": new.text("malformed, enum")},
        {"occurred_at": new.text("malformed, time")},
        {"cost_usd": new.text("malformed, money")},
        {"attributes": {"a": {"b": new.text("malformed, nested")}}},
        {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "note": new.text("raw usage")}},
    )
    yield _json("/v1/calls", [*(good | each for each in bad), new.text("malformed, no object")])
    whole = as_json([good | {"input_text": new.text("malformed, JSON cut short")}])
    yield "/v1/calls", whole[:-5], {"content-type": JSON}
    yield "/v1/calls", whole.replace(b"Hello", b"\xff\xfe"), {"content-type": JSON}
    yield "/v1/calls", gzip.compress(whole)[:-9], {"content-type": JSON, "content-encoding": "gzip"}
    yield "/v1/calls", as_json({new.email("malformed, member of a body"): []}), {"content-type": JSON}
    yield "/v1/traces", as_json({"resourceSpans": new.text("malformed, resources")}), {"content-type": JSON}
    yield "/v1/traces", b"\x0a\x05" + new.text("malformed, protobuf").encode(), {"content-type": PROTOBUF}
    yield f"/v1/calls/{new.email('path')}", b"[]", {"content-type": JSON}
    said = {"user-agent": new.email("user agent"), "tracestate": f"a={new.email('trace state')}"}
    told = {"baggage": f"mail={new.email('baggage')}", "traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
    yield f"/v1/calls?mail={new.email('query')}", as_json([good]), {"content-type": JSON} | said | told


def _json(path: str, items: list[Any]) -> Post:
    return path, as_json({"items": items}), {"content-type": JSON}


def _pairs(attributes: Mapping[str, Any]) -> list[KeyValue]:
    made = [KeyValue(key=key) for key in attributes]
    for pair, value in zip(made, attributes.values(), strict=True):
        pair.value.string_value = value
    return made


def _otlp_json(request: Any) -> bytes:
    def hexed(node: Any) -> Any:
        if isinstance(node, list):
            return [hexed(each) for each in node]
        if not isinstance(node, dict):
            return node
        ids = ("traceId", "spanId")
        return {key: base64.b64decode(value).hex() if key in ids else hexed(value) for key, value in node.items()}

    return as_json(hexed(MessageToDict(request)))


async def everywhere(system: System, metrics: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """All that is left of a run once its services have ended."""
    places = [*metrics, *files(system.folder / "logs"), *files(system.folder / "state")]
    names = dict.fromkeys(name for topic in topics().values() for name in (topic.name, topic.dlq) if name)
    for name in names:
        for record in await read_topic(system.bootstrap, name):
            headers = b" ".join(key.encode() + b"=" + (value or b"") for key, value in record.headers)
            places.append((f"topic {name}", b" ".join((record.key or b"", record.value or b"", headers))))
    places += await asyncio.to_thread(lambda: list(tables(system.folder / "clickhouse")))
    return places


async def test_no_canary_gets_past_ingest_and_a_policy_that_keeps_them_shows_the_look_works(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    hidden, shown, refused = Canaries(10_000), Canaries(20_000), Canaries(30_000)
    with System(tmp_path) as system:
        system.environ |= {"FLYWHEEL_REDACTION_POLICY_FILE": str(policy), "FLYWHEEL_LOG_LEVEL": "DEBUG"}
        await system.start_all()
        taken = [*batches(hidden, "default"), *exports(hidden, "default")]
        kept = [*batches(shown, "open"), *exports(shown, "open")]
        async with httpx.AsyncClient(base_url=system.url("ingest"), timeout=30, trust_env=False) as http:
            answers = [await http.post(path, content=body, headers=dict(head)) for path, body, head in [*taken, *kept]]
            for path, body, head in malformed(refused):
                await http.post(path, content=body, headers=dict(head))
        assert [answer.status_code for answer in answers] == [200] * len(answers), [a.text for a in answers]
        written = sum([len(await read_topic(system.bootstrap, name)) for name in ("llm-calls", "llm-content")])
        assert written > 20
        await until(lambda: system.metric("recorder", "recorder_rows_total") >= written, "the recorder has it all")
        metrics = [(f"metrics of {name}", system.metrics(name).encode()) for name in SERVICES]
        for name in SERVICES:
            await system.stop(name)
        places = await everywhere(system, metrics)
    assert dict(hidden.found(places)) == {}
    assert dict(refused.found(places)) == {}
    found = shown.found(places)
    where = {place for places_of in found.values() for place in places_of}
    assert {
        "topic llm-calls",
        "topic llm-content",
        "topic llm-feedback",
        "topic llm-evaluations",
        "ClickHouse",
    } <= where
    doors = {name.partition(":")[0] for name in found}
    assert doors == {door for door in shown.doors.values() if not any(each in door for each in NEVER_STORED)}
