"""A text as it is scanned, once parts of it are settled, and the way back to its own offsets."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flywheel.redaction.kinds import KINDS

OPAQUE: Final = "\x00"
DROPPED: Final = "[DROPPED]"
HASH_LETTERS: Final = 16
MARK: Final = re.compile(
    rf"\[(?:DROPPED|#\d{{1,9}}|(?:{'|'.join(kind.upper() for kind in KINDS)})(?::[a-p]{{{HASH_LETTERS}}})?)\]"
)
"""What redaction leaves behind; no mark can begin inside another, so a text is read back as it was written."""
INVISIBLE: Final = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]+")


@dataclass(frozen=True, slots=True)
class Settled:
    """``text[start:end]`` is written as ``written`` in the end, and is scanned as ``scanned``."""

    start: int
    end: int
    written: str
    scanned: str


@dataclass(frozen=True, slots=True)
class Scan:
    """A text with its settled parts collapsed."""

    text: str
    _at: tuple[int, ...]
    _back: tuple[int, ...]

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The range of the original text that ``text[start:end]`` stands for; ``start < end``."""
        return self._of(start), self._of(end - 1, after=True)

    def _of(self, place: int, after: bool = False) -> int:
        segment = bisect_right(self._at, place) - 1
        if after and segment % 2 == 1:  # a settled part stands as one character: behind it is where the next begins
            return self._back[segment + 1]
        return self._back[segment] + place - self._at[segment] + after


def collapse(text: str, settled: Sequence[Settled]) -> Scan:
    """The text with each settled part, sorted and disjoint, replaced by what it is scanned as (at most a character).

    Segments alternate: what stands for itself, then a settled part.
    """
    pieces: list[str] = []
    at: list[int] = []
    back: list[int] = []
    position = length = 0
    for part in settled:
        for piece, begins in ((text[position : part.start], position), (part.scanned, part.start)):
            at.append(length)
            back.append(begins)
            pieces.append(piece)
            length += len(piece)
        position = part.end
    at.append(length)
    back.append(position)
    pieces.append(text[position:])
    return Scan("".join(pieces), tuple(at), tuple(back))


def merge(settled: Sequence[Settled], new: Sequence[Settled]) -> list[Settled]:
    """Both, sorted; a new part takes in the settled ones inside it."""
    merged: list[Settled] = []
    for part in sorted([*settled, *new], key=lambda s: (s.start, -s.end)):
        if not merged or part.start >= merged[-1].end:
            merged.append(part)
    return merged


def render(text: str, settled: Sequence[Settled]) -> str:
    """The text with every settled part as it is written."""
    pieces: list[str] = []
    position = 0
    for part in settled:
        pieces += (text[position : part.start], part.written)
        position = part.end
    return "".join([*pieces, text[position:]])
