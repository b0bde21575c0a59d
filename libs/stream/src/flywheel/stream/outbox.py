"""A batch's outgoing records as one blob: all lengths, then all bytes. No pickle.

The lengths come first and together, because packing each by itself costs more than the rest of the commit.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from flywheel.stream.types import Outgoing

_COUNT = struct.Struct(">I")
_NONE = -1


def pack(records: Sequence[Outgoing]) -> bytes:
    """Write records one after another."""
    lengths: list[int] = []
    parts: list[bytes] = []
    for topic, key, value, headers, partition_key in records:
        name = topic.encode()
        lengths.append(len(name))
        parts.append(name)
        for item in (key, value, partition_key):
            if item is None:
                lengths.append(_NONE)
            else:
                lengths.append(len(item))
                parts.append(item)
        lengths.append(len(headers))
        for title, content in headers:
            label = title.encode()
            lengths += (len(label), len(content))
            parts += (label, content)
    return _COUNT.pack(len(lengths)) + struct.pack(f">{len(lengths)}i", *lengths) + b"".join(parts)


def unpack(data: bytes) -> list[Outgoing]:
    """Read what `pack` wrote."""
    (count,) = _COUNT.unpack_from(data)
    lengths = iter(struct.unpack_from(f">{count}i", data, _COUNT.size))
    at = _COUNT.size + 4 * count

    def take(length: int) -> bytes:
        nonlocal at
        at += length
        return data[at - length : at]

    def take_some(length: int) -> bytes | None:
        return None if length == _NONE else take(length)

    found: list[Outgoing] = []
    for length in lengths:
        topic = take(length).decode()
        key, value, partition_key = (take_some(next(lengths)) for _ in range(3))
        headers = [(take(next(lengths)).decode(), take(next(lengths))) for _ in range(next(lengths))]
        found.append(Outgoing(topic, key, value, headers, partition_key))
    return found
