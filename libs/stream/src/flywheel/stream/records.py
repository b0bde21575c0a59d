"""Between records and events: decoding with a verdict, framing outputs with deterministic ids, dead letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.events import Codec, EventInvalid, Undecodable, UnknownSchema, event_id, headers, topics
from flywheel.stream.errors import Fatal
from flywheel.stream.types import Event, Outgoing, Output, RawRecord, Reject

SOURCE, SEQUENCE = "flywheel_source", "flywheel_sequence"
LETTER_BYTES = 512 * 1024
"""Longest value a dead letter carries (headers: a quarter of it), so that every broker takes it."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Who emitted a record and as its how-manieth: numbers grow without gaps per source, so a reader knows repeats."""

    source: str
    sequence: int


def decode(codec: Codec, record: RawRecord) -> Event | Reject | None:
    """An event; a verdict on what will never be one; or None while its schema is not known here."""
    if record.value is None:
        return Reject("no_value", None, "a record without a value says nothing on this topic")
    try:
        decoded = codec.decode(record.value)
    except UnknownSchema:
        return None
    except Undecodable as error:
        return Reject("undecodable", None, error.detail)
    declared = topics().get(record.topic)
    if declared is not None and decoded.event != declared.event:
        return Reject("wrong_event", None, f"{record.topic} carries {declared.event}, not {decoded.event}")
    return Event(record, decoded.event, decoded.version, decoded.value)


def lineage(record: RawRecord) -> Lineage | None:
    """The lineage a record carries, or None for a root event. It stands last, so that root events cost one look."""
    headers = record.headers
    if len(headers) < 2 or headers[-1][0] != SEQUENCE or headers[-2][0] != SOURCE:
        return None
    try:
        return Lineage(headers[-2][1].decode(), int(headers[-1][1]))
    except ValueError:
        return None


def frame(codec: Codec, output: Output, *, service: str, emitted: Lineage) -> Outgoing:
    """Encode an output; an id it lacks is the hash of service, topic, key and content: the same fact, the same id.

    Raises:
        Fatal: the step made something that does not fit its schema.
    """
    value = dict(output.value)
    try:
        if "event_id" not in value:
            content = codec.encode(output.event, value | {"event_id": ""})
            value["event_id"] = event_id(service, output.topic, output.key, content.hex())
        data = codec.encode(output.event, value)
    except EventInvalid as error:
        raise Fatal(f"{service} made an invalid {output.event}: {error}") from error
    envelope = headers(
        event=output.event, event_id=value["event_id"], source=service, occurred_at_us=value.get("occurred_at")
    )
    envelope += [(SOURCE, emitted.source.encode()), (SEQUENCE, b"%d" % emitted.sequence)]
    chooser = output.partition_key.encode() if output.partition_key is not None else None
    return Outgoing(output.topic, output.key.encode(), data, envelope, chooser)


def dead_letter(codec: Codec, record: RawRecord, verdict: Reject, *, service: str, version: str) -> Outgoing | None:
    """The whole record with the reason, for the topic's dead letters; None for a topic that declares none.

    The id depends on the record's place and the service alone, so that a repeat is recognisable.
    """
    declared = topics().get(record.topic)
    if declared is None or declared.dlq is None:
        return None
    detail, content = verdict.detail[:2000], record.value
    if content is not None and len(content) > LETTER_BYTES:
        detail, content = f"{detail} [value of {len(content)} bytes left out]", None
    letter_id = event_id("dead_letter", service, record.topic, record.partition, record.offset)
    value: dict[str, Any] = {
        "event_id": letter_id,
        "project": "",
        "occurred_at": record.timestamp_ms * 1000,
        "source_topic": record.topic,
        "source_partition": record.partition,
        "source_offset": record.offset,
        "service": service,
        "service_version": version,
        "reason": verdict.reason,
        "field": verdict.field,
        "detail": detail,
        "schema_id": schema_id(record.value),
        "key": record.key,
        "value": content,
        "headers": _by_name(record.headers),
    }
    envelope = headers(
        event="dead_letter", event_id=letter_id, source=service, occurred_at_us=record.timestamp_ms * 1000
    )
    return Outgoing(declared.dlq, record.key, codec.encode("dead_letter", value), envelope)


def schema_id(value: bytes | None) -> int | None:
    """The schema id in a frame, where there is a frame and the id fits the field."""
    if value is None or len(value) < 5 or value[0] != 0:
        return None
    found = int.from_bytes(value[1:5], "big")
    return found if found < 2**31 else None


def _by_name(found: Sequence[tuple[str, bytes]]) -> Mapping[str, bytes]:
    by_name = {name: bytes(value or b"") for name, value in found}
    return by_name if sum(map(len, by_name.values())) <= LETTER_BYTES // 4 else {}
