"""The fields of a Protocol Buffers message, without building it (protobuf.dev, "Encoding").

A request is taken apart down to its records this way and each record is decoded by itself: one that is damaged costs
its neighbours nothing, and millions of empty ones are counted before any of them takes memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5
_FIXED_BYTES: Final = {FIXED64: 8, FIXED32: 4}
_LONGEST_VARINT: Final = 10


class WireInvalid(ValueError):
    """Bytes that are no message."""


class Field(NamedTuple):
    """One field: its number, its wire type, and where its payload lies in the message (for a varint its value)."""

    number: int
    wire_type: int
    start: int
    end: int
    value: int = 0


def fields(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """The fields of the message in ``data[start:end]``, in order.

    Raises:
        WireInvalid: cut short, a length that leaves the message, or a wire type that OTLP does not use (groups).
    """
    stop = len(data) if end is None else end
    at = start
    while at < stop:
        tag, at = _varint(data, at, stop)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise WireInvalid("a field has number 0")
        if wire_type == VARINT:
            value, at = _varint(data, at, stop)
            yield Field(number, wire_type, at, at, value)
            continue
        if wire_type == BYTES:
            length, at = _varint(data, at, stop)
        elif wire_type in _FIXED_BYTES:
            length = _FIXED_BYTES[wire_type]
        else:
            raise WireInvalid(f"field {number} has wire type {wire_type}")
        if length > stop - at:
            raise WireInvalid(f"field {number} is longer than what is left of its message")
        yield Field(number, wire_type, at, at + length)
        at += length


def _varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
    result = shift = 0
    for count in range(_LONGEST_VARINT):
        if at + count >= stop:
            raise WireInvalid("ends within a number")
        byte = data[at + count]
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFF_FFFF_FFFF_FFFF, at + count + 1
        shift += 7
    raise WireInvalid("a number is longer than ten bytes")
