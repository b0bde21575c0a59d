"""OTLP in protobuf (opentelemetry-proto 1.x) to records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from flywheel_ingest.items import MAX_KEY, FieldError
from flywheel_ingest.otlp.names import meaning
from flywheel_ingest.otlp.records import (
    MAX_EVENTS,
    MAX_NESTING,
    MAX_TEXT,
    Attributes,
    BodyUndecodable,
    Counted,
    Entry,
    Event,
    Log,
    Opaque,
    Span,
    Unreadable,
    Value,
    text_tuple,
)
from flywheel_ingest.otlp.wire import BYTES, Field, WireInvalid, fields

# Field numbers of opentelemetry/proto/collector/{trace,logs}/v1 and below; resource and list are the same in both.
_HEAD: Final = 1
_LIST: Final = 2
_ONLY: Final = 1
_SPAN_ATTRIBUTES: Final = 9
_SPAN_EVENTS: Final = 11
_LOG_ATTRIBUTES: Final = 6
_RECORDED: Final = 0x01

MOST_FIELDS: Final = 4096
"""Attributes, events and links of one record; the specification's default limit is 128 of each."""
DAMAGED: Final = 20
"""A damaged attribute counts as so many: it takes as long."""
SMALL_BYTES: Final = 64 << 10
"""A larger record is looked through for values that are too large to be anything but content."""


def read_traces(body: bytes, *, max_records: int, max_record_bytes: int) -> Iterator[Entry]:
    """The spans of an ``ExportTraceServiceRequest``.

    Raises:
        BodyUndecodable: its resources, scopes and spans cannot be told apart.
        TooManyRecords: it has more than ``max_records``.
    """
    return _read(body, ("resource_spans", "scope_spans", "spans"), _span, max_records, max_record_bytes)


def read_logs(body: bytes, *, max_records: int, max_record_bytes: int) -> Iterator[Entry]:
    """The records of an ``ExportLogsServiceRequest``; raises as ``read_traces``."""
    return _read(body, ("resource_logs", "scope_logs", "log_records"), _log, max_records, max_record_bytes)


def _read(
    body: bytes,
    names: tuple[str, str, str],
    decode: Callable[[bytes, Counted], Span | Log | Unreadable],
    max_records: int,
    max_record_bytes: int,
) -> Iterator[Entry]:
    count = Counted(max_records)
    message = "ExportTraceServiceRequest" if decode is _span else "ExportLogsServiceRequest"
    try:
        for resource_index, group in enumerate(_members(body, _ONLY)):
            count.group()
            head, scope_groups = _walk(body, group, count.group)
            resource = _resource(body, head, count)
            for scope_index, scope_group in enumerate(scope_groups):
                head, records = _walk(body, scope_group, count.record)
                scope = _scope(body, head)
                for index, found in enumerate(records):
                    path = f"{names[0]}[{resource_index}].{names[1]}[{scope_index}].{names[2]}[{index}]"
                    size = found.end - found.start
                    if size > max_record_bytes:
                        record: Span | Log | Unreadable = Unreadable(
                            (FieldError("", f"is {size} bytes, at most {max_record_bytes}"),)
                        )
                    else:
                        record = decode(body[found.start : found.end], count)
                    yield Entry(path, resource, scope, record)
    except WireInvalid as invalid:
        raise BodyUndecodable(f"is no {message}: {invalid}") from None


def _members(body: bytes, number: int) -> Iterator[Field]:
    """The fields of one number, which are messages."""
    others = 0
    for found in fields(body):
        if found.number == number:
            if found.wire_type != BYTES:
                raise WireInvalid(f"field {number} is no message")
            yield found
            continue
        others = _expected(others)


def _walk(body: bytes, group: Field, count: Callable[[], None]) -> tuple[Field | None, list[Field]]:
    """The head of a group (its resource or scope) and the members of its list, each counted as it is met."""
    head: Field | None = None
    found: list[Field] = []
    others = 0
    for each in fields(body, group.start, group.end):
        if each.number in (_HEAD, _LIST) and each.wire_type != BYTES:
            raise WireInvalid(f"field {each.number} is no message")
        if each.number == _LIST:
            count()
            found.append(each)
        elif each.number == _HEAD and head is None:
            head = each
        else:
            others = _expected(others)
    return head, found


def _expected(others: int) -> int:
    if others >= MOST_FIELDS:
        raise WireInvalid(f"more than {MOST_FIELDS} fields that are not expected")
    return others + 1


def _resource(body: bytes, head: Field | None, count: Counted) -> Attributes:
    """A resource that cannot be read is one whose attributes are read one by one; it costs none of its spans."""
    if head is None:
        return Attributes()
    data = body[head.start : head.end]
    if len(data) > SMALL_BYTES:
        return _spoiled("resource", f"is {len(data)} bytes, at most {SMALL_BYTES}")
    try:
        return _attributes(Resource.FromString(data).attributes, count)
    except DecodeError:
        return _salvaged_attributes(data, _ONLY, count)


def _spoiled(key: str, message: str) -> Attributes:
    attributes = Attributes()
    attributes.spoiled(key, message)
    return attributes


def _scope(body: bytes, head: Field | None) -> str:
    """The name of a scope, its first field."""
    others = 0
    if head is not None:
        for inner in fields(body, head.start, head.end):
            others = _expected(others)
            if inner.number == _ONLY and inner.wire_type == BYTES:
                return body[inner.start : min(inner.end, inner.start + MAX_KEY)].decode("utf-8", "replace")
    return ""


def _span(data: bytes, count: Counted) -> Span | Unreadable:
    lean, dropped = _lean(data, (_SPAN_ATTRIBUTES, _SPAN_EVENTS))
    if lean is None:
        return Unreadable((FieldError("", f"has more than {MOST_FIELDS} attributes, events and links"),))
    attributes: Attributes | None = None
    salvaged: list[SpanMessage.Event] = []
    try:
        message = SpanMessage.FromString(lean)
    except DecodeError:
        # Bad UTF-8 or nesting without end in one value: all but the lists, then the attributes one by one.
        try:
            message = SpanMessage.FromString(_without(lean, (_SPAN_ATTRIBUTES, _SPAN_EVENTS, 13)))
            attributes = _salvaged_attributes(lean, _SPAN_ATTRIBUTES, count)
            salvaged = _salvaged_events(lean, attributes)
        except (DecodeError, WireInvalid):
            return _undecodable(lean, SpanMessage)
    if attributes is None:
        attributes = _attributes(message.attributes, count)
    attributes.content += dropped
    attributes.large += dropped
    events = salvaged or message.events[:MAX_EVENTS]
    return Span(
        message.trace_id,
        message.span_id,
        message.parent_span_id,
        message.name[:MAX_KEY],
        message.start_time_unix_nano,
        message.end_time_unix_nano,
        message.status.code,
        attributes,
        tuple(Event(each.name[:MAX_KEY], each.time_unix_nano, _attributes(each.attributes, count)) for each in events),
    )


def _log(data: bytes, count: Counted) -> Log | Unreadable:
    lean, dropped = _lean(data, (_LOG_ATTRIBUTES,))
    if lean is None:
        return Unreadable((FieldError("", f"has more than {MOST_FIELDS} attributes"),))
    attributes: Attributes | None = None
    try:
        message = LogRecord.FromString(lean)
    except DecodeError:
        try:
            message = LogRecord.FromString(_without(lean, (5, _LOG_ATTRIBUTES)))
            attributes = _salvaged_attributes(lean, _LOG_ATTRIBUTES, count)
        except (DecodeError, WireInvalid):
            return _undecodable(lean, LogRecord)
    if attributes is None:
        attributes = _attributes(message.attributes, count)
    attributes.content += dropped
    attributes.large += dropped
    return Log(
        message.trace_id,
        message.span_id,
        bool(message.flags & _RECORDED),
        message.time_unix_nano or message.observed_time_unix_nano,
        message.event_name[:MAX_KEY],
        attributes,
    )


def _attributes(pairs: Any, count: Counted) -> Attributes:
    attributes = Attributes()
    count.attributes(len(pairs))
    for pair in pairs:
        attributes.put(pair.key, partial(_value, pair.value), partial(_whole, pair.value))
    return attributes


def _value(value: AnyValue) -> Value:
    kind = value.WhichOneof("value")
    match kind:
        case None:
            return None
        case "string_value":
            return value.string_value[: MAX_TEXT + 1]
        case "bool_value" | "int_value" | "double_value":
            plain: bool | int | float = getattr(value, kind)
            return plain
        case "array_value":
            return text_tuple(each.string_value for each in value.array_value.values)
        case _:
            return Opaque(kind.removesuffix("_value"))


def _whole(value: AnyValue, depth: int = 0) -> Any:
    """A value as it was sent, of JSON's types; None for bytes, and for what is nested too deeply."""
    kind = value.WhichOneof("value")
    if kind is None or kind == "bytes_value" or depth > MAX_NESTING:
        return None
    match kind:
        case "array_value":
            return [_whole(each, depth + 1) for each in value.array_value.values]
        case "kvlist_value":
            return {each.key: _whole(each.value, depth + 1) for each in value.kvlist_value.values}
        case _:
            return getattr(value, kind)


def _lean(data: bytes, numbers: tuple[int, ...]) -> tuple[bytes | None, int]:
    """The record without list elements above ``MAX_TEXT`` and how many these were; None with too many fields."""
    if len(data) <= SMALL_BYTES:
        return data, 0
    kept: list[bytes] = []
    dropped = start = count = 0
    try:
        for count, found in enumerate(fields(data), 1):
            if count > MOST_FIELDS:
                return None, 0
            if not (found.number in numbers and found.end - found.start > MAX_TEXT):
                kept.append(data[start : found.end])
            else:
                dropped += 1
            start = found.end
    except WireInvalid:
        return data, 0  # decoding says what is wrong
    return b"".join(kept), dropped


def _without(data: bytes, numbers: tuple[int, ...]) -> bytes:
    kept: list[bytes] = []
    start = 0
    for found in fields(data):
        if found.number not in numbers:
            kept.append(data[start : found.end])
        start = found.end
    return b"".join(kept)


def _salvaged_attributes(data: bytes, number: int, count: Counted) -> Attributes:
    """The attributes of a record or resource, each decoded by itself; one that is damaged is named."""
    attributes = Attributes()
    try:
        for found in _members(data, number):
            pair = data[found.start : found.end]
            count.attributes(1)
            try:
                message = KeyValue.FromString(pair)
            except DecodeError as error:
                count.attributes(DAMAGED)
                key = _key_of(pair)
                if key is None or meaning(key).known:
                    attributes.spoiled(key or "", _reason(error))
                continue
            attributes.put(message.key, partial(_value, message.value), partial(_whole, message.value))
    except WireInvalid as invalid:
        attributes.spoiled("attributes", str(invalid))
    return attributes


def _salvaged_events(data: bytes, attributes: Attributes) -> list[SpanMessage.Event]:
    events: list[SpanMessage.Event] = []
    for index, found in enumerate(_members(data, _SPAN_EVENTS)):
        if index == MAX_EVENTS:
            break
        try:
            events.append(SpanMessage.Event.FromString(data[found.start : found.end]))
        except DecodeError as error:
            attributes.spoiled(f"events[{index}]", _reason(error))
    return events


def _key_of(pair: bytes) -> str | None:
    try:
        for found in fields(pair):
            if found.number == 1 and found.wire_type == BYTES:
                return pair[found.start : found.end].decode()
    except (WireInvalid, UnicodeDecodeError):
        return None
    return None


def _undecodable(data: bytes, message: Any) -> Unreadable:
    """Names the field that cannot be decoded, by the message's own descriptor."""
    known = message.DESCRIPTOR.fields_by_number
    start = 0
    try:
        for found in fields(data):
            part, start = data[start : found.end], found.end
            try:
                message.FromString(part)
            except DecodeError as error:
                described = known.get(found.number)
                name = described.name if described is not None else f"field {found.number}"
                return Unreadable((FieldError(name, _reason(error)),))
    except WireInvalid as invalid:
        return Unreadable((FieldError("", f"is no protobuf message: {invalid}"),))
    return Unreadable((FieldError("", "is no protobuf message"),))


def _reason(error: DecodeError) -> str:
    text = str(error).lower()
    if "utf-8" in text:
        return "is not UTF-8"
    if "depth" in text or "recursion" in text or "stack" in text:
        return "is nested too deeply"
    return "cannot be decoded"
