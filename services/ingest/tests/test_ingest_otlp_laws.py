"""Laws of OTLP in: no bytes break the readers, neighbours are never lost, both encodings say the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from flywheel.events import Codec
from flywheel_ingest.core import Core
from flywheel_ingest.items import KINDS
from flywheel_ingest.otlp import json_body, protobuf
from flywheel_ingest.otlp.intake import Taken, take
from flywheel_ingest.otlp.names import KNOWN
from flywheel_ingest.otlp.records import BodyUndecodable, Entry, TooManyRecords
from flywheel_ingest.otlp.wire import WireInvalid, fields

NOW_US = 1_795_234_200_000_000
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


@given(st.binary(max_size=400))
def test_no_bytes_break_the_readers(body: bytes) -> None:
    for read in (protobuf.read_traces, protobuf.read_logs):
        try:
            list(read(body, max_records=10, max_record_bytes=100))
        except (BodyUndecodable, TooManyRecords) as told:
            assert str(told)
    for read_json in (json_body.read_traces, json_body.read_logs):
        try:
            list(read_json(body, max_records=10))
        except (BodyUndecodable, TooManyRecords) as told:
            assert str(told)
    try:
        assert sum(1 for _ in fields(body)) <= len(body)
    except WireInvalid as told:
        assert str(told)


@given(junk=st.binary(max_size=200), keep=st.integers(0, 60))
def test_whatever_stands_in_a_span_its_neighbours_are_stored(junk: bytes, keep: int, core: Core, otlp: Any) -> None:
    taken = traces(core, otlp.wrapped([otlp.raw(CHAT, 1), otlp.raw(CHAT, 2)[:keep] + junk, otlp.raw(CHAT, 3)]))
    assert {1, 3} <= set(numbers(taken))
    assert sum(taken.verdicts.values()) == 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=12,
)
PARTS = [
    "traceId",
    "spanId",
    "parentSpanId",
    "name",
    "startTimeUnixNano",
    "endTimeUnixNano",
    "status",
    "attributes",
    "events",
]


@given(junk=JSON, field=st.sampled_from(PARTS))
def test_whatever_stands_in_a_json_field_its_neighbours_are_stored(
    junk: Any, field: str, core: Core, otlp: Any
) -> None:
    spans = otlp.json_spans(CHAT)
    spans[1][field] = junk
    taken = traces_json(core, otlp.wrapped_json([orjson.dumps(each) for each in spans]))
    assert {1, 3} <= set(numbers(taken))
    assert sum(taken.verdicts.values()) == 3


VALUES = (
    st.text(max_size=300)
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.booleans()
    | st.binary(max_size=4)
    | st.lists(st.text(max_size=5), max_size=3)
)


@given(said=st.dictionaries(st.sampled_from(sorted(KNOWN)), VALUES, max_size=12))
def test_both_encodings_say_the_same_and_every_fact_fits_its_schema(
    said: dict[str, Any], core: Core, codec: Codec, otlp: Any
) -> None:
    request = otlp.traces(otlp.span({**CHAT, **said}), resource=said)
    one, other = traces(core, request.SerializeToString()), traces_json(core, otlp.json(request))
    assert one.facts == other.facts
    assert (one.verdicts, one.content) == (other.verdicts, other.content)
    assert [told.errors for told in one.incomplete] == [told.errors for told in other.incomplete]
    for kind, facts in one.facts.items():
        for fact in facts:
            event = codec.decode(codec.encode(KINDS[kind].event, fact.event)).value
            counts = [event[name] for name in event if name.endswith("_tokens") and event[name] is not None]
            assert all(count >= 0 for count in counts)
