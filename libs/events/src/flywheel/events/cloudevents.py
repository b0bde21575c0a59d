"""CloudEvents 1.0 Kafka binding, binary mode: the envelope in headers, the Avro value as it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

TYPE_PREFIX = "flywheel."
CONTENT_TYPE = b"application/avro"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Headers = list[tuple[str, bytes]]
_SPEC_VERSION = ("ce_specversion", b"1.0")
_CONTENT = ("content-type", CONTENT_TYPE)


def headers(
    *, event: str, event_id: str, source: str, occurred_at_us: int | None = None, traceparent: str | None = None
) -> Headers:
    """Return the headers of an event: id, type and source as CloudEvents asks, time and trace context where known.

    Raises:
        OverflowError: ``occurred_at_us`` lies outside the years 1 to 9999.
    """
    type_, source_ = _of_kind(event, source)
    made: Headers = [_SPEC_VERSION, ("ce_id", event_id.encode()), type_, source_, _CONTENT]
    if occurred_at_us is not None:
        made.append(("ce_time", rfc3339(occurred_at_us).encode()))
    if traceparent:
        made.append(("traceparent", traceparent.encode()))
    return made


@lru_cache(maxsize=256)
def _of_kind(event: str, source: str) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    # A service writes a few events under one name, so these two are made once for each.
    return ("ce_type", f"{TYPE_PREFIX}{event}".encode()), ("ce_source", f"flywheel/{source}".encode())


def rfc3339(at_us: int) -> str:
    """Write microseconds since the epoch as RFC 3339 in UTC."""
    second, micros = divmod(at_us, 1_000_000)
    return f"{_whole_second(second)}.{micros:06d}Z"


@lru_cache(maxsize=1024)
def _whole_second(second: int) -> str:
    # Events of one moment come together, and formatting a date costs more than the rest of the envelope.
    return (_EPOCH + timedelta(seconds=second)).isoformat()[:19]


def instant_us(text: str) -> int | None:
    """Read an ISO 8601 time, in UTC where it names no zone, as microseconds since the epoch; None where it is none."""
    try:
        at = datetime.fromisoformat(text)
        return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return None


def header(found: Sequence[tuple[str, bytes]], name: str) -> str | None:
    """Return the first header of that name as text, or None where there is none or it is not UTF-8."""
    for key, value in found:
        if key == name:
            try:
                return value.decode()
            except UnicodeDecodeError:
                return None
    return None
