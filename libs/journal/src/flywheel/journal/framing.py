"""Records on disk: length, checksum, payload.

A frame is ``length`` (4 bytes, little endian), ``crc32`` of the length's bytes and the payload (4 bytes), and the
payload. The checksum covers the length, so that a tail of zeros, which some file systems leave after a power cut, is
not a record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from zlib import crc32

_HEADER = struct.Struct("<II")
FRAME_OVERHEAD_BYTES = _HEADER.size


def frame(payload: bytes) -> bytes:
    """Return the bytes that stand for one record."""
    length = len(payload)
    return _HEADER.pack(length, crc32(payload, crc32(length.to_bytes(4, "little")))) + payload


def unframe(buffer: bytes, start: int = 0) -> Iterator[tuple[bytes, int]]:
    """Yield ``(payload, end)`` for each whole, undamaged record from ``start``; ``end`` is the offset after it.

    Stops, without an error, at the first record that is cut short or whose checksum does not hold: nothing after it can
    be trusted, as where the next record begins is no longer known.
    """
    size = len(buffer)
    while start + FRAME_OVERHEAD_BYTES <= size:
        length, checksum = _HEADER.unpack_from(buffer, start)
        begin = start + FRAME_OVERHEAD_BYTES
        end = begin + length
        if end > size:
            return
        payload = buffer[begin:end]
        if crc32(payload, crc32(length.to_bytes(4, "little"))) != checksum:
            return
        yield payload, end
        start = end
