"""FULL_TRANSITIVE, held pairwise: any released version reads any other, whoever was deployed first.

Rules after Avro 1.11 "Schema Resolution", made stricter where real readers are weaker: no renames, every added or
removed field has a default, every enum a default symbol, no type that ClickHouse or common consumers cannot read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

from flywheel.events.declarations import JsonSchema, SchemaVersion

PII_CLASSES = frozenset({"none", "hash", "redact", "raw"})
FORBIDDEN_LOGICAL_TYPES = frozenset({"time-millis", "time-micros", "duration"})
_WIDER = {
    ("int", "long"),
    ("int", "double"),
    ("int", "float"),
    ("long", "double"),
    ("long", "float"),
    ("float", "double"),
}


def breaks(versions: Sequence[SchemaVersion]) -> list[str]:
    """Name every reason why one of these versions of an event could not read another; empty when all can."""
    found: list[str] = []
    for writer, reader in permutations(versions, 2):
        where = f"{reader.event}: v{reader.version} cannot read v{writer.version}"
        found += [f"{where}: {why}" for why in _cannot_read(writer.avsc, reader.avsc, "")]
    return found


def violations(schema: JsonSchema) -> list[str]:
    """Name every place where one schema breaks a rule of this project; empty when it keeps them all."""
    return list(_walk(schema, schema.get("name", "?")))


def _walk(schema: Any, path: str) -> Iterator[str]:
    if isinstance(schema, list):
        for branch in schema:
            yield from _walk(branch, path)
        return
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    if schema.get("logicalType") in FORBIDDEN_LOGICAL_TYPES:
        yield f"{path}: logical type {schema['logicalType']} is read differently by different consumers"
    if kind == "enum" and schema.get("default") not in schema["symbols"]:
        yield f"{path}: an enum needs a default symbol, or old readers fail on a new one"
    if kind == "record":
        for field in schema["fields"]:
            yield from _field(field, f"{path}.{field['name']}")
    elif kind in ("array", "map"):
        yield from _walk(schema["items" if kind == "array" else "values"], path)
    elif isinstance(kind, dict | list):
        yield from _walk(kind, path)


def _field(field: dict[str, Any], path: str) -> Iterator[str]:
    if not field.get("doc"):
        yield f"{path}: no doc"
    if _holds_text(field["type"]) and field.get("pii") not in PII_CLASSES:
        yield f"{path}: a text field must declare pii: {', '.join(sorted(PII_CLASSES))}"
    branches = field["type"]
    if isinstance(branches, list) and (branches[0] != "null" or field.get("default", "") is not None):
        yield f'{path}: a union starts with "null" and defaults to null'
    yield from _walk(field["type"], path)


def _holds_text(schema: Any) -> bool:
    if schema == "string":
        return True
    if isinstance(schema, list):
        return any(_holds_text(s) for s in schema)
    if isinstance(schema, dict) and schema["type"] in ("array", "map"):
        return _holds_text(schema["items" if schema["type"] == "array" else "values"])
    return False


def _cannot_read(writer: Any, reader: Any, path: str) -> Iterator[str]:
    if isinstance(writer, list) or isinstance(reader, list):
        yield from _unions(writer, reader, path)
        return
    w, r = _kind(writer), _kind(reader)
    if w != r:
        if (w, r) not in _WIDER:
            yield f"{path or 'record'}: {w} is not {r}"
        return
    if w == "record":
        yield from _records(writer, reader, path)
    elif w == "enum":
        if not set(writer["symbols"]) <= set(reader["symbols"]) and "default" not in reader:
            yield f"{path}: new symbols and no default symbol"
    elif w in ("array", "map"):
        inner = "items" if w == "array" else "values"
        yield from _cannot_read(writer[inner], reader[inner], f"{path}[]")
    if isinstance(writer, dict) and isinstance(reader, dict) and _logical(writer) != _logical(reader):
        yield f"{path}: logical type {_logical(writer)} is not {_logical(reader)}"


def _records(writer: JsonSchema, reader: JsonSchema, path: str) -> Iterator[str]:
    if writer["name"] != reader["name"]:
        yield f"{path or 'record'}: renamed from {writer['name']} to {reader['name']}"
    written = {f["name"]: f for f in writer["fields"]}
    for field in reader["fields"]:
        at = f"{path}.{field['name']}"
        if field["name"] not in written:
            if "default" not in field:
                yield f"{at}: not written and without default"
        else:
            yield from _cannot_read(written[field["name"]]["type"], field["type"], at)


def _unions(writer: Any, reader: Any, path: str) -> Iterator[str]:
    branches = writer if isinstance(writer, list) else [writer]
    accepted = reader if isinstance(reader, list) else [reader]
    for branch in branches:
        if not any(not list(_cannot_read(branch, a, path)) for a in accepted):
            yield f"{path}: {_kind(branch)} is in no branch"


def _kind(schema: Any) -> str:
    if isinstance(schema, str):
        return schema
    kind = schema["type"]
    return kind if isinstance(kind, str) else _kind(kind)


def _logical(schema: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(schema.get(k) for k in ("logicalType", "precision", "scale"))
