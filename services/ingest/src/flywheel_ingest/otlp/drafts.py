"""An item as it could be posted at ``/v1/calls`` and its neighbours, filled from attributes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flywheel_ingest.items import FieldError, KindName
from flywheel_ingest.otlp.records import MAX_TEXT, Attributes, Opaque, Value

_NAMES: Final = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", tuple: "an array"}


@dataclass(slots=True)
class Draft:
    """What one record becomes: an item, where each of its fields came from, and what could not be taken.

    A field whose attribute is malformed is left out (unknown is null) and noted; ``flags`` go to the event.
    """

    kind: KindName
    layers: tuple[Attributes, ...]
    item: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    issues: list[FieldError] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    stored: int = 0
    """So many values of content are in the item."""
    sides: tuple[int | None, int | None] = (None, None)
    """Input and output tokens as the record tells them, where it does."""

    def find(self, keys: Sequence[str]) -> tuple[str, Value] | None:
        """The first of the attributes that says something, those of the record before those of its resource."""
        for layer in self.layers:
            values = layer.values
            for key in keys:
                if key in values and (value := values[key]) is not None and value != "":
                    return key, value
        return None

    def issue(self, source: str, message: str) -> None:
        """Note an attribute that could not be taken."""
        self.issues.append(FieldError(source, message))

    def put(self, name: str, value: Any, source: str) -> None:
        """Fill a field of the item."""
        self.item[name] = value
        self.sources[name] = source

    def quote(self, name: str, keys: Iterable[str]) -> None:
        """Fill a text field from content of the record itself."""
        said = self.layers[0].said
        for key in keys:
            value = said[key]() if key in said else None
            if isinstance(value, str) and value:
                self.put(name, value, key)
                self.stored += 1
                return

    def texts(self, table: Mapping[str, Sequence[str]], names: Sequence[str] | None = None) -> None:
        """Fill text fields; numbers are written as their digits, since ids are often such."""
        for name in table if names is None else names:
            found = self.find(table[name])
            if found is None:
                continue
            source, value = found
            if isinstance(value, str) or type(value) is int:
                self.put(name, str(value), source)
            else:
                self.issue(source, f"is {kind_of(value)}, not a string")

    def numbers(self, table: Mapping[str, Sequence[str]]) -> None:
        """Fill fields that are numbers."""
        for name, keys in table.items():
            number = self.number(keys)
            if number is not None:
                self.put(name, number[1], number[0])

    def number(self, keys: Sequence[str]) -> tuple[str, float] | None:
        """A finite number, or None with an issue noted."""
        found = self.find(keys)
        if found is None:
            return None
        source, value = found
        if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
            self.issue(source, f"is {kind_of(value)}, not a finite number")
            return None
        return source, float(value)  # type: ignore[arg-type]

    def integers(self, table: Mapping[str, Sequence[str]]) -> None:
        """Fill fields that are integers; JavaScript sends these as doubles."""
        for name, keys in table.items():
            found = self.find(keys)
            if found is None:
                continue
            source, value = found
            count = whole(value)
            if count is None:
                self.issue(source, f"is {kind_of(value)}, not an integer")
            else:
                self.put(name, count, source)

    def booleans(self, table: Mapping[str, Sequence[str]]) -> None:
        """Fill fields that are booleans."""
        for name, keys in table.items():
            found = self.find(keys)
            if found is not None and type(found[1]) is bool:
                self.put(name, found[1], found[0])
            elif found is not None:
                self.issue(found[0], f"is {kind_of(found[1])}, not a boolean")


def whole(value: Value) -> int | None:
    """The integer that a value is, also where it came as a double; None where it is none."""
    if type(value) is int:
        return value
    return int(value) if type(value) is float and value.is_integer() else None


def kind_of(value: Value) -> str:
    """What a value is, in words, never the value."""
    if isinstance(value, Opaque):
        return f"of type {value.kind}"
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return "a very long string"
    if isinstance(value, float) and not math.isfinite(value):
        return "not finite"
    return _NAMES.get(type(value), "of another type")
