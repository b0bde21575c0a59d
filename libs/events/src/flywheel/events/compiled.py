"""Writers compiled from a schema into closures: the hot path of the codec (readers: `compiled_reader`).

fastavro looks up types and tries union branches at every value; on our wide, mostly null records that is two thirds
of its time. Here each field's closure is chosen once. What a closure cannot take raises, and the codec then asks
fastavro, so there is one definition of right and wrong; tests hold the two to the same bytes and values.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, cast

from flywheel.events.declarations import JsonSchema

Write = Callable[[Any], bytes]

_DOUBLE = struct.Struct("<d")
_SOME_DOUBLE = struct.Struct("<Bd")
_NULL, _SECOND_BRANCH, _END = b"\x00", b"\x02", b"\x00"
_CACHED = 4096


class NotCompiled(Exception):
    """A value or bytes outside what the closures handle; fastavro decides."""


def _unsigned(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


# Varints by 14 bits: the last two bytes of one, and two bytes with more to come.
_LAST = tuple(_unsigned(n) for n in range(1 << 14))
_MORE = tuple(bytes((n & 127 | 128, n >> 7 | 128)) for n in range(1 << 14))


def _zigzag(n: int) -> bytes:
    n = (n << 1) ^ (n >> 63)
    if n >> 64:
        raise NotCompiled("beyond 64 bits")
    head = b""
    while n > 16383:  # two bytes at a time
        head += _MORE[n & 16383]
        n >>= 14
    return head + _LAST[n]


_VARINTS = tuple(_zigzag(n) for n in range(_CACHED))
_SOME_VARINTS = tuple(_SECOND_BRANCH + size for size in _VARINTS)


def _write_long(value: Any) -> bytes:
    if value.__class__ is not int:
        raise NotCompiled("not an int")
    return _VARINTS[value] if 0 <= value < _CACHED else _zigzag(value)


def _write_int(value: Any) -> bytes:
    if value.__class__ is not int or not -(2**31) <= value < 2**31:
        raise NotCompiled("not a 32-bit int")
    return _VARINTS[value] if 0 <= value < _CACHED else _zigzag(value)


def _write_string(value: Any) -> bytes:
    if value.__class__ is not str:
        raise NotCompiled("not text")
    data: bytes = value.encode()
    size = len(data)
    return (_VARINTS[size] if size < _CACHED else _zigzag(size)) + data


def _write_bytes(value: Any) -> bytes:
    if value.__class__ is not bytes:
        raise NotCompiled("not bytes")
    return _zigzag(len(value)) + bytes(value)


def _write_double(value: Any) -> bytes:
    if value.__class__ is not float:
        raise NotCompiled("not a float")
    return _DOUBLE.pack(value)


def _write_boolean(value: Any) -> bytes:
    if value is True:
        return b"\x01"
    if value is False:
        return b"\x00"
    raise NotCompiled("not a boolean")


def _decimal_writer(scale: int) -> Write:
    def write(value: Any) -> bytes:
        if value.__class__ is not Decimal or not value.is_finite():
            raise NotCompiled("not a finite Decimal")
        scaled = value.scaleb(scale)
        unscaled = int(scaled)
        # Beyond 96 bits scaleb may have rounded to the context's 28 digits.
        if unscaled != scaled or unscaled >> 92 not in (0, -1):
            raise NotCompiled("finer than the scale, or wide")
        size = (unscaled.bit_length() + 8) // 8
        return _VARINTS[size] + unscaled.to_bytes(size, "big", signed=True)

    return write


def _map_writer(write_value: Write) -> Write:
    def write(value: Any) -> bytes:
        if not value:
            if value.__class__ is not dict:
                raise NotCompiled("not a map")
            return _END
        pairs = [_write_string(k) + write_value(v) for k, v in value.items()]
        return _zigzag(len(pairs)) + b"".join(pairs) + _END

    return write


def _array_writer(write_item: Write) -> Write:
    def write(value: Any) -> bytes:
        if value.__class__ is not list and value.__class__ is not tuple:
            raise NotCompiled("not an array")
        if not value:
            return _END
        return _zigzag(len(value)) + b"".join([write_item(v) for v in value]) + _END

    return write


def _nullable_writer(write_some: Write) -> Write:
    def write(value: Any) -> bytes:
        return _NULL if value is None else _SECOND_BRANCH + write_some(value)

    return write


def _write_nullable_string(value: Any) -> bytes:
    if value is None:
        return _NULL
    if value.__class__ is not str:
        raise NotCompiled("not text")
    data: bytes = value.encode()
    size = len(data)
    return (_SOME_VARINTS[size] if size < _CACHED else _SECOND_BRANCH + _zigzag(size)) + data


def _write_nullable_long(value: Any) -> bytes:
    if value is None:
        return _NULL
    if value.__class__ is not int:
        raise NotCompiled("not an int")
    return _SOME_VARINTS[value] if 0 <= value < _CACHED else _SECOND_BRANCH + _zigzag(value)


def _write_nullable_double(value: Any) -> bytes:
    if value is None:
        return _NULL
    if value.__class__ is not float:
        raise NotCompiled("not a float")
    return _SOME_DOUBLE.pack(2, value)


def record_writer(schema: JsonSchema) -> Write:
    """Compile a record's writer: ``write(value) -> bytes``; absent fields take their defaults.

    The bytes of all defaults are made once; a value then costs only the fields it has.

    Raises:
        NotCompiled: the schema has a type no closure is made for.
    """
    places: dict[str, tuple[int, Write]] = {}
    blank: list[bytes | None] = []
    for place, field in enumerate(schema["fields"]):
        write_field = _writer(field["type"])
        places[field["name"]] = place, write_field
        blank.append(write_field(field["default"]) if "default" in field else None)
    place_of = places.__getitem__

    def write(value: Any) -> bytes:
        parts = blank.copy()
        try:
            for name, some in value.items():
                place, write_field = place_of(name)
                parts[place] = write_field(some)
            return b"".join(cast("list[bytes]", parts))  # a required field left None makes this a TypeError
        except (KeyError, TypeError, AttributeError) as error:
            raise NotCompiled("an unknown field, a missing one, or a wrong type") from error

    return write


def _writer(schema: Any) -> Write:
    match schema:
        case ["null", str(scalar)] if scalar in _NULLABLE_WRITERS:
            return _NULLABLE_WRITERS[scalar]
        case ["null", some]:
            return _nullable_writer(_writer(some))
        case {"logicalType": "decimal", "type": "bytes", "scale": scale}:
            return _decimal_writer(scale)
        case {"type": "enum", "symbols": symbols}:
            return {symbol: _zigzag(i) for i, symbol in enumerate(symbols)}.__getitem__
        case {"type": "map", "values": values}:
            return _map_writer(_writer(values))
        case {"type": "array", "items": items}:
            return _array_writer(_writer(items))
        case {"type": "record"}:
            return record_writer(schema)
        case {"type": str(scalar)} if "logicalType" not in schema:
            return _writer(scalar)
        case str(scalar) if scalar in _SCALAR_WRITERS:
            return _SCALAR_WRITERS[scalar]
    raise NotCompiled(f"no closure for {schema!r:.80}")


_NULLABLE_WRITERS: Mapping[str, Write] = {
    "string": _write_nullable_string,
    "long": _write_nullable_long,
    "double": _write_nullable_double,
}
_SCALAR_WRITERS: Mapping[str, Write] = {
    "string": _write_string,
    "long": _write_long,
    "int": _write_int,
    "double": _write_double,
    "boolean": _write_boolean,
    "bytes": _write_bytes,
}
