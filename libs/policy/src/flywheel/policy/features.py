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
_ASCII_DIGITS = b"0123456789"
_CODE = b"{}()[];=<>_/\\|`"
_ASCII_FOLD = bytes(ord(chr(byte).lower()) if _WORD.match(chr(byte)) else 32 for byte in range(128)) + bytes(128)
"""Lower case of what makes words in ASCII, and a space for all else."""
_SIGN = 1 << 31

Encode = Callable[[Mapping[str, Value]], Sequence[int]]
"""From a context to the slots of one feature, in units of 2⁻¹²."""


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
        if not math.isfinite(width):
            raise ValueError(f"{self.name}: low and high must be finite, and so must their distance")

        def encode(context: Mapping[str, Value]) -> tuple[int, int]:
            value = _number(context.get(name))
            if value is None:
                return 0, ONE
            if log:
                return _units((math.log(value) - bottom) / width) if value > 0 else 0, 0
            return _units((value - bottom) / width), 0

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
        name, size = self.name, len(self.values)
        *rows, other = (tuple(ONE if slot == place else 0 for slot in range(size + 1)) for place in range(size + 1))
        found = dict(zip(self.values, rows, strict=True))

        def encode(context: Mapping[str, Value]) -> tuple[int, ...]:
            value = context.get(name)
            if value is None:
                return other
            if isinstance(value, bool):
                return found.get("true" if value else "false", other)
            return found.get(str(value), other)

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
        slots_of: dict[int, Sequence[int]] = {}

        def encode(context: Mapping[str, Value]) -> list[int]:
            counts = [0] * buckets
            words = _folded_words(_text(context.get(name)))
            for hashed in map(crc32, words):
                counts[hashed % buckets] += 1 if hashed & _SIGN else -1
            if not words:
                return counts
            slots = slots_of.get(len(words))
            if slots is None:
                slots = slots_of.setdefault(len(words), _shares(len(words)))
            return [slots[count] for count in counts]

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

        def encode(context: Mapping[str, Value]) -> list[int]:
            text = _text(context.get(name))
            told = _number(context.get(length)) if length is not None else None
            whole = _units(math.log1p(len(text) if told is None or told < 0 else told) / 10.0)
            if not text:
                return [whole, 0, 0, 0, 0, 0]
            words, letters, digits, code = _counts(text)
            return [
                whole,
                _units(letters / (10.0 * max(1, words))),
                _units(10.0 * digits / len(text)),
                _units(10.0 * code / len(text)),
                _units(float(text.count("?"))),
                _units(math.log1p(text.count("\n"))),
            ]

        return encode


Feature = NumberFeature | CategoryFeature | TextFeature | ComplexityFeature


def _number(value: Value) -> float | None:
    """Return a finite number, or null for anything else."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    if -_LARGEST <= value <= _LARGEST:
        return float(value)
    if isinstance(value, float) and math.isnan(value):
        return None
    # Beyond that every scale is at its clip, and a float could not hold it.
    return _LARGEST if value > 0 else -_LARGEST


def _units(value: float) -> int:
    """Return a slot's value in units of 2⁻¹², clipped; halves go to the even one."""
    whole = value * ONE
    if -CLIP <= whole <= CLIP:
        return round(whole)
    return CLIP if whole > 0 else -CLIP


def _text(value: Value) -> str:
    return value[:_TEXT] if isinstance(value, str) else ""


def _folded_words(text: str) -> list[bytes]:
    """Return the words of a text in lower case, in UTF-8; ASCII by a table, as that is several times as fast."""
    if text.isascii():
        return text.encode().translate(_ASCII_FOLD).split()
    return [word.encode() for word in _WORD.findall(text.lower())]


def _shares(words: int) -> Sequence[int]:
    """Return what a bucket holds that so many more of ``words`` words were added to than taken from: place ``n`` for
    ``n``, which counts from the end where it is negative."""
    share = 1.0 / math.sqrt(words)
    return [_units(net * share) for net in (*range(words + 1), *range(-words, 0))]


def _counts(text: str) -> tuple[int, int, int, int]:
    """Return how many words a text has, characters in words, digits, and marks of code."""
    if not text.isascii():
        words = _WORD.findall(text)
        code = sum(map(text.count, _CODE.decode()))
        return len(words), sum(map(len, words)), len(_DIGIT.findall(text)), code
    data = text.encode()
    folded = data.translate(_ASCII_FOLD)
    size = len(data)
    digits, code = size - len(data.translate(None, _ASCII_DIGITS)), size - len(data.translate(None, _CODE))
    return len(folded.split()), size - folded.count(b" "), digits, code


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

    def encode(self, context: Mapping[str, Value]) -> tuple[int, ...]:
        """Return the vector of a context in units of 2⁻¹²; a value of the wrong type counts as missing."""
        slots = [ONE]
        for encoder in self._encoders:
            slots += encoder(context)
        return tuple(slots)
