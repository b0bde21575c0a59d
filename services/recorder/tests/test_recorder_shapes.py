"""Blocks are real Avro files, and the position travels in front of the event's own bytes."""

from __future__ import annotations

from io import BytesIO

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.events import Codec
from flywheel.events.examples import examples
from flywheel.store import TABLES, quoted
from flywheel_recorder.shapes import END_MARK, shape_of, stage, staged_type, zigzag


def shape(codec: Codec, event: str):  # type: ignore[no-untyped-def]
    schema = codec.schema(event)
    names = [f["name"] for f in schema["fields"]]
    return shape_of(event, schema, codec.schema_id(event), TABLES[event], names)


@pytest.mark.parametrize("event", sorted(TABLES))
def test_any_avro_reader_reads_a_staged_block(codec: Codec, event: str) -> None:
    given_values = list(examples(event).values())
    rows = [(3, 2**40 + i, 1_795_651_200_123, codec.encode(event, v)) for i, v in enumerate(given_values)]
    read = list(fastavro.reader(BytesIO(stage(shape(codec, event).header, rows))))
    assert [(r.pop("p_partition"), r.pop("p_offset"), r.pop("p_timestamp_ms")) for r in read] == [r[:3] for r in rows]
    assert [r.pop("p_end") for r in read] == [END_MARK] * len(rows)
    assert [r["event_id"] for r in read] == [v["event_id"] for v in given_values]


def test_an_empty_block_has_no_rows(codec: Codec) -> None:
    assert list(fastavro.reader(BytesIO(stage(shape(codec, "charter").header, [])))) == []


@given(st.integers(-(2**63), 2**63 - 1))
def test_zigzag_is_avros_long(number: int) -> None:
    out = BytesIO()
    fastavro.schemaless_writer(out, {"type": "long"}, number)
    assert zigzag(number) == out.getvalue()


def test_fields_the_table_lacks_are_not_inserted_but_stay_in_the_block(codec: Codec) -> None:
    """A producer may know a newer schema than this store: what it adds waits for its migration."""
    narrow = shape_of("charter", codec.schema("charter"), 6, "charters", ["event_id", "project", "occurred_at"])
    assert narrow.columns == ("event_id", "project", "occurred_at")
    row = (0, 1, 2, codec.encode("charter", next(iter(examples("charter").values()))))
    (read,) = fastavro.reader(BytesIO(stage(narrow.header, [row])))
    assert "charter_yaml" in read


@pytest.mark.parametrize(
    ("avro", "clickhouse"),
    [
        (["null", "string"], "Nullable(String)"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "String"),
        ({"type": "map", "values": "double"}, "Map(String, Float64)"),
        ({"type": "array", "items": "string"}, "Array(String)"),
        (
            ["null", {"type": "bytes", "logicalType": "decimal", "precision": 28, "scale": 12}],
            "Nullable(Decimal(28, 12))",
        ),
    ],
)
def test_staged_types(avro: object, clickhouse: str) -> None:
    assert staged_type(avro) == clickhouse


def test_quoting_a_literal() -> None:
    assert quoted("it's\\") == "'it\\'s\\\\'"
