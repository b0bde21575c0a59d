"""Generates ``models.py`` from the newest version of every event: ``python -m flywheel.events.generate [--check]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flywheel.events.declarations import JsonSchema
from flywheel.events.registry import LocalRegistry

TARGET = Path(__file__).with_name("models.py")
_SCALARS = {"string": "str", "long": "Long", "int": "Int", "double": "float", "boolean": "bool", "bytes": "bytes"}
_HEAD = '''"""Event models, generated from ``schemas/events`` by ``make schemas``. Do not edit.

Frozen and strict: a string is not a number, and an unknown field is an error. Timestamps are integer microseconds
since the epoch (UTC), money is ``Decimal``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Int = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Long = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Micros = Annotated[int, Field(ge=-(2**63), lt=2**63, description="Microseconds since the epoch, UTC.")]


class EventModel(BaseModel):
    """What every event model shares."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
'''


def python_type(schema: Any) -> str:
    """The annotation of an Avro type."""
    if isinstance(schema, list):
        inner = [python_type(s) for s in schema if s != "null"]
        return " | ".join([*inner, "None"] if "null" in schema else inner)
    if isinstance(schema, str):
        return _SCALARS[schema]
    kind = schema["type"]
    logical = schema.get("logicalType")
    if logical == "timestamp-micros":
        return "Micros"
    if logical == "decimal":
        return f"Annotated[Decimal, Field(max_digits={schema['precision']}, decimal_places={schema['scale']})]"
    if kind == "enum":
        return f"Literal[{', '.join(repr_(s) for s in schema['symbols'])}]"
    if kind == "map":
        return f"dict[str, {python_type(schema['values'])}]"
    if kind == "array":
        return f"tuple[{python_type(schema['items'])}, ...]"
    return str(schema["name"]) if kind == "record" else python_type(kind)


def repr_(value: Any) -> str:
    """A literal in this project's quoting."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return ""
    default = field["default"]
    if isinstance(default, dict):
        return " = Field(default_factory=dict)"
    return " = ()" if isinstance(default, list) else f" = {repr_(default)}"


def _records(schema: Any) -> Iterator[JsonSchema]:
    """Nested records first, each once."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _records(branch)
    elif isinstance(schema, dict):
        for field in schema.get("fields", ()):
            yield from _records(field["type"])
        for inner in ("items", "values"):
            if inner in schema:
                yield from _records(schema[inner])
        if schema.get("type") == "record":
            yield schema


def _model(record: JsonSchema) -> str:
    lines = [f"\n\nclass {record['name']}(EventModel):", f'    """{record["doc"]}"""', ""]
    lines += [f"    {f['name']}: {python_type(f['type'])}{_default(f)}" for f in record["fields"]]
    return "\n".join(lines) + "\n"


def render() -> str:
    """The text of ``models.py``."""
    registry = LocalRegistry.load()
    events = sorted({v.event for v in registry.all()})
    models = [_model(r) for event in events for r in _records(registry.newest(event).avsc)]
    names = ",\n".join(f'    "{event}": {registry.newest(event).avsc["name"]}' for event in events)
    return f"{_HEAD}{''.join(models)}\n\nMODELS: dict[str, type[EventModel]] = {{\n{names},\n}}\n"


def main() -> int:
    """Write the models, or with ``--check`` fail when they are not what the schemas say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when models.py is out of date")
    if parser.parse_args().check:
        if TARGET.read_text() != render():
            print("models.py is out of date: run `make schemas`", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(render())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
