"""Context features as a charter declares them and a policy event carries them, and the encoder they stand for.

A decision never logs a text that features are taken from: it logs the encoded vector, in units of 2⁻¹², and the digest
of the declarations that gave it. So whoever learns or replays has exactly the numbers the arm was drawn at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from math import isnan
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import Field, model_validator

from flywheel.policy.declared_values import Declared, Number
from flywheel.policy.eligibility import Value
from flywheel.policy.features import (
    CategoryFeature,
    ComplexityFeature,
    Encoder,
    Feature,
    NumberFeature,
    TextFeature,
)

MOST_FEATURE_SLOTS = 32
"""Slots of all features of a charter, the constant included."""
MOST_SUMS = 4500
"""Sums of one span of event time, all arms: arms · (d + 1)(d + 2) / 2 at d slots; 8 arms at 32. All spans of ten years
with every sum at its widest make a message of 2.0 MB, which is what topics take (2 MiB)."""

_NEEDS: Mapping[str, tuple[str, ...]] = {
    "number": ("low", "high"), "category": ("values",), "flag": (), "text": ("buckets",), "complexity": (),
}  # fmt: skip
_MAY: Mapping[str, tuple[str, ...]] = {"number": ("log",), "complexity": ("length",)}
_FIELDS = ("low", "high", "log", "values", "buckets", "length")


class FeatureSpec(Declared):
    """One feature of a request's context: a ``number`` from ``low`` to ``high`` (``log``: on a logarithmic scale), a
    ``category`` of ``values``, a ``flag``, a ``text`` whose words are hashed into ``buckets``, or the ``complexity`` of
    a text (``length`` names a number of the context with its whole length)."""

    name: str = Field(min_length=1, max_length=128)
    kind: Literal["number", "category", "flag", "text", "complexity"]
    low: Number | None = None
    high: Number | None = None
    log: bool | None = None
    values: list[Annotated[str, Field(min_length=1, max_length=128)]] | None = None
    buckets: int | None = None
    length: str | None = Field(None, min_length=1, max_length=128)

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        needs = _NEEDS[self.kind]
        for field in needs:
            if getattr(self, field) is None:
                raise ValueError(f"a {self.kind} needs {' and '.join(needs)}; {field} is missing")
        for field in _FIELDS:
            if getattr(self, field) is not None and field not in (*needs, *_MAY.get(self.kind, ())):
                raise ValueError(f"{field} means nothing for a {self.kind}")
        try:
            feature_of(self.record()).encoder()
        except ValueError as error:
            raise ValueError(str(error).removeprefix(f"{self.name}: ")) from error
        return self

    @property
    def reads_text(self) -> bool:
        """Whether it is taken from a text, which is not logged."""
        return self.kind in ("text", "complexity")

    def record(self) -> dict[str, Any]:
        """Return the feature as a ``policy`` event carries it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "low": self.low or 0.0,
            "high": self.high or 0.0,
            "log": bool(self.log),
            "values": list(self.values or ()),
            "buckets": self.buckets or 0,
            "length": self.length,
        }


def feature_of(record: Mapping[str, Any]) -> Feature:
    """Return the feature that a record of a ``policy`` event declares; raises ``ValueError`` for an unknown kind."""
    kind, name = record["kind"], record["name"]
    if kind == "number":
        return NumberFeature(name, record["low"], record["high"], record["log"])
    if kind == "category":
        return CategoryFeature(name, tuple(record["values"]))
    if kind == "flag":
        return CategoryFeature(name, ("true", "false"))
    if kind == "text":
        return TextFeature(name, record["buckets"])
    if kind == "complexity":
        return ComplexityFeature(name, record["length"])
    raise ValueError(f"features: {name} has the unknown kind {kind!r}")


def encoder_of(records: Sequence[Mapping[str, Any]]) -> Encoder:
    """Return the encoder of a ``policy`` event's features.

    Raises ``ValueError`` naming the feature where one makes no sense, and where all need more than 32 slots.
    """
    encoder = Encoder([feature_of(record) for record in records])
    if len(encoder.slots) > MOST_FEATURE_SLOTS:
        raise ValueError(f"features: {len(encoder.slots)} slots, at most {MOST_FEATURE_SLOTS}")
    return encoder


def encoding_of(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the digest of features: vectors of one digest mean the same, slot by slot."""
    return blake2b(orjson.dumps(list(records), option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()


def complete(records: Sequence[Mapping[str, Any]], context: Mapping[str, Value]) -> bool:
    """Whether a context has every feature declared, each of its kind."""
    return all(_given(record["kind"], context.get(record["name"])) for record in records)


def _given(kind: str, value: Value) -> bool:
    if kind == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool) and not isnan(value)
    if kind in ("text", "complexity"):
        return isinstance(value, str) and bool(value)
    return value is not None
