"""How a dead letter is shown: counts, lines, and one letter whole, without the content it may carry."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from flywheel.events import Codec, Undecodable, UnknownSchema, rfc3339, topics
from flywheel.stream.letters import Standing

PREVIEW_BYTES: Final = 256
DETAIL_CHARACTERS: Final = 200
CONTENT: Final = frozenset({"raw", "redact"})
"""Classes of fields that may hold what people wrote."""


@dataclass(frozen=True, slots=True)
class Group:
    """Letters alike: how many, how many of them open, and the times of the oldest and newest (RFC 3339)."""

    topic: str
    reason: str
    field: str | None
    service: str
    letters: int
    open: int
    oldest: str
    newest: str


def groups(found: Sequence[Standing]) -> list[Group]:
    """Counts by topic, reason, field and service."""
    alike: dict[tuple[str, str, str | None, str], list[Standing]] = defaultdict(list)
    for standing in found:
        value = standing.letter.value
        alike[value["source_topic"], value["reason"], value["field"], value["service"]].append(standing)
    return [
        Group(
            *names,
            letters=len(some),
            open=sum(s.state == "open" for s in some),
            oldest=rfc3339(min(s.letter.value["occurred_at"] for s in some)),
            newest=rfc3339(max(s.letter.value["occurred_at"] for s in some)),
        )
        for names, some in sorted(alike.items(), key=lambda item: tuple(str(part) for part in item[0]))
    ]


def line(standing: Standing) -> dict[str, Any]:
    """A letter in a list."""
    value = standing.letter.value
    return {
        "id": standing.letter.id,
        "topic": value["source_topic"],
        "partition": value["source_partition"],
        "offset": value["source_offset"],
        "service": value["service"],
        "service_version": value["service_version"],
        "reason": value["reason"],
        "field": value["field"],
        "detail": value["detail"][:DETAIL_CHARACTERS],
        "at": rfc3339(value["occurred_at"]),
        "state": standing.state,
        "replays": standing.replays,
    }


def whole(standing: Standing, codec: Codec, *, content: bool) -> dict[str, Any]:
    """Everything about a letter; what may hold content only when asked for."""
    value = standing.letter.value
    shown = line(standing) | {
        "detail": value["detail"],
        "case": standing.letter.case,
        "schema_id": value["schema_id"],
        "key": _preview(value["key"], shown=True),
        "headers": {name: _text(data) for name, data in value["headers"].items()},
    }
    return shown | _record(value["value"], value["source_topic"], codec, content=content)


def _record(data: bytes | None, topic: str, codec: Codec, *, content: bool) -> dict[str, Any]:
    if data is None:
        return {"value": None}
    try:
        decoded = codec.decode(data)
    except (Undecodable, UnknownSchema) as error:
        declared = topics().get(topic)
        clear = content or (declared is not None and declared.pii not in CONTENT)
        return {"undecodable": str(error), "preview": _preview(data, shown=clear)}
    value = decoded.value if content else without_content(decoded.value, codec.schema(decoded.event))
    return {"event": decoded.event, "version": decoded.version, "value": value}


def without_content(value: Any, schema: Any) -> Any:
    """The value with every field that may hold content replaced by its length."""
    if isinstance(schema, list):
        inner = [branch for branch in schema if branch != "null"]
        return without_content(value, inner[0]) if value is not None and len(inner) == 1 else value
    if not isinstance(schema, dict):
        return value
    if isinstance(value, Mapping) and "fields" in schema:
        fields = {field["name"]: field for field in schema["fields"]}
        return {name: _field(part, fields.get(name)) for name, part in value.items()}
    if schema.get("type") == "array":
        return [without_content(part, schema["items"]) for part in value]
    if isinstance(schema.get("type"), dict | list):
        return without_content(value, schema["type"])
    return value


def _field(value: Any, field: Mapping[str, Any] | None) -> Any:
    if value is None:
        return None
    if field is None or field.get("pii") in CONTENT:
        size = f"{len(value)} " if hasattr(value, "__len__") else ""
        return f"({size}hidden; --content shows it)"
    return without_content(value, field["type"])


def _preview(data: bytes | None, *, shown: bool) -> dict[str, Any] | None:
    """Length, and the first bytes as hex and text; of what may be content only the five bytes of the frame."""
    if data is None:
        return None
    head = data[: PREVIEW_BYTES if shown else 5]
    made: dict[str, Any] = {"bytes": len(data), "hex": head.hex()}
    return made | {"text": _text(head)} if shown else made | {"hidden": "--content shows more"}


def _text(data: bytes) -> str:
    """Text without what would steer a terminal."""
    return "".join(c if c.isprintable() else "·" for c in data[:PREVIEW_BYTES].decode("utf-8", "replace"))


def since_us(text: str, now_us: int) -> int:
    """Microseconds of "90m", "2h", "3d" ago, or of an ISO date or time (UTC unless it says). Raises ValueError."""
    return _time_us(text, now_us, -1)


def until_us(text: str, now_us: int) -> int:
    """Microseconds of "90m", "2h", "3d" from now, or of an ISO date or time (UTC unless it says). Raises ValueError."""
    return _time_us(text, now_us, 1)


def _time_us(text: str, now_us: int, sign: int) -> int:
    away = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if away:
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[away[2]]
        return now_us + sign * int(timedelta(**{unit: int(away[1])}).total_seconds() * 1_000_000)
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)
