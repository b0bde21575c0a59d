"""OTLP in JSON (protobuf's JSON mapping, with ids in hex and 64-bit integers as strings or numbers) to records."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import orjson

from flywheel_ingest.batch import BodyInvalid
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
    TooManyRecords,
    Unreadable,
    Value,
    text_tuple,
)
from flywheel_ingest.salvage import check_brackets, members, reason, split

MOST_VALUES: Final = 2_000_000
"""So many commas and brackets in a body: each may become an object of some fifty bytes."""
MOST_ATTRIBUTES: Final = 4096
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})*", re.ASCII)
_INTEGER: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_STATUS_CODES: Final = (0, 1, 2)
_RECORDED: Final = 0x01
_UNUSED: Final = frozenset({"body", "links", "traceState", "severityText"})
_LISTS: Final = frozenset({"attributes", "events"})


class _Wrong(ValueError):
    """A field of a record that is not of its type."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.error = FieldError(field, message)


def read_traces(body: bytes, *, max_records: int) -> Iterator[Entry]:
    """The spans of an ``ExportTraceServiceRequest``.

    Raises:
        BodyUndecodable: its resources, scopes and spans cannot be told apart.
        TooManyRecords: it has more than ``max_records``.
    """
    return _read(body, ("resourceSpans", "scopeSpans", "spans"), _span, max_records)


def read_logs(body: bytes, *, max_records: int) -> Iterator[Entry]:
    """The records of an ``ExportLogsServiceRequest``; raises as ``read_traces``."""
    return _read(body, ("resourceLogs", "scopeLogs", "logRecords"), _log, max_records)


def _read(
    body: bytes,
    names: tuple[str, str, str],
    read: Callable[[Mapping[str, Any]], Span | Log],
    max_records: int,
) -> Iterator[Entry]:
    if sum(map(body.count, b",[{")) > MOST_VALUES:
        raise TooManyRecords(max_records)
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        request = _salvaged(body, names)
    if not isinstance(request, dict):
        raise BodyUndecodable("is no JSON object")
    count = Counted(max_records)
    for resource_index, group in enumerate(_objects(request, names[0], "")):
        count.group()
        group_path = f"{names[0]}[{resource_index}]"
        resource = _resource(group.get("resource"))
        for scope_index, scope_group in enumerate(_objects(group, names[1], group_path)):
            count.group()
            scope_path = f"{group_path}.{names[1]}[{scope_index}]"
            scope = scope_group.get("scope")
            name = scope.get("name") if isinstance(scope, dict) else None
            for index, raw in enumerate(_list(scope_group, names[2], scope_path)):
                count.record()
                entry_path = f"{scope_path}.{names[2]}[{index}]"
                record = _record(raw, read)
                yield Entry(entry_path, resource, name[:MAX_KEY] if isinstance(name, str) else "", record)


def _record(raw: object, read: Callable[[Mapping[str, Any]], Span | Log]) -> Span | Log | Unreadable:
    if isinstance(raw, Unreadable):
        return raw
    if not isinstance(raw, dict):
        return Unreadable((FieldError("", "is no JSON object"),))
    try:
        record = read(raw)
    except _Wrong as wrong:
        return Unreadable((wrong.error,))
    return record


def _span(raw: Mapping[str, Any]) -> Span:
    status = raw.get("status") or {}
    if not isinstance(status, dict):
        raise _Wrong("status", "is no JSON object")
    code = status.get("code", 0)
    if type(code) is not int or code not in _STATUS_CODES:
        raise _Wrong("status.code", "is not 0, 1 or 2")
    events = raw.get("events") or []
    if not isinstance(events, list):
        raise _Wrong("events", "is no array")
    attributes = _attributes(raw.get("attributes"), "attributes")
    for index, each in enumerate(events[:MAX_EVENTS]):
        if not isinstance(each, dict):
            attributes.spoiled(f"events[{index}]", "cannot be read")
    return Span(
        _id(raw, "traceId"),
        _id(raw, "spanId"),
        _id(raw, "parentSpanId"),
        _text(raw, "name"),
        _uint(raw, "startTimeUnixNano"),
        _uint(raw, "endTimeUnixNano"),
        code,
        attributes,
        tuple(_event(each) for each in events[:MAX_EVENTS] if isinstance(each, dict)),
    )


def _event(raw: Mapping[str, Any]) -> Event:
    return Event(
        _text(raw, "name"), _uint(raw, "timeUnixNano"), _attributes(raw.get("attributes"), "events.attributes")
    )


def _log(raw: Mapping[str, Any]) -> Log:
    return Log(
        _id(raw, "traceId"),
        _id(raw, "spanId"),
        bool(_uint(raw, "flags") & _RECORDED),
        _uint(raw, "timeUnixNano") or _uint(raw, "observedTimeUnixNano"),
        _text(raw, "eventName"),
        _attributes(raw.get("attributes"), "attributes"),
    )


def _resource(raw: object) -> Attributes:
    """A resource that cannot be read costs none of its records: its bad attributes are named with each of them."""
    if raw is None:
        return Attributes()
    attributes = Attributes()
    if not isinstance(raw, dict):
        attributes.spoiled("resource", raw.errors[0].message if isinstance(raw, Unreadable) else "is no JSON object")
        return attributes
    try:
        return _attributes(raw.get("attributes"), "resource.attributes")
    except _Wrong as wrong:
        attributes.spoiled(wrong.error.field, wrong.error.message)
        return attributes


def _attributes(raw: object, field: str) -> Attributes:
    attributes = Attributes()
    if raw is None:
        return attributes
    if not isinstance(raw, list):
        raise _Wrong(field, "is no array")
    if len(raw) > MOST_ATTRIBUTES:
        raise _Wrong(field, f"has {len(raw)} entries, at most {MOST_ATTRIBUTES}")
    for index, pair in enumerate(raw):
        if isinstance(pair, Unreadable):
            error = pair.errors[0]
            if not error.field or meaning(error.field).known:
                attributes.spoiled(error.field or f"{field}[{index}]", error.message)
            continue
        key = pair.get("key") if isinstance(pair, dict) else None
        if not isinstance(key, str):
            attributes.spoiled(f"{field}[{index}]", "is no object with a key")
            continue
        try:
            value = pair.get("value")
            attributes.put(key, partial(_value, value), partial(_whole, value))
        except _Wrong as wrong:
            attributes.spoiled(key, str(wrong))
    return attributes


def _value(raw: object) -> Value:
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise _Wrong("", 'has no value such as {"stringValue": …}')
    kind = next((name for name in raw if name in _VALUE_KINDS), None)
    return None if kind is None else _VALUE_KINDS[kind](raw[kind])


def _whole(raw: object, depth: int = 0) -> Any:
    """A value as it was sent, of JSON's types; None for what is not of its type, is bytes or nested too deeply."""
    if not isinstance(raw, dict) or depth > MAX_NESTING:
        return None
    kind = next((name for name in raw if name in _VALUE_KINDS), "")
    value = raw.get(kind)
    elements = value.get("values") if isinstance(value, dict) else None
    match kind:
        case "arrayValue" if isinstance(elements, list):
            return [_whole(each, depth + 1) for each in elements]
        case "kvlistValue" if isinstance(elements, list):
            pairs = [each for each in elements if isinstance(each, dict) and isinstance(each.get("key"), str)]
            return {each["key"]: _whole(each.get("value"), depth + 1) for each in pairs}
        case "stringValue" | "boolValue" | "intValue" | "doubleValue":
            return value if isinstance(value, str | bool | int | float) else None
        case _:
            return None


def _string(value: object) -> Value:
    if isinstance(value, str):
        return value[: MAX_TEXT + 1]
    raise _Wrong("", "has a stringValue that is no string")


def _boolean(value: object) -> Value:
    if isinstance(value, bool):
        return value
    raise _Wrong("", "has a boolValue that is no boolean")


def _double(value: object) -> Value:
    if type(value) in (int, float) or value in ("NaN", "Infinity", "-Infinity"):
        return float(value)  # type: ignore[arg-type]
    raise _Wrong("", "has a doubleValue that is no number")


def _array(value: object) -> Value:
    elements = value.get("values", []) if isinstance(value, dict) else None
    if not isinstance(elements, list):
        raise _Wrong("", "has an arrayValue without values")
    return text_tuple(each.get("stringValue") if isinstance(each, dict) else None for each in elements)


def _int64(value: object) -> int:
    if type(value) is int:
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    raise _Wrong("", "has an intValue that is no integer")


_VALUE_KINDS: Final[Mapping[str, Callable[[object], Value]]] = {
    "stringValue": _string,
    "boolValue": _boolean,
    "intValue": _int64,
    "doubleValue": _double,
    "arrayValue": _array,
    "kvlistValue": lambda _: Opaque("kvlist"),
    "bytesValue": lambda _: Opaque("bytes"),
}


def _uint(raw: Mapping[str, Any], field: str) -> int:
    value = raw.get(field)
    if value is None:
        return 0
    try:
        number = _int64(value)
    except _Wrong:
        raise _Wrong(field, "is no integer") from None
    if number < 0:
        raise _Wrong(field, "is negative")
    return number


def _id(raw: Mapping[str, Any], field: str) -> bytes:
    value = raw.get(field)
    if value is None:
        return b""
    if not isinstance(value, str):
        raise _Wrong(field, "is no hex string")
    if _HEX.fullmatch(value[:64]) is None:
        raise _Wrong(field, "is no hex string")
    return bytes.fromhex(value[:64])


def _text(raw: Mapping[str, Any], field: str) -> str:
    value = raw.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _Wrong(field, "is no string")
    return value[:MAX_KEY]


def _list(parent: Mapping[str, Any], name: str, path: str) -> list[Any]:
    found = parent.get(name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise BodyUndecodable(f"has {_path(path, name)}, which is no array")
    return found


def _objects(parent: Mapping[str, Any], name: str, path: str) -> Iterator[Mapping[str, Any]]:
    for index, found in enumerate(_list(parent, name, path)):
        if not isinstance(found, dict):
            raise BodyUndecodable(f"has {_path(path, name)}[{index}], which is no object")
        yield found


def _path(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _salvaged(body: bytes, names: tuple[str, str, str]) -> dict[str, Any]:
    """A body that is no JSON as a whole: what can be read of it, with ``Unreadable`` where a record cannot."""
    body = body.strip(b" \t\r\n")
    try:
        check_brackets(body)
    except BodyInvalid as invalid:
        raise BodyUndecodable(str(invalid)) from None
    if body[:1] != b"{":
        raise BodyUndecodable("is no JSON object")
    groups = [
        {**_readable(group, names[1]), names[1]: [_scope_group(part, names) for part in _parts(group, names[1])]}
        for group in _parts(body, names[0])
    ]
    return {names[0]: groups}


def _scope_group(part: bytes, names: tuple[str, str, str]) -> dict[str, Any]:
    return {**_readable(part, names[2]), names[2]: [_record_parts(record) for record in _parts(part, names[2])]}


def _parts(parent: bytes, name: str) -> list[bytes]:
    """The elements of an array member of an object; none where it is absent or of another kind."""
    if parent[:1] != b"{":
        return []
    found = next((value for key, value in members(parent) if key == name), b"")
    return list(split(found)) if found[:1] == b"[" else []


def _readable(parent: bytes, without: str) -> dict[str, Any]:
    """The members of an object besides one, ``Unreadable`` for those that cannot be read."""
    return {key: _one(value) for key, value in members(parent) if key != without} if parent[:1] == b"{" else {}


def _one(part: bytes) -> Any:
    try:
        return orjson.loads(part)
    except orjson.JSONDecodeError as error:
        return Unreadable((FieldError("", reason(part, error)),))


def _record_parts(part: bytes) -> Any:
    """A record: its readable members, with the bad ones of its lists as ``Unreadable``; or ``Unreadable`` itself."""
    found = _one(part)
    if not isinstance(found, Unreadable) or part[:1] != b"{":
        return found
    record: dict[str, Any] = {}
    for key, value in members(part):
        read = _one(value)
        if isinstance(read, Unreadable):
            if key in _UNUSED:
                continue
            if key not in _LISTS or value[:1] != b"[":
                return Unreadable((FieldError(key[:MAX_KEY], read.errors[0].message),))
            read = [_element(element) for element in split(value)]
        record[key] = read
    return record


def _element(part: bytes) -> Any:
    """An attribute or event; one that cannot be read bears the key of the attribute."""
    found = _one(part)
    if isinstance(found, Unreadable) and part[:1] == b"{":
        key = next((_one(value) for name, value in members(part) if name == "key"), None)
        if isinstance(key, str):
            return Unreadable((FieldError(key[:MAX_KEY], found.errors[0].message),))
    return found
