"""Readers written out from a schema as one function, so that a field costs no call; what they cannot take raises, and
the codec then asks fastavro, as for the writers in `compiled`."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from functools import lru_cache
from types import CodeType
from typing import Any, cast

from flywheel.events.compiled import NotCompiled
from flywheel.events.declarations import JsonSchema

Read = Callable[[bytes, int], tuple[Any, int]]

_DOUBLE = struct.Struct("<d")
_MAX_SHIFT = 63
_ENUM_INLINED = 64


def _read_long(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    at += 1
    if byte < 128:
        return (byte >> 1) ^ -(byte & 1), at
    n, shift = byte & 127, 7
    while byte > 127:
        byte = data[at]
        at += 1
        n |= (byte & 127) << shift
        shift += 7
        if shift > _MAX_SHIFT + 7:
            raise NotCompiled("varint too long")
    if n >> 64:
        raise NotCompiled("beyond 64 bits")
    return (n >> 1) ^ -(n & 1), at


def _span(data: bytes, at: int) -> tuple[int, int]:
    """Start and end of length-prefixed bytes, inside ``data``."""
    byte = data[at]
    if byte < 128 and not byte & 1:
        start = at + 1
        end = start + (byte >> 1)
    else:
        size, start = _read_long(data, at)
        if size < 0:
            raise NotCompiled("negative length")
        end = start + size
    if end > len(data):
        raise NotCompiled("ends too early")
    return start, end


def _read_string(data: bytes, at: int) -> tuple[str, int]:
    start, end = _span(data, at)
    return data[start:end].decode(), end


def _read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    start, end = _span(data, at)
    return data[start:end], end


def _read_double(data: bytes, at: int) -> tuple[float, int]:
    return _DOUBLE.unpack_from(data, at)[0], at + 8


def _read_boolean(data: bytes, at: int) -> tuple[bool, int]:
    byte = data[at]
    if byte > 1:
        raise NotCompiled("neither true nor false")
    return byte == 1, at + 1


def _decimal_reader(scale: int) -> Read:
    unit = Decimal(1).scaleb(-scale)

    def read(data: bytes, at: int) -> tuple[Decimal, int]:
        start, end = _span(data, at)
        if end - start > 12:  # 96 bits: 28 digits at most, so the product below is exact
            raise NotCompiled("wide decimal")
        return int.from_bytes(data[start:end], "big", signed=True) * unit, end

    return read


def _enum_reader(symbols: list[str]) -> Read:
    count = len(symbols)

    def read(data: bytes, at: int) -> tuple[str, int]:
        index, at = _read_long(data, at)
        if not 0 <= index < count:
            raise NotCompiled("no such symbol")
        return symbols[index], at

    return read


def _map_reader(read_value: Read) -> Read:
    def read(data: bytes, at: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        count, at = _read_long(data, at)
        while count:
            if count < 0:
                raise NotCompiled("block with a byte size")
            for _ in range(count):
                key, at = _read_string(data, at)
                found[key], at = read_value(data, at)
            count, at = _read_long(data, at)
        return found, at

    return read


def _array_reader(read_item: Read) -> Read:
    def read(data: bytes, at: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        count, at = _read_long(data, at)
        while count:
            if count < 0:
                raise NotCompiled("block with a byte size")
            for _ in range(count):
                item, at = read_item(data, at)
                found.append(item)
            count, at = _read_long(data, at)
        return found, at

    return read


def _nullable_reader(read_some: Read) -> Read:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        branch = data[at]
        if branch == 2:
            return read_some(data, at + 1)
        if branch:
            raise NotCompiled("no such branch")
        return None, at + 1

    return read


def record_reader(schema: JsonSchema, only: Collection[str] | None = None) -> Read:
    """Compile a record's reader: ``read(data, at) -> (value, end)``; with ``only``, other fields are passed over.

    Written out as one function without a call per field, as ``dataclasses`` does it: calls were half of the time. What
    is written depends on the types alone; names and everything else from the schema are bound, never written.

    Raises:
        NotCompiled: the schema has a type no closure is made for.
    """
    bound: dict[str, Any] = dict(_NAMES)
    lines = ["def read(data, at):", " size = len(data)"]
    kept: list[str] = []
    for place, field in enumerate(schema["fields"]):
        nullable, inner = _unwrap(field["type"])
        into = f"v{place}"
        body = _statements(inner, into, place, bound)
        if nullable:
            lines += [" branch = data[at]", " at += 1", f" if branch == 0: {into} = None", " elif branch == 2:"]
            lines += [f"  {line}" for line in body]
            lines += [" else: raise NotCompiled('no such branch')"]
        else:
            lines += [f" {line}" for line in body]
        if only is None or field["name"] in only:
            bound[f"name{place}"] = field["name"]
            kept.append(f"name{place}: {into}")
    lines += [" if at > size: raise NotCompiled('ends too early')", f" return {{{', '.join(kept)}}}, at"]
    exec(_code("\n".join(lines)), bound)  # noqa: S102  nothing in it comes from outside
    return cast(Read, bound["read"])


@lru_cache(maxsize=256)
def _code(text: str) -> CodeType:
    """A function's text, compiled once in a process: every codec asks for the same, and it is most of their start."""
    return compile(text, "<record reader>", "exec")


def _unwrap(schema: Any) -> tuple[bool, Any]:
    """Whether the schema is ``["null", some]``, and ``some`` or the schema itself."""
    match schema:
        case ["null", some]:
            return True, some
    return False, schema


def _statements(schema: Any, into: str, place: int, bound: dict[str, Any]) -> list[str]:
    """Statements that read one value at ``at`` into a variable and move ``at`` on."""
    long = ["byte = data[at]", "if byte < 128:", f" {into} = (byte >> 1) ^ -(byte & 1)", " at += 1"]
    long += [f"else: {into}, at = read_long(data, at)"]
    span = ["byte = data[at]", "if byte < 128 and not byte & 1:", " start = at + 1", " at = start + (byte >> 1)"]
    span += [" if at > size: raise NotCompiled('ends too early')", "else: start, at = span(data, at)"]
    match schema:
        case "string" | {"type": "string"}:
            return [*span, f"{into} = data[start:at].decode()"]
        case "bytes":
            return [*span, f"{into} = data[start:at]"]
        case "long" | "int" | {"type": "long" | "int"} if not isinstance(schema, dict) or "logicalType" not in schema:
            return long
        case "double":
            return [f"{into} = double(data, at)[0]", "at += 8"]
        case {"logicalType": "decimal", "type": "bytes", "scale": scale}:
            bound[f"unit{place}"] = Decimal(1).scaleb(-scale)
            wide = "if at - start > 12: raise NotCompiled('wide decimal')"
            return [*span, wide, f"{into} = int.from_bytes(data[start:at], 'big', signed=True) * unit{place}"]
        case {"type": "enum", "symbols": symbols} if len(symbols) <= _ENUM_INLINED:
            bound[f"symbols{place}"] = tuple(symbols)
            odd = f"if byte & 1 or byte >= {2 * len(symbols)}: raise NotCompiled('no such symbol')"
            return ["byte = data[at]", "at += 1", odd, f"{into} = symbols{place}[byte >> 1]"]
        case {"type": "map" | "array" as kind}:
            bound[f"read{place}"] = _reader(schema)
            empty = "{}" if kind == "map" else "[]"
            return ["if data[at]:", f" {into}, at = read{place}(data, at)", f"else: {into} = {empty}; at += 1"]
    bound[f"read{place}"] = _reader(schema)
    return [f"{into}, at = read{place}(data, at)"]


_NAMES: Mapping[str, Any] = {
    "NotCompiled": NotCompiled,
    "read_long": _read_long,
    "span": _span,
    "double": _DOUBLE.unpack_from,
}


def _reader(schema: Any) -> Read:
    match schema:
        case ["null", some]:
            return _nullable_reader(_reader(some))
        case {"logicalType": "decimal", "type": "bytes", "scale": scale}:
            return _decimal_reader(scale)
        case {"type": "enum", "symbols": symbols}:
            return _enum_reader(symbols)
        case {"type": "map", "values": values}:
            return _map_reader(_reader(values))
        case {"type": "array", "items": items}:
            return _array_reader(_reader(items))
        case {"type": "record"}:
            return record_reader(schema)
        case {"type": str(scalar)} if "logicalType" not in schema:
            return _reader(scalar)
        case str(scalar) if scalar in _SCALAR_READERS:
            return _SCALAR_READERS[scalar]
    raise NotCompiled(f"no closure for {schema!r:.80}")


_SCALAR_READERS: Mapping[str, Read] = {
    "string": _read_string,
    "long": _read_long,
    "int": _read_long,
    "double": _read_double,
    "boolean": _read_boolean,
    "bytes": _read_bytes,
}
