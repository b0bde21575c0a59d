"""A batch's outgoing records as one blob: length-prefixed fields, no pickle."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from flywheel.stream.types import Outgoing

_LENGTH = struct.Struct(">i")
_NONE = -1


def pack(records: Sequence[Outgoing]) -> bytes:
    """Write records one after another."""
    parts: list[bytes] = []
    for r in records:
        for item in (r.topic.encode(), r.key, r.value, r.partition_key):
            _put(parts, item)
        parts.append(_LENGTH.pack(len(r.headers)))
        for name, value in r.headers:
            _put(parts, name.encode())
            _put(parts, value)
    return b"".join(parts)


def unpack(data: bytes) -> list[Outgoing]:
    """Read what `pack` wrote."""
    found: list[Outgoing] = []
    at = 0
    while at < len(data):
        topic, at = _take(data, at)
        key, at = _take(data, at)
        value, at = _take(data, at)
        chooser, at = _take(data, at)
        (count,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        headers = []
        for _ in range(count):
            name, at = _take(data, at)
            content, at = _take(data, at)
            headers.append(((name or b"").decode(), content or b""))
        found.append(Outgoing((topic or b"").decode(), key, value, headers, chooser))
    return found


def _put(parts: list[bytes], item: bytes | None) -> None:
    if item is None:
        parts.append(_LENGTH.pack(_NONE))
    else:
        parts.append(_LENGTH.pack(len(item)))
        parts.append(item)


def _take(data: bytes, at: int) -> tuple[bytes | None, int]:
    (length,) = _LENGTH.unpack_from(data, at)
    at += _LENGTH.size
    return (None, at) if length == _NONE else (data[at : at + length], at + length)
