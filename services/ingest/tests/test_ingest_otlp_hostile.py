"""Hostile telemetry: each malformed field is named and costs its neighbours nothing; no bytes break the readers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from flywheel_ingest.core import Core
from flywheel_ingest.otlp import json_body, protobuf
from flywheel_ingest.otlp.intake import Taken, message_of, take
from flywheel_ingest.otlp.records import BodyUndecodable, Entry, TooManyRecords

NOW_US = 1_795_234_200_000_000
DAY_NS = 86_400_000_000_000
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}


def judged(core: Core, entries: Iterator[Entry]) -> Taken:
    return take(core, entries, NOW_US, keep_sampled_events=False)


def traces(core: Core, body: bytes) -> Taken:
    return judged(core, protobuf.read_traces(body, max_records=1_000, max_record_bytes=1 << 20))


def traces_json(core: Core, body: bytes) -> Taken:
    return judged(core, json_body.read_traces(body, max_records=1_000))


def numbers(taken: Taken) -> list[int]:
    """Which spans became calls."""
    return [int(fact.event["span_id"], 16) for fact in taken.facts.get("call", [])]


def attribute(key: str, value: AnyValue) -> Callable[[Span], None]:
    return lambda span: span.attributes.append(KeyValue(key=key, value=value))


def convention(name: str) -> Callable[[Span], None]:
    def change(span: Span) -> None:
        attribute("gen_ai.usage.input_tokens", AnyValue(int_value=10))(span)
        attribute("flywheel.usage_convention", AnyValue(string_value=name))(span)

    return change


def cost(amount: float) -> Callable[[Span], None]:
    def change(span: Span) -> None:
        attribute("gen_ai.usage.cost.amount", AnyValue(double_value=amount))(span)
        attribute("gen_ai.usage.cost.currency", AnyValue(string_value="USD"))(span)
        attribute("gen_ai.usage.cost.source", AnyValue(string_value="provider"))(span)

    return change


def setting(**values: Any) -> Callable[[Span], None]:
    def change(span: Span) -> None:
        for name, value in values.items():
            setattr(span, name, value)

    return change


START_NS = 1_795_234_140_000_000_000
MENDED = [
    (attribute("gen_ai.request.temperature", AnyValue(string_value="hot")), "gen_ai.request.temperature is a string"),
    (
        attribute("gen_ai.request.temperature", AnyValue(double_value=math.nan)),
        "gen_ai.request.temperature is not finite",
    ),
    (
        attribute("gen_ai.request.max_tokens", AnyValue(int_value=-5)),
        "gen_ai.request.max_tokens Input should be greater",
    ),
    (attribute("gen_ai.request.max_tokens", AnyValue(double_value=1e300)), "gen_ai.request.max_tokens"),
    (attribute("gen_ai.request.stream", AnyValue(int_value=1)), "gen_ai.request.stream is an integer, not a boolean"),
    (attribute("gen_ai.usage.input_tokens", AnyValue(int_value=-(2**63))), "gen_ai.usage.input_tokens is negative"),
    (
        attribute("gen_ai.usage.input_tokens", AnyValue(int_value=2**62)),
        "gen_ai.usage.input_tokens is above 1000000000000",
    ),
    (
        attribute("gen_ai.usage.input_tokens", AnyValue(double_value=1.5)),
        "gen_ai.usage.input_tokens is a number, not an",
    ),
    (attribute("gen_ai.response.id", AnyValue(bytes_value=b"x")), "gen_ai.response.id is of type bytes, not a string"),
    (
        attribute("gen_ai.response.id", AnyValue(string_value="x" * 257)),
        "gen_ai.response.id String should have at most",
    ),
    (attribute("gen_ai.response.model", AnyValue(bool_value=True)), "gen_ai.response.model is a boolean, not a string"),
    (attribute("gen_ai.response.finish_reasons", AnyValue(int_value=1)), "finish_reasons is no array of strings"),
    (
        attribute("gen_ai.response.time_to_first_chunk", AnyValue(double_value=-1)),
        "time_to_first_chunk Input should be",
    ),
    (attribute("flywheel.project", AnyValue(string_value="a/b")), "flywheel.project String should match pattern"),
    (attribute("flywheel.attempt", AnyValue(int_value=0)), "flywheel.attempt Input should be greater"),
    (convention("perhaps"), "flywheel.usage_convention is neither inclusive nor exclusive"),
    (cost(-1.0), "gen_ai.usage.cost.amount is negative"),
    (attribute("error.type", AnyValue(int_value=7)), "error.type is not a string"),
    (attribute("llm.invocation_parameters", AnyValue(string_value="{")), "llm.invocation_parameters is no JSON object"),
    (
        attribute("langfuse.observation.completion_start_time", AnyValue(string_value="soon")),
        "is no time after the start",
    ),
    (setting(parent_span_id=b"12"), "parent_span_id is not 8 bytes"),
    (setting(end_time_unix_nano=0), "end_time_unix_nano is not given"),
    (setting(end_time_unix_nano=START_NS - 1), "end_time_unix_nano is before the start"),
    (setting(end_time_unix_nano=START_NS + 31 * DAY_NS), "end_time_unix_nano is more than 30 days later"),
]
REFUSED = [
    (setting(trace_id=b""), "trace_id is not 16 bytes, or all zero"),
    (setting(trace_id=bytes(16)), "trace_id is not 16 bytes, or all zero"),
    (setting(span_id=b"123"), "span_id is not 8 bytes, or all zero"),
    (setting(start_time_unix_nano=0), "start_time_unix_nano is before 2000-01-01; it is in nanoseconds"),
    (setting(start_time_unix_nano=START_NS // 1000), "start_time_unix_nano is before 2000-01-01; it is in nanoseconds"),
    (
        setting(start_time_unix_nano=START_NS + DAY_NS),
        "start_time_unix_nano is more than 600 s in the future; it is in",
    ),
    (setting(start_time_unix_nano=2**64 - 1), "start_time_unix_nano is"),
    (
        attribute("flywheel.request_id", AnyValue(string_value="x" * 300)),
        "flywheel.request_id String should have at most",
    ),
]


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
@pytest.mark.parametrize(("change", "told"), MENDED, ids=[told for _, told in MENDED])
def test_a_malformed_attribute_is_left_out_and_named(
    change: Callable[[Span], None], told: str, encoding: str, core: Core, otlp: Any
) -> None:
    bad = otlp.span(CHAT, number=2)
    change(bad)
    request = otlp.traces(otlp.span(CHAT, number=1), bad, otlp.span(CHAT, number=3))
    taken = (
        traces(core, request.SerializeToString()) if encoding == "protobuf" else traces_json(core, otlp.json(request))
    )
    assert numbers(taken) == [1, 2, 3]
    assert taken.verdicts["rejected"] == 0
    (only,) = taken.incomplete
    assert only.path.endswith("pans[1]")
    assert told in message_of(taken)
    flags = [fact.event.get("flags", []) for fact in taken.facts["call"]]
    assert ["attribute_invalid" in each for each in flags] == [False, True, False]


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
@pytest.mark.parametrize(("change", "told"), REFUSED, ids=[told for _, told in REFUSED])
def test_a_span_that_cannot_be_placed_is_refused_and_named(
    change: Callable[[Span], None], told: str, encoding: str, core: Core, otlp: Any
) -> None:
    bad = otlp.span(CHAT, number=2)
    change(bad)
    request = otlp.traces(otlp.span(CHAT, number=1), bad, otlp.span(CHAT, number=3))
    taken = (
        traces(core, request.SerializeToString()) if encoding == "protobuf" else traces_json(core, otlp.json(request))
    )
    assert numbers(taken) == [1, 3]
    assert (taken.verdicts["rejected"], taken.verdicts["stored"]) == (1, 2)
    told = told.replace("trace_id", "traceId") if "traceId" in message_of(taken) else told
    assert told in message_of(taken)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"gen_ai.evaluation.name": "stars", "gen_ai.evaluation.score.value": 4.0}, "score.value Input should be less"),
        ({"gen_ai.evaluation.name": "stars"}, "score is required"),
        ({"gen_ai.evaluation.score.value": 1.0}, "evaluator is required"),
        ({"gen_ai.evaluation.name": "e", "gen_ai.evaluation.score.value": "high"}, "score.value is a string"),
    ],
)
def test_an_evaluation_that_says_nothing_is_refused_and_named(
    said: dict[str, Any], told: str, core: Core, otlp: Any
) -> None:
    logs = otlp.logs(otlp.log(said, event_name="gen_ai.evaluation.result"))
    entries = protobuf.read_logs(logs.SerializeToString(), max_records=9, max_record_bytes=9_999)
    taken = judged(core, entries)
    assert (taken.facts, taken.verdicts["rejected"]) == ({}, 1)
    assert told in message_of(taken)


def test_a_score_on_another_scale_leaves_the_label(core: Core, otlp: Any) -> None:
    said = {"gen_ai.evaluation.name": "s", "gen_ai.evaluation.score.value": 4, "gen_ai.evaluation.score.label": "fail"}
    logs = otlp.logs(otlp.log(said, event_name="gen_ai.evaluation.result"))
    taken = judged(core, protobuf.read_logs(logs.SerializeToString(), max_records=9, max_record_bytes=9_999))
    (fact,) = taken.facts["evaluation"]
    assert ("score" in fact.event, fact.event["label"], fact.event["passed"]) == (False, "fail", False)
    assert "score.value Input should be less than or equal to 1" in message_of(taken)


BAD_UTF8 = KeyValue(key="gen_ai.response.id", value=AnyValue(string_value="XX")).SerializeToString()


@pytest.mark.parametrize(
    ("field", "payload", "told"),
    [
        (9, BAD_UTF8.replace(b"XX", b"\xff\xfe"), "gen_ai.response.id is not UTF-8"),
        (9, b"\x0a\xff", "attributes cannot be decoded"),
        (11, b"\x12\x02\xff\xfe", "events[0] is not UTF-8"),
    ],
)
def test_damage_in_one_attribute_costs_that_attribute(
    field: int, payload: bytes, told: str, core: Core, otlp: Any
) -> None:
    more = bytes([field << 3 | 2]) + otlp.varint(len(payload)) + payload
    taken = traces(core, otlp.wrapped([otlp.raw(CHAT, 1) + more, otlp.raw(CHAT, 2)]))
    assert numbers(taken) == [1, 2]
    assert told in message_of(taken)


def test_nesting_without_end_costs_its_attribute(core: Core, otlp: Any) -> None:
    deep = otlp.nested("gen_ai.response.id", 200)
    more = bytes([9 << 3 | 2]) + otlp.varint(len(deep)) + deep
    taken = traces(core, otlp.wrapped([otlp.raw(CHAT, 1) + more, otlp.raw(CHAT, 2)]))
    assert numbers(taken) == [1, 2]
    assert "gen_ai.response.id is nested too deeply" in message_of(taken)


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (b"\x2a\x02\xff\xfe", "spans[1]: name is not UTF-8"),
        (b"\x0a\x7f", "spans[1]: is no protobuf message"),
        (b"\x4a\x00" * 40_000, "spans[1]: has more than 4096 attributes"),
        (b"\x2a" + b"\x80\x80\x80\x01" + b"x" * (1 << 21), "is 2097157 bytes, at most 1048576"),
    ],
    ids=["bad UTF-8 in the name", "cut short", "many attributes", "too large"],
)
def test_a_damaged_span_costs_itself(record: bytes, told: str, core: Core, otlp: Any) -> None:
    taken = traces(core, otlp.wrapped([otlp.raw(CHAT, 1), record, otlp.raw(CHAT, 3)]))
    assert numbers(taken) == [1, 3]
    assert taken.verdicts["rejected"] == 1
    assert told in message_of(taken)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (b'{"key":"gen_ai.response.id","value":{"stringValue":"\xff\xfe"}}', "gen_ai.response.id is not UTF-8"),
        (b'{"key":"gen_ai.response.id","value":{"doubleValue":NaN}}', "gen_ai.response.id is not valid JSON"),
        (b'{"key":"gen_ai.response.id","value":{"stringValue":"\\ud800"}}', "half of a surrogate pair"),
        (b'{"key":"gen_ai.response.id","value":' + b"[" * 2000 + b"]" * 2000 + b"}", "nested too deeply"),
        (b'{"key":"gen_ai.response.id","value":{"intValue":"many"}}', "has an intValue that is no integer"),
        (b'{"key":"gen_ai.response.id","value":7}', "has no value such as"),
        (b"7", "attributes[3] is no object with a key"),
        (b'{"key":"other","value":{"doubleValue":NaN}}', ""),
    ],
)
def test_json_damage_in_one_attribute_costs_that_attribute(bad: bytes, told: str, core: Core, otlp: Any) -> None:
    spans = [orjson.dumps(each) for each in otlp.json_spans(CHAT)]
    cut = spans[1].rindex(b"]")
    spans[1] = spans[1][:cut] + b"," + bad + spans[1][cut:]
    taken = traces_json(core, otlp.wrapped_json(spans))
    assert numbers(taken) == [1, 2, 3]
    assert told in message_of(taken)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("traceId", b'"xyz"', "traceId is no hex string"),
        ("spanId", b"7", "spanId is no hex string"),
        ("name", b"[]", "name is no string"),
        ("startTimeUnixNano", b'"1e9"', "startTimeUnixNano is no integer"),
        ("startTimeUnixNano", b"1.5", "startTimeUnixNano is no integer"),
        ("endTimeUnixNano", b'"-1"', "endTimeUnixNano is negative"),
        ("endTimeUnixNano", b"Infinity", "endTimeUnixNano Infinity is no JSON number"),
        ("status", b"[7]", "status is no JSON object"),
        ("status", b'{"code":9}', "status.code is not 0, 1 or 2"),
        ("attributes", b"{}", "attributes is no array"),
        ("events", b"7", "events is no array"),
    ],
)
def test_json_fields_of_another_type_cost_their_span(
    field: str, value: bytes, told: str, core: Core, otlp: Any
) -> None:
    spans = [orjson.dumps(each) for each in otlp.json_spans(CHAT)]
    whole = otlp.json_spans(CHAT)[1]
    whole[field] = "HERE"
    spans[1] = orjson.dumps(whole).replace(b'"HERE"', value)
    taken = traces_json(core, otlp.wrapped_json(spans))
    assert numbers(taken) == [1, 3]
    assert f"spans[1]: {told}" in message_of(taken)


def test_a_resource_that_cannot_be_read_costs_no_span(core: Core, otlp: Any) -> None:
    spans = b"\x12" + otlp.varint(len(otlp.raw(CHAT, 1))) + otlp.raw(CHAT, 1)
    scope = b"\x12" + otlp.varint(len(spans)) + spans
    for resource, told in (
        (b"\x0a\x06\x0a\x04\x0a\x02\xff\xfe", "attributes is not UTF-8"),
        (b"\x0a" + otlp.varint(70_000) + b"\x00" * 70_000, "resource is 70000 bytes"),
    ):
        group = resource + scope
        taken = traces(core, b"\x0a" + otlp.varint(len(group)) + group)
        assert numbers(taken) == [1]
        assert told in message_of(taken)
    taken = traces_json(
        core,
        b'{"resourceSpans":[{"resource":7,"scopeSpans":[{"spans":['
        + orjson.dumps(otlp.json_spans(CHAT)[0])
        + b"]}]}]}",
    )
    assert numbers(taken) == [1]
    assert "resource is no JSON object" in message_of(taken)


def test_millions_of_empty_spans_are_counted_not_built(otlp: Any) -> None:
    inner = b"\x12\x00" * 1_000_000
    scope = b"\x12" + otlp.varint(len(inner)) + inner
    body = b"\x0a" + otlp.varint(len(scope)) + scope
    for groups in (body, b"\x0a\x00" * 1_000_000, b"\x0a" + otlp.varint(2_000_000) + b"\x12\x00" * 1_000_000):
        with pytest.raises(TooManyRecords):
            list(protobuf.read_traces(groups, max_records=50, max_record_bytes=99))
    call = otlp.raw(CHAT, 1)
    for attribute in (b"\x4a\x00", b"\x4a\x04\x0a\x02\xff\xfe"):
        crowded = otlp.wrapped([call + attribute * 1_000] * 5)
        with pytest.raises(TooManyRecords):
            list(protobuf.read_traces(crowded, max_records=50, max_record_bytes=9_999))
    with pytest.raises(BodyUndecodable, match="fields that are not expected"):
        list(protobuf.read_traces(b"\x18\x01" * 1_000_000, max_records=50, max_record_bytes=99))
    with pytest.raises(TooManyRecords):
        list(json_body.read_traces(b'{"resourceSpans":[' + b"{}," * 2_000_000 + b"{}]}", max_records=50))


def test_a_span_full_of_evaluations_is_bounded(core: Core, otlp: Any) -> None:
    said = {f"evaluations.{n}.evaluation.{part}": part for n in range(60) for part in ("name", "label")}
    body = otlp.traces(otlp.span({**CHAT, **said})).SerializeToString()
    assert len(traces(core, body).facts["evaluation"]) == 60
    with pytest.raises(TooManyRecords):
        entries = protobuf.read_traces(body, max_records=50, max_record_bytes=1 << 20)
        take(core, entries, NOW_US, keep_sampled_events=False, max_facts=50)
