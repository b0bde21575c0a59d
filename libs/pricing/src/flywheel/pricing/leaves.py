"""A nested usage object to its leaves by path: snake-cased, bounded, with what contradicts itself marked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Final

from flywheel.pricing.buckets import MOST_TOKENS

MOST_LEAVES: Final = 512
MOST_DEPTH: Final = 6
_LONGEST_KEY: Final = 128
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class TooLarge(Exception):
    """More leaves, or deeper ones, than usage has."""


CONFLICT: Final = object()
"""Stands for a key that was spelled twice, with two values."""
_SCALARS: Final = frozenset({int, str, float, bool, Decimal, type(None)})


def leaves_of(value: Mapping[object, object]) -> dict[str, object]:
    """Leaves by path; one key spelled twice with two values has ``CONFLICT``.

    Raises:
        TooLarge: more than ``MOST_LEAVES``, deeper than ``MOST_DEPTH``, or a key beyond any real one's length.
    """
    into: dict[str, object] = {}
    _flatten(value, "", into, 0)
    return into


def whole(value: object) -> object:
    """The integer that a number is: JSON has one kind of number, and some write 5.0 for 5.

    Anything else comes back as it is; a number too large for a count as some count that is too large.
    """
    if type(value) is int or not isinstance(value, float | Decimal) or value != value:  # noqa: PLR0124 - not for NaN
        return value
    if abs(float(value)) > MOST_TOKENS:
        return MOST_TOKENS + 1 if value > 0 else -1
    return int(value) if value % 1 == 0 else value


def _flatten(value: object, path: str, into: dict[str, object], depth: int) -> None:
    if type(value) in _SCALARS or not isinstance(value, Mapping | Sequence) or isinstance(value, bytes):
        if type(value) is Decimal and not value.is_finite():
            value = float("nan")  # a signalling NaN of Decimal raises wherever it is looked at
        if into.get(path) is None:
            into[path] = value
        elif value is not None and into[path] != value:
            into[path] = CONFLICT
        if len(into) > MOST_LEAVES:
            raise TooLarge
        return
    if depth >= MOST_DEPTH or len(value) > MOST_LEAVES:
        raise TooLarge
    if isinstance(value, Mapping):
        for key, each in value.items():
            _flatten(each, _joined(path, str(key)), into, depth + 1)
    else:
        for index, each in enumerate(value):
            _add(into, path, index, each, depth)


@lru_cache(4096)
def _joined(path: str, key: str) -> str:
    if len(key) > _LONGEST_KEY:
        raise TooLarge
    # Surrogates come from JSON escapes, and no output takes them.
    name = _HUMP.sub("_", key.encode(errors="replace").decode()).lower()
    return f"{path}.{name}" if path else name


def _add(into: dict[str, object], path: str, index: int, item: object, depth: int) -> None:
    """An item of a list goes by what tells it from the others: Gemini's modality, Bedrock's lifetime.

    Two items of one name count each for itself, so they are added up.
    """
    told = next((item[key] for key in ("modality", "ttl") if key in item), None) if isinstance(item, Mapping) else None
    own: dict[str, object] = {}
    if isinstance(item, Mapping) and isinstance(told, str):
        # "Modality.AUDIO" is how an enum of an SDK prints itself.
        name = told.rpartition(".")[2]
        _flatten({key: each for key, each in item.items() if key not in ("modality", "ttl")}, "", own, depth + 1)
    else:
        name = str(index)
        _flatten(item, "", own, depth + 1)
    for key, value in own.items():
        at = _joined(path, name) + (f".{key}" if key else "")
        before, added = into.get(at), whole(value)
        if before is None or value is None:
            into[at] = before if value is None else added
        else:
            into[at] = before + added if type(before) is int and type(added) is int else CONFLICT
