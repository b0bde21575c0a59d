"""From a request's context to numbers: declared features, encoded the same by whoever decides and whoever learns.

Every feature fills fixed slots of one vector of whole numbers in units of 2⁻¹² (the first slot is the constant 1), so
sums over vectors are exact. Kinds:

- a number: its place between ``low`` and ``high`` (both in logarithms with ``log``), beyond them up to the clip, and a
  slot that is 1 where it is missing;
- a category: a slot per declared value, and one for everything else;
- a text: its words hashed into ``buckets`` slots with a sign (Weinberger, Dasgupta, Langford, Smola and Attenberg,
  2009), over the root of their number;
- complexity: signals of a text that cost next to nothing: length, words, lines, digits, marks of code, questions.

Only the first 256 characters of a text count, as no more is logged with the decision; where ``length`` names a number
of the context, complexity takes the length from there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from flywheel.policy.eligibility import Value

ONE = 1 << 12
"""The number 1 in units of a feature."""
CLIP = 4 * ONE
"""Largest magnitude of a slot."""
MOST_SLOTS = 256
_TEXT = 256
_LARGEST = 1e300
_WORD = re.compile(r"\w+")
_DIGIT = re.compile(r"\d")
_CODE = re.compile(r"[{}()\[\];=<>_/\\|`]")
_SIGN = 1 << 31

Encode = Callable[[Mapping[str, Value]], list[float]]


@dataclass(frozen=True, slots=True)
class NumberFeature:
    """A number of the context, 0 at ``low`` and 1 at ``high``; ``log``: on a logarithmic scale."""

    name: str
    low: float
    high: float
    log: bool = False

    def slots(self) -> list[str]:
        return [self.name, f"{self.name} missing"]

    def encoder(self) -> Encode:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"{self.name}: low must be below high, and above 0 on a logarithmic scale")
        scale = math.log if self.log else float
        bottom, width, name, log = scale(self.low), scale(self.high) - scale(self.low), self.name, self.log

        def encode(context: Mapping[str, Value]) -> list[float]:
            value = _number(context.get(name))
            if value is None:
                return [0.0, 1.0]
            if log:
                return [(math.log(value) - bottom) / width if value > 0 else 0.0, 0.0]
            return [(value - bottom) / width, 0.0]

        return encode


@dataclass(frozen=True, slots=True)
class CategoryFeature:
    """One of declared values, or something else. A flag is the texts ``true`` and ``false``."""

    name: str
    values: tuple[str, ...]

    def slots(self) -> list[str]:
        return [*(f"{self.name}={value}" for value in self.values), f"{self.name} other"]

    def encoder(self) -> Encode:
        if not self.values or len(set(self.values)) < len(self.values):
            raise ValueError(f"{self.name}: needs values, each once")
        places, name, size = {value: place for place, value in enumerate(self.values)}, self.name, len(self.values) + 1

        def encode(context: Mapping[str, Value]) -> list[float]:
            value = context.get(name)
            text = ("true" if value else "false") if isinstance(value, bool) else value if value is None else str(value)
            slots = [0.0] * size
            slots[places.get(text, size - 1) if text is not None else size - 1] = 1.0
            return slots

        return encode


@dataclass(frozen=True, slots=True)
class TextFeature:
    """The words of a text, hashed into ``buckets``."""

    name: str
    buckets: int

    def slots(self) -> list[str]:
        return [f"{self.name}#{bucket}" for bucket in range(self.buckets)]

    def encoder(self) -> Encode:
        if not 1 <= self.buckets < MOST_SLOTS:
            raise ValueError(f"{self.name}: needs 1 to {MOST_SLOTS - 1} buckets")
        name, buckets = self.name, self.buckets

        def encode(context: Mapping[str, Value]) -> list[float]:
            slots = [0.0] * buckets
            words = _WORD.findall(_text(context.get(name)).lower())
            if words:
                share = 1.0 / math.sqrt(len(words))
                for word in words:
                    hashed = crc32(word.encode())
                    slots[hashed % buckets] += share if hashed & _SIGN else -share
            return slots

        return encode


@dataclass(frozen=True, slots=True)
class ComplexityFeature:
    """Cheap signals of how hard a text is; ``length`` may name a context number with its whole length in characters."""

    name: str
    length: str | None = None

    def slots(self) -> list[str]:
        return [f"{self.name} {what}" for what in ("length", "word length", "digits", "code", "questions", "lines")]

    def encoder(self) -> Encode:
        name, length = self.name, self.length

        def encode(context: Mapping[str, Value]) -> list[float]:
            text = _text(context.get(name))
            told = _number(context.get(length)) if length is not None else None
            whole = len(text) if told is None or told < 0 else told
            if not text:
                return [math.log1p(whole) / 10.0, 0.0, 0.0, 0.0, 0.0, 0.0]
            words = _WORD.findall(text)
            return [
                math.log1p(whole) / 10.0,
                sum(map(len, words)) / (10.0 * max(1, len(words))),
                10.0 * len(_DIGIT.findall(text)) / len(text),
                10.0 * len(_CODE.findall(text)) / len(text),
                float(text.count("?")),
                math.log1p(text.count("\n")),
            ]

        return encode


Feature = NumberFeature | CategoryFeature | TextFeature | ComplexityFeature


def _number(value: Value) -> float | None:
    """Return a finite number, or null for anything else."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    # Beyond that every scale is at its clip, and a float could not hold it.
    return float(min(_LARGEST, max(-_LARGEST, value)))


def _text(value: Value) -> str:
    return value[:_TEXT] if isinstance(value, str) else ""


class Encoder:
    """Turns contexts into vectors. ``slots`` names every place, the constant first.

    Raises ``ValueError`` naming the feature when a declaration makes no sense or all need more than 256 slots.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        names = [feature.name for feature in features if not isinstance(feature, ComplexityFeature)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]}: declared twice")
        self.slots: tuple[str, ...] = ("1", *(slot for feature in features for slot in feature.slots()))
        if len(self.slots) > MOST_SLOTS:
            raise ValueError(f"features: {len(self.slots)} slots, at most {MOST_SLOTS}")
        self._encoders = tuple(feature.encoder() for feature in features)

    def encode(self, context: Mapping[str, Value]) -> NDArray[np.int64]:
        """Return the vector of a context in units of 2⁻¹²; a value of the wrong type counts as missing."""
        slots = [1.0]
        for encoder in self._encoders:
            slots += encoder(context)
        scaled = np.array(slots)
        scaled *= ONE
        np.minimum(scaled, CLIP, out=scaled)
        np.maximum(scaled, -CLIP, out=scaled)
        return np.asarray(np.rint(scaled, out=scaled), dtype=np.int64)
