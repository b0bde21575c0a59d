"""Events to bytes and back: Confluent framing (0x00, 4-byte schema id) around Avro.

fastavro defines what is right; what needs no second look goes through what is compiled from the schemas instead.

In Python an event is a plain dict: timestamps are integer microseconds since the epoch (UTC), money is
``decimal.Decimal``, enums are strings. The wire keeps the logical types, so every other reader sees real timestamps.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from typing import Any, TypeVar

import fastavro
from fastavro.validation import validate

from flywheel.events.compiled import NotCompiled, Write, record_writer
from flywheel.events.compiled_reader import Read, record_reader
from flywheel.events.declarations import JsonSchema, SchemaVersion
from flywheel.events.errors import EventInvalid, Undecodable, UnknownSchema
from flywheel.events.registry import Registry

FRAME_BYTES = 5
_FRAME = struct.Struct(">bI")
T = TypeVar("T")
Limits = tuple[tuple[str, Decimal], ...]


@dataclass(frozen=True, slots=True)
class Decoded:
    """An event read from the wire, in the shape of its newest version."""

    event: str
    version: int
    schema_id: int
    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Writer:
    frame: bytes
    schema: Any
    compiled: Write | None
    limits: Limits


@dataclass(frozen=True, slots=True)
class _Reader:
    ref: SchemaVersion
    writer: Any
    reader: Any
    compiled: Read | None
    limits: Limits
    added: Mapping[str, Any]
    """What the newest version has besides, at its defaults; only where that is all that differs."""
    empty: tuple[tuple[str, type], ...]
    """The maps and arrays among that, which every value gets its own of."""


def plain_timestamps(schema: Any) -> Any:
    """Return the schema without ``timestamp-micros``: the same bytes, read and written as plain integers."""
    if isinstance(schema, dict):
        kept = {k: plain_timestamps(v) for k, v in schema.items()}
        if kept.get("logicalType") == "timestamp-micros":
            del kept["logicalType"]
        return kept
    if isinstance(schema, list):
        return [plain_timestamps(s) for s in schema]
    return schema


def money_limits(schema: JsonSchema) -> Limits:
    """The decimal fields of a record and the magnitude each stays below; Avro itself does not hold values to it."""
    found: list[tuple[str, Decimal]] = []
    for field in schema["fields"]:
        branches = field["type"] if isinstance(field["type"], list) else [field["type"]]
        for branch in branches:
            if isinstance(branch, dict) and branch.get("logicalType") == "decimal":
                found.append((field["name"], Decimal(10) ** (branch["precision"] - branch["scale"])))
    return tuple(found)


def _too_large(value: Mapping[str, Any], limits: Limits) -> str | None:
    for name, limit in limits:
        amount = value.get(name)
        if amount is not None and not -limit < amount < limit:
            return name
    return None


def _compile(compiler: Callable[[JsonSchema], T], schema: JsonSchema) -> T | None:
    try:
        return compiler(schema)
    except NotCompiled:
        return None


def _compiled_bytes(writer: _Writer, value: Any) -> bytes | None:
    """The encoded value, or None where fastavro has to decide."""
    if writer.compiled is None:
        return None
    try:
        return writer.compiled(value)
    except Exception:
        return None


def _compiled_value(reader: _Reader, data: bytes) -> dict[str, Any] | None:
    """The decoded value, or None where fastavro has to decide."""
    if reader.compiled is None:
        return None
    try:
        value: dict[str, Any]
        value, end = reader.compiled(data, FRAME_BYTES)
    except Exception:
        return None
    if end != len(data):
        return None
    if reader.added:
        value.update(reader.added)
        for name, container in reader.empty:
            value[name] = container()
    return value


def added_fields(old: JsonSchema, new: JsonSchema) -> Mapping[str, Any] | None:
    """The fields that ``new`` has besides those of ``old``, with their defaults; None where more than that differs, or
    where a default is not in JSON what it is in Python."""
    before = {field["name"]: field for field in old["fields"]}
    added: dict[str, Any] = {}
    for field in new["fields"]:
        known = before.pop(field["name"], None)
        if known is not None:
            if known["type"] != field["type"]:
                return None
        elif field.get("default", ...) in (None, {}, []) or _is_plain(field):
            added[field["name"]] = field["default"]
        else:
            return None
    return None if before else added


def _is_plain(field: JsonSchema) -> bool:
    enum = isinstance(field["type"], dict) and field["type"]["type"] == "enum"
    return "default" in field and (enum or field["type"] in ("string", "int", "long", "boolean"))


class Codec:
    """Encodes with the newest version of an event; decodes any known version into the newest one's shape.

    Args:
        registry: which schema has which id.
        only: per event, the fields worth decoding; the others are passed over, which is faster. Events not named here
            are decoded whole.
    """

    def __init__(self, registry: Registry, only: Mapping[str, Collection[str]] | None = None) -> None:
        self._registry = registry
        self._only = {event: frozenset(fields) for event, fields in (only or {}).items()}
        self._writers: dict[str, _Writer] = {}
        self._readers: dict[int, _Reader] = {}

    def encode(self, event: str, value: Mapping[str, Any]) -> bytes:
        """Return the framed bytes of ``value``; fields with a default may be left out.

        Raises:
            EventInvalid: a field is missing, unknown or of the wrong type; ``field`` names it.
            KeyError: no such event.
        """
        writer = self._writers.get(event) or self._add_writer(event)
        body = _compiled_bytes(writer, value)
        if body is None:
            out = BytesIO()
            try:
                fastavro.schemaless_writer(out, writer.schema, value, strict_allow_default=True)
            except Exception as error:
                raise self._explain(event, writer.schema, value, error) from error
            body = out.getvalue()
        field = _too_large(value, writer.limits)
        if field is not None:
            raise EventInvalid(event, field, f"{value[field]} has more digits than its type")
        return writer.frame + body

    def decode(self, data: bytes) -> Decoded:
        """Read framed bytes.

        Raises:
            Undecodable: not a frame, or not what its schema says, or bytes left over.
            UnknownSchema: the id is not known here (yet).
        """
        if len(data) < FRAME_BYTES or data[0] != 0:
            raise Undecodable("not in Confluent framing: expected 0x00 and a 4-byte schema id")
        schema_id = _FRAME.unpack_from(data)[1]
        reader = self._readers.get(schema_id) or self._add_reader(schema_id)
        value = _compiled_value(reader, data)
        if value is None:
            value = self._decode_slowly(reader, data, schema_id)
        field = _too_large(value, reader.limits)
        if field is not None:
            raise Undecodable(f"{field} has more digits than its type", schema_id)
        return Decoded(reader.ref.event, reader.ref.version, schema_id, value)

    def _decode_slowly(self, reader: _Reader, data: bytes, schema_id: int) -> dict[str, Any]:
        stream = BytesIO(data)
        stream.seek(FRAME_BYTES)
        try:
            value: Any = fastavro.schemaless_reader(stream, reader.writer, reader.reader)
        except Exception as error:  # fastavro raises whatever its parts raise on hostile bytes
            raise Undecodable(f"not a {reader.ref.event} v{reader.ref.version}: {error!r}", schema_id) from error
        if stream.tell() != len(data):
            left = len(data) - stream.tell()
            raise Undecodable(f"{left} bytes left over after {reader.ref.event} v{reader.ref.version}", schema_id)
        only = self._only.get(reader.ref.event)
        return dict(value) if only is None else {k: v for k, v in value.items() if k in only}

    def schema_id(self, event: str) -> int:
        """Id of the newest version of ``event``."""
        return self._registry.newest(event).schema_id

    def schema(self, event: str) -> JsonSchema:
        """The newest version of ``event`` as declared; a fresh copy."""
        return self._registry.newest(event).avsc

    def writer_schema(self, schema_id: int) -> SchemaVersion:
        """The version with this id. Raises UnknownSchema."""
        found = self._registry.by_id(schema_id)
        if found is None:
            raise UnknownSchema(schema_id)
        return found

    def _add_writer(self, event: str) -> _Writer:
        newest = self._registry.newest(event)
        plain = plain_timestamps(newest.avsc)
        parsed = fastavro.parse_schema(plain)
        writer = _Writer(_FRAME.pack(0, newest.schema_id), parsed, _compile(record_writer, plain), money_limits(plain))
        self._writers[event] = writer
        return writer

    def _add_reader(self, schema_id: int) -> _Reader:
        ref = self.writer_schema(schema_id)
        newest = self._registry.newest(ref.event)
        plain = plain_timestamps(ref.avsc)
        writer = fastavro.parse_schema(plain)
        same = newest.schema_id == schema_id
        resolved = None if same else fastavro.parse_schema(plain_timestamps(newest.avsc))
        only = self._only.get(ref.event)
        added = {} if same else added_fields(ref.avsc, newest.avsc)
        compiled = None if added is None else _compile(lambda schema: record_reader(schema, only), plain)
        added = {k: v for k, v in (added or {}).items() if only is None or k in only}
        empty = tuple((name, type(default)) for name, default in added.items() if isinstance(default, dict | list))
        reader = _Reader(ref, writer, resolved, compiled, money_limits(newest.avsc), added, empty)
        self._readers[schema_id] = reader
        return reader

    @staticmethod
    def _explain(event: str, schema: Any, value: Mapping[str, Any], cause: Exception) -> EventInvalid:
        if not isinstance(value, Mapping):
            return EventInvalid(event, "", "an event is an object")
        fields = {f["name"]: f for f in schema["fields"]}
        unknown = sorted(set(value) - set(fields))
        if unknown:
            return EventInvalid(event, str(unknown[0]), "no such field")
        for name, field in fields.items():
            if name not in value:
                if "default" not in field:
                    return EventInvalid(event, name, "required")
            elif not _fits(value[name], field["type"]):
                return EventInvalid(event, name, f"{value[name]!r:.80} does not fit its type")
        return EventInvalid(event, "", f"not encodable: {cause!r:.200}")


def _fits(value: Any, schema: Any) -> bool:
    try:
        if not validate(value, schema, raise_errors=False):
            return False
        fastavro.schemaless_writer(BytesIO(), schema, value)
    except Exception:  # a value that fits by type may still not be writable, e.g. a decimal with too many places
        return False
    return True
