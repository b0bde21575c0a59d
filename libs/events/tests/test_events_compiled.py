"""The compiled closures against fastavro: the same bytes, the same values, or a plain "ask fastavro"."""

from __future__ import annotations

from decimal import Decimal
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.events import Codec, LocalRegistry, Undecodable
from flywheel.events.codec import FRAME_BYTES, added_fields, plain_timestamps
from flywheel.events.compiled import NotCompiled, record_writer
from flywheel.events.compiled_reader import record_reader
from flywheel.events.examples import examples
from flywheel.events.models import MODELS

registry = LocalRegistry.load()
codec = Codec(registry)
PLAIN = {event: plain_timestamps(registry.newest(event).avsc) for event in sorted(MODELS)}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def values(schema: Any) -> st.SearchStrategy[Any]:
    """Every value of an Avro type."""
    if isinstance(schema, list):
        return st.one_of([values(s) for s in schema])
    if isinstance(schema, dict):
        match schema:
            case {"type": "record", "fields": fields}:
                return st.fixed_dictionaries({f["name"]: values(f["type"]) for f in fields})
            case {"type": "enum", "symbols": symbols}:
                return st.sampled_from(symbols)
            case {"type": "array", "items": items}:
                return st.lists(values(items), max_size=3)
            case {"type": "map", "values": inner}:
                return st.dictionaries(TEXT, values(inner), max_size=3)
            case {"logicalType": "decimal", "precision": precision, "scale": scale}:
                most = 10 ** (precision - 1)
                return st.integers(-most, most).map(lambda n: Decimal(n).scaleb(-scale))
        return values(schema["type"])
    return {
        "null": st.none(),
        "string": TEXT,
        "bytes": st.binary(max_size=20),
        "boolean": st.booleans(),
        "double": st.floats(allow_nan=False),
        "int": st.integers(-(2**31), 2**31 - 1),
        "long": st.integers(-(2**63), 2**63 - 1),
    }[schema]


def by_fastavro(event: str, value: Any) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(PLAIN[event]), value)
    return out.getvalue()


@settings(max_examples=300, deadline=None)
@given(data=st.data(), event=st.sampled_from(sorted(PLAIN)))
def test_bytes_and_values_are_fastavros(data: st.DataObject, event: str) -> None:
    value = data.draw(values(PLAIN[event]))
    expected = by_fastavro(event, value)
    assert record_writer(PLAIN[event])(value) == expected
    assert record_reader(PLAIN[event])(expected, 0) == (value, len(expected))
    assert codec.decode(codec.encode(event, value)).value == value


@settings(max_examples=500, deadline=None)
@given(data=st.data(), event=st.sampled_from(sorted(PLAIN)))
def test_on_damaged_bytes_the_closures_never_read_what_fastavro_would_not(data: st.DataObject, event: str) -> None:
    name = data.draw(st.sampled_from(sorted(examples(event))))
    whole = bytearray(codec.encode(event, examples(event)[name])[FRAME_BYTES:])
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        value, end = record_reader(PLAIN[event])(bytes(whole), 0)
    except Exception:
        return  # fastavro decides
    stream = BytesIO(bytes(whole))
    expected = fastavro.schemaless_reader(stream, fastavro.parse_schema(PLAIN[event]), None)
    assert (repr(value), end) == (repr(expected), stream.tell())


@settings(max_examples=100, deadline=None)
@given(data=st.data(), event=st.sampled_from(sorted(PLAIN)))
def test_a_projection_reads_the_same_values(data: st.DataObject, event: str) -> None:
    names = [f["name"] for f in PLAIN[event]["fields"]]
    only = data.draw(st.sets(st.sampled_from(names)))
    value = data.draw(values(PLAIN[event]))
    decoded = Codec(registry, only={event: only}).decode(codec.encode(event, value))
    assert decoded.value == {k: v for k, v in value.items() if k in only}


def test_a_projection_holds_for_what_only_fastavro_reads() -> None:
    """Maps may be written in blocks with a byte size; closures pass on that, and the projection still holds."""
    value = examples("feedback")["thumb-up"]
    plain = codec.encode("feedback", value | {"attributes": {}, "received_at": None})
    assert plain[-2:] == b"\x00\x00"  # an empty map, and no received_at
    blocks = plain[:-2] + b"\x01\x08\x02a\x02b\x00" + b"\x00"  # one pair, in a block of 4 bytes
    assert codec.decode(blocks).value["attributes"] == {"a": "b"}
    assert Codec(registry, only={"feedback": {"attributes"}}).decode(blocks).value == {"attributes": {"a": "b"}}


@pytest.mark.parametrize(
    "change",
    [
        {"occurred_at": True},
        {"occurred_at": 2**63},
        {"value": 1},
        {"kind": 3},
        {"source": "NOBODY"},
        {"attributes": []},
        {"extra": 1},
        {"project": "\ud800"},
    ],
)
def test_what_closures_do_not_take_is_left_to_fastavro(change: dict[str, Any]) -> None:
    with pytest.raises((NotCompiled, KeyError, UnicodeEncodeError)):
        record_writer(PLAIN["feedback"])(examples("feedback")["thumb-up"] | change)


def test_an_integer_where_a_float_belongs_is_written_as_fastavro_writes_it() -> None:
    value = codec.decode(codec.encode("feedback", examples("feedback")["thumb-up"] | {"value": 1})).value
    assert value["value"] == 1.0


def test_an_endless_varint_is_not_followed() -> None:
    with pytest.raises(Undecodable):
        codec.decode(b"\x00" + codec.schema_id("feedback").to_bytes(4, "big") + b"\xff" * 40)


OLDER = [version for version in registry.all() if registry.newest(version.event).version != version.version]


@settings(max_examples=200, deadline=None)
@given(data=st.data(), older=st.sampled_from(OLDER))
def test_an_older_version_is_read_into_the_newest_shape_as_fastavro_does(data: st.DataObject, older: Any) -> None:
    plain = plain_timestamps(older.avsc)
    value = data.draw(values(plain))
    body = BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(plain), value)
    newest = fastavro.parse_schema(PLAIN[older.event])
    expected = fastavro.schemaless_reader(BytesIO(body.getvalue()), fastavro.parse_schema(plain), newest)
    framed = b"\x00" + older.schema_id.to_bytes(4, "big") + body.getvalue()
    assert added_fields(older.avsc, registry.newest(older.event).avsc) is not None
    assert codec.decode(framed).value == expected
    names = sorted(expected)
    only = {older.event: data.draw(st.sets(st.sampled_from(names)))}
    assert Codec(registry, only=only).decode(framed).value == {n: expected[n] for n in only[older.event]}


def test_defaults_are_nobody_elses() -> None:
    (one, two) = (codec.decode(_old_call()).value for _ in range(2))
    one["shares"]["a"] = "1"
    assert (two["shares"], codec.decode(_old_call()).value["shares"]) == ({}, {})


def _old_call() -> bytes:
    older = next(version for version in OLDER if version.event == "llm_call")
    plain = plain_timestamps(older.avsc)
    return b"\x00" + older.schema_id.to_bytes(4, "big") + record_writer(plain)(examples("llm_call", 1)["minimal"])


@pytest.mark.parametrize(
    "changed",
    [
        lambda fields: fields[0].update(type="bytes"),
        lambda fields: fields.pop(),
        lambda fields: fields.append({"name": "new", "type": "string"}),
        lambda fields: fields.append({"name": "new", "type": "bytes", "default": "\\u00ff"}),
    ],
)
def test_more_than_added_fields_is_left_to_fastavro(changed: Any) -> None:
    schema = registry.newest("feedback").avsc
    newer = registry.newest("feedback").avsc
    changed(newer["fields"])
    assert added_fields(schema, newer) is None


@pytest.mark.parametrize("event", sorted(PLAIN))
def test_a_projection_notices_a_record_that_ends_too_early(event: str) -> None:
    """Whatever is passed over, where the record ends is looked at."""
    for name in sorted(examples(event)):
        data = codec.encode(event, examples(event)[name])
        for only in ((), (PLAIN[event]["fields"][0]["name"],)):
            narrow = Codec(registry, only={event: only})
            for end in range(FRAME_BYTES, len(data)):
                with pytest.raises(Undecodable):
                    narrow.decode(data[:end])
