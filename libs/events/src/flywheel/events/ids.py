"""Deterministic event ids: the same parts always give the same id, whoever computes it."""

from __future__ import annotations

from hashlib import blake2b


def event_id(*parts: str | int) -> str:
    """Return 32 hex digits: BLAKE2b-128 over the parts, each with its length in front.

    The length prefix keeps ``("ab", "c")`` and ``("a", "bc")`` apart. An int and its decimal text are the same part.
    """
    framed = b""
    for part in parts:
        data = str(part).encode()
        framed += len(data).to_bytes(8, "big") + data
    return blake2b(framed, digest_size=16).hexdigest()
