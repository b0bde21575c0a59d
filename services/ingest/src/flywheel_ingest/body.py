"""Reading a request body within bounds: its size as sent, its size inflated, the time it takes, and the bytes that all
requests together hold. Checked while it streams in, so a header that lies costs nothing."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final

GZIP_BITS: Final = 31


class Turned(Exception):
    """A request that is answered with an error: HTTP status, the field, and what to do about it."""

    def __init__(self, status: int, field: str, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field
        self.message = message
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Bytes as sent, bytes inflated, and seconds until the body must be complete."""

    sent_bytes: int
    inflated_bytes: int
    timeout_s: float


class InFlight:
    """The body bytes that all requests under way hold, and a bound on them."""

    def __init__(self, bound_bytes: int) -> None:
        self.bound_bytes = bound_bytes
        self.held_bytes = 0

    def share(self) -> Share:
        """The share of one request; leaving it gives everything back."""
        return Share(self)


class Share:
    """What one request holds of the bytes in flight."""

    def __init__(self, whole: InFlight) -> None:
        self._whole = whole
        self._held_bytes = 0

    def __enter__(self) -> Share:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._whole.held_bytes -= self._held_bytes
        self._held_bytes = 0

    def take(self, count: int) -> None:
        """Hold ``count`` bytes more. Raises ``Turned`` (503) when that is more than all requests together may."""
        if self._whole.held_bytes + count > self._whole.bound_bytes:
            raise Turned(503, "body", "too many bytes under way here; post again shortly", retry_after_s=1)
        self._whole.held_bytes += count
        self._held_bytes += count


def media_type_of(headers: Mapping[str, str]) -> str:
    """The media type of a request, lower case and without parameters; empty when it has none."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(
    chunks: AsyncIterator[bytes],
    headers: Mapping[str, str],
    limits: BodyLimits,
    share: Share,
    *,
    media_types: tuple[str, ...] = ("application/json",),
) -> bytes:
    """The whole body, inflated.

    Raises:
        Turned: 408 too slow, 413 too large, 415 another type or encoding, 400 not gzip, 503 too much under way.
    """
    _check_type(headers, media_types)
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", ""):
        raise Turned(415, "content-encoding", "is neither gzip nor identity")
    announced = headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > limits.sent_bytes:
        raise Turned(413, "body", f"is {announced[:20]} bytes, at most {limits.sent_bytes}")
    reading = _inflated(chunks, limits, share) if encoding == "gzip" else _plain(chunks, limits, share)
    try:
        async with asyncio.timeout(limits.timeout_s):
            return await reading
    except TimeoutError:
        raise Turned(408, "body", f"was not complete after {limits.timeout_s:g} s") from None


def _check_type(headers: Mapping[str, str], media_types: tuple[str, ...]) -> None:
    if media_type_of(headers) not in media_types:
        raise Turned(415, "content-type", f"is not {' or '.join(media_types)}")
    charset = headers.get("content-type", "").partition(";")[2].replace(" ", "").lower()
    if charset.startswith("charset=") and charset[8:].strip('"') not in ("utf-8", "utf8", "us-ascii"):
        raise Turned(415, "content-type", "has a charset that is not utf-8")


async def _plain(chunks: AsyncIterator[bytes], limits: BodyLimits, share: Share) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limits.sent_bytes:
            raise Turned(413, "body", f"is larger than {limits.sent_bytes} bytes")
        share.take(len(chunk))
        parts.append(chunk)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _inflated(chunks: AsyncIterator[bytes], limits: BodyLimits, share: Share) -> bytes:
    inflater = _Inflater(limits.inflated_bytes, share)
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limits.sent_bytes:
            raise Turned(413, "body", f"is larger than {limits.sent_bytes} bytes")
        inflater.feed(chunk)
    return inflater.finish()


class _Inflater:
    """gzip, any number of members, never more than the bound in memory."""

    def __init__(self, bound_bytes: int, share: Share) -> None:
        self._bound_bytes = bound_bytes
        self._share = share
        self._parts: list[bytes] = []
        self._size = 0
        self._member: zlib._Decompress | None = None

    def feed(self, chunk: bytes) -> None:
        while chunk:
            member = self._member or zlib.decompressobj(GZIP_BITS)
            self._member = member
            try:
                part = member.decompress(chunk, self._bound_bytes - self._size + 1)
            except zlib.error:
                raise Turned(400, "body", "is not valid gzip") from None
            self._size += len(part)
            if self._size > self._bound_bytes:
                raise Turned(413, "body", f"inflates to more than {self._bound_bytes} bytes")
            self._share.take(len(part))
            self._parts.append(part)
            chunk = member.unconsumed_tail or member.unused_data
            if member.eof:
                self._member = None

    def finish(self) -> bytes:
        if self._member is not None:
            raise Turned(400, "body", "is gzip that was cut short")
        return b"".join(self._parts)
