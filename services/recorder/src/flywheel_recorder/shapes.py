"""How an event's Avro schema becomes a staged block and an INSERT: the header of the block, its columns, the checks.

The recorder does not decode events. Avro encodes a record as its fields one after the other, so a record with fields
put before and after it is the same bytes with bytes put before and after: each row becomes

    partition, offset, timestamp (doubles) · the event exactly as it was sent · an end mark (double)

in a block of its own of an Avro object container file, which ClickHouse parses into columns in C++. The end mark reads
wrong when the event is longer or shorter than its schema says. Doubles carry integers exactly up to 2^53 and, unlike
Avro's own integers, have a fixed length.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flywheel.store import quoted
from flywheel_recorder.rules import Rule, condition, rules_of

SYNC: Final = hashlib.md5(b"flywheel recorder", usedforsecurity=False).digest()
END_MARK: Final = 8.123456789e123
_POSITION: Final = struct.Struct("<ddd")
_END: Final = struct.Struct("<d").pack(END_MARK)
_ROW_OVERHEAD: Final = _POSITION.size + len(_END)
_STAGED: Final = ("p_partition", "p_offset", "p_timestamp_ms")
_BROKER_US: Final = "toInt64(p_timestamp_ms) * 1000"


@dataclass(frozen=True, slots=True)
class Shape:
    """One writer schema of one event, ready to be staged and inserted.

    Attributes:
        event: name of the event.
        table: table it goes to.
        schema_id: id in the frame.
        header: start of an Avro file for it.
        structure: its staged columns as ClickHouse types, for ``file(…, Avro, structure)``.
        columns: staged columns that the table has, in order.
        valid: SQL condition that holds for rows that make sense.
        rules: the same condition for Python.
    """

    event: str
    table: str
    schema_id: int
    header: bytes
    structure: str
    columns: tuple[str, ...]
    valid: str
    rules: tuple[Rule, ...]

    def insert(self, *, topic: str, source: str, first_offsets: Mapping[int, int], where: str, settings: str) -> str:
        """The INSERT of the staged rows that satisfy ``where``.

        Args:
            topic: Kafka topic of the rows.
            source: SQL expression that yields the staged rows.
            first_offsets: first offset of the running batch, by partition.
            where: condition over the staged columns.
            settings: body of a SETTINGS clause.
        """
        names = ", ".join(f"`{c}`" for c in self.columns)
        return (
            f"INSERT INTO {self.table} (k_topic, k_partition, k_offset, k_timestamp, k_batch_first, {names})"
            f" SETTINGS {settings} SELECT {position_columns(topic, first_offsets)}, {names} FROM {source} WHERE {where}"
        )


def position_columns(topic: str, first_offsets: Mapping[int, int]) -> str:
    """The SELECT list that turns the staged position into the table's ``k_`` columns."""
    partitions = ", ".join(str(p) for p in first_offsets)
    firsts = ", ".join(str(o) for o in first_offsets.values())
    return (
        f"{quoted(topic)}, toInt32(p_partition), toInt64(p_offset), "
        "fromUnixTimestamp64Milli(toInt64(p_timestamp_ms), 'UTC'), "
        f"transform(toInt32(p_partition), [{partitions}], [{firsts}], toInt64(p_offset))"
    )


def shape_of(event: str, schema: Mapping[str, Any], schema_id: int, table: str, columns: Collection[str]) -> Shape:
    """Build the shape of a writer schema for a table with these columns; fields the table lacks are not read."""
    known = [f for f in schema["fields"] if f["name"] in columns]
    position = [{"name": name, "type": "double"} for name in _STAGED]
    extended = {**schema, "fields": [*position, *schema["fields"], {"name": "p_end", "type": "double"}]}
    staged = [f"{name} Float64" for name in (*_STAGED, "p_end")]
    staged += [f"`{f['name']}` {staged_type(f['type'])}" for f in known]
    rules = rules_of({"fields": known})
    return Shape(
        event=event,
        table=table,
        schema_id=schema_id,
        header=_container_header(extended),
        structure=", ".join(staged),
        columns=tuple(f["name"] for f in known),
        valid=f"p_end = {END_MARK!r} AND {condition(rules, _BROKER_US)}",
        rules=rules,
    )


def staged_type(avro: Any) -> str:
    """The plain ClickHouse type an Avro type is parsed into.

    Plain on purpose: parsing straight into LowCardinality costs four times as much as converting whole columns later.
    """
    if isinstance(avro, list):
        return f"Nullable({staged_type(next(t for t in avro if t != 'null'))})"
    if isinstance(avro, str):
        return _PLAIN[avro]
    if avro.get("logicalType") == "timestamp-micros":
        return "DateTime64(6, 'UTC')"
    if avro.get("logicalType") == "decimal":
        return f"Decimal({avro['precision']}, {avro['scale']})"
    if avro["type"] == "map":
        return f"Map(String, {staged_type(avro['values'])})"
    if avro["type"] == "array":
        return f"Array({staged_type(avro['items'])})"
    if avro["type"] == "record":
        return "Tuple(" + ", ".join(f"{f['name']} {staged_type(f['type'])}" for f in avro["fields"]) + ")"
    return _PLAIN[avro["type"]]


_PLAIN: Final[Mapping[str, str]] = {
    "string": "String",
    "enum": "String",
    "bytes": "String",
    "int": "Int32",
    "long": "Int64",
    "double": "Float64",
    "float": "Float32",
    "boolean": "Bool",
}


def stage(header: bytes, rows: Sequence[tuple[int, int, int, bytes]]) -> bytes:
    """Build an Avro file of rows ``(partition, offset, timestamp_ms, framed event)``, one block each.

    A block per row: a row that does not end where its schema says can't shift the ones after it.
    """
    pack, lengths = _POSITION.pack, dict[int, bytes]()
    parts = [header]
    add = parts.append
    for partition, offset, timestamp_ms, framed in rows:
        size = len(framed) - 5 + _ROW_OVERHEAD
        length = lengths.get(size)
        if length is None:
            length = lengths[size] = b"\x02" + zigzag(size)
        add(length)
        add(pack(partition, offset, timestamp_ms))
        add(framed[5:])
        add(_END)
        add(SYNC)
    return b"".join(parts)


def zigzag(number: int) -> bytes:
    """Avro's encoding of a long: zig-zag, then seven bits a byte, least significant first (Avro 1.11)."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append((rest & 0x7F) | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _container_header(schema: Mapping[str, Any]) -> bytes:
    meta = {"avro.schema": json.dumps(schema, separators=(",", ":")).encode(), "avro.codec": b"null"}
    out = [b"Obj\x01", zigzag(len(meta))]
    for key, value in meta.items():
        out += [zigzag(len(key)), key.encode(), zigzag(len(value)), value]
    return b"".join([*out, zigzag(0), SYNC])
