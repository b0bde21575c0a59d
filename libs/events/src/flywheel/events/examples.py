"""The examples under ``schemas/examples``, in the shape the codec takes: for tests, docs and the conformance suite."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from flywheel.events.declarations import JsonSchema, schemas_dir
from flywheel.events.registry import LocalRegistry


def examples(event: str, version: int | None = None) -> dict[str, dict[str, Any]]:
    """Every example of an event by name; of its newest version unless one is named."""
    newest = LocalRegistry.load().newest(event)
    folder = schemas_dir() / "examples" / event / f"v{version or newest.version}"
    return {p.stem: from_json(json.loads(p.read_text()), newest.avsc) for p in sorted(folder.glob("*.json"))}


def from_json(value: Any, schema: Any) -> Any:
    """Turn an example's JSON into a codec value: text to ``Decimal`` for money, hex to bytes."""
    if value is None:
        return None
    if isinstance(schema, list):
        return from_json(value, next(s for s in schema if s != "null"))
    if schema == "bytes":
        return bytes.fromhex(value)
    if not isinstance(schema, dict):
        return value
    if schema.get("logicalType") == "decimal":
        return Decimal(value)
    if schema["type"] == "record":
        return _record(value, schema)
    if schema["type"] == "array":
        return [from_json(v, schema["items"]) for v in value]
    if schema["type"] == "map":
        return {k: from_json(v, schema["values"]) for k, v in value.items()}
    return value


def _record(value: dict[str, Any], schema: JsonSchema) -> dict[str, Any]:
    types = {f["name"]: f["type"] for f in schema["fields"]}
    return {k: from_json(v, types[k]) if k in types else v for k, v in value.items()}


def examples_dir() -> Path:
    """The folder that holds the examples."""
    return schemas_dir() / "examples"
