"""Runs of digits with the separators people write between them, taken apart into what each can be.

A run is read once. What has its own validation is taken out first (addresses, dates, cards, social security numbers),
and what is left may be a phone or one of the numbers that only the words before it explain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from flywheel.redaction.checks import luhn, plausible_day
from flywheel.redaction.kinds import Kind, Span
from flywheel.redaction.national import scheme_of
from flywheel.redaction.phones import phones
from flywheel.redaction.words import Topic, in_sum, phone_after, told_before, topic_before, unit_after

_RUN: Final = re.compile(r"[+(]{0,2}\d(?:(?: ?- ?|[ ./]|/ |\)[ .\-/]?|[ .\-/]?\()?\d)*+")
_DIGITS: Final = re.compile(r"\d+")
_IPV4: Final = re.compile(r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d]|\.\d)")
_VERSION: Final = re.compile(r"(?:\b[vV]|[vV]ersion:? |[rR]elease |==|~=|>=|@)$")
_CARD_GROUPS_OF: Final = {
    5: ((4, 4, 4, 4, 3),),
    4: ((4, 4, 4, 4), (4, 4, 4, 1), (4, 4, 4, 2)),
    3: ((4, 6, 5), (4, 6, 4), (4, 4, 5), (4, 4, 4)),
}
_CONTEXT_KINDS: Final[dict[Topic, tuple[Kind, int, int]]] = {
    "bank": ("bank_account", 6, 17),
    "passport": ("passport", 6, 10),
    "driver": ("driver_license", 5, 16),
    "national": ("national_id", 8, 12),
}


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring groups of digits of one run, at least one: (start, end) in the text, lengths, separators."""

    text: str
    groups: tuple[tuple[int, int], ...]
    sizes: tuple[int, ...]
    separators: tuple[str, ...]

    @staticmethod
    def of(text: str, groups: tuple[tuple[int, int], ...]) -> Piece:
        """The piece that these groups are."""
        between = tuple(text[a[1] : b[0]] for a, b in pairwise(groups))
        return Piece(text, groups, tuple(b - a for a, b in groups), between)

    @property
    def start(self) -> int:
        return self.groups[0][0]

    @property
    def end(self) -> int:
        return self.groups[-1][1]

    def digits(self, first: int = 0, last: int | None = None) -> str:
        """The digits of groups ``first`` to ``last`` (exclusive)."""
        return "".join(self.text[a:b] for a, b in self.groups[first:last])

    def part(self, first: int, last: int) -> Piece:
        """Groups ``first`` to ``last`` (exclusive)."""
        return Piece(self.text, self.groups[first:last], self.sizes[first:last], self.separators[first : last - 1])


def numbers(text: str) -> Iterator[Span]:
    """Everything that is written in digits."""
    for run in _RUN.finditer(text):
        if run.end() - run.start() < 5:
            continue
        groups = tuple(found.span() for found in _DIGITS.finditer(text, run.start(), run.end()))
        if sum(b - a for a, b in groups) >= 4:
            yield from _of_run(Piece.of(text, groups))


def _of_run(run: Piece) -> Iterator[Span]:
    pieces = [run]
    for finder in (_ip_addresses, _dates, _cards, _social_security):
        left: list[Piece] = []
        for piece in pieces:
            found, taken = finder(piece)
            yield from found
            left += _without(piece, taken) if taken else (piece,)
        pieces = left
    for piece in pieces:
        yield from _explained(piece)


def _without(piece: Piece, taken: list[tuple[int, int]]) -> list[Piece]:
    """What is left of a piece without the groups taken, each a range of group numbers."""
    left, at = [], 0
    for first, last in [*taken, (len(piece.groups), len(piece.groups))]:
        if first > at:
            left.append(piece.part(at, first))
        at = last
    return left


Taken = tuple[list[Span], list[tuple[int, int]]]


def _ip_addresses(piece: Piece) -> Taken:
    found: list[Span] = []
    taken: list[tuple[int, int]] = []
    if len(piece.groups) >= 4:
        starts = {a: n for n, (a, _) in enumerate(piece.groups)}
        for match in _IPV4.finditer(piece.text, piece.start, piece.end):
            if match.start() not in starts:
                continue
            if not _VERSION.search(piece.text[max(0, match.start() - 9) : match.start()]):
                found.append(Span("ip_address", match.start(), match.end(), "ipv4", 0.95))
            taken.append((starts[match.start()], starts[match.start()] + 4))
    return found, taken


def _dates(piece: Piece) -> Taken:
    """Dates (and the hour after one) are no finds; they are taken away so that they are not read as phones."""
    taken: list[tuple[int, int]] = []
    sizes, separators, at = piece.sizes, piece.separators, 0
    while at + 3 <= len(sizes):
        if (
            separators[at] == separators[at + 1]
            and separators[at] in ("-", ".", "/", " ")
            and _is_date(piece, at, alone=len(sizes) == 3)
        ):
            last = at + 3
            if last + 1 == len(sizes) and sizes[last] <= 2 and piece.text[piece.end : piece.end + 1] == ":":
                last += 1
            taken.append((at, last))
            at = last
        else:
            at += 1
    return [], taken


def _is_date(piece: Piece, at: int, *, alone: bool) -> bool:
    first, second, third = (piece.text[a:b] for a, b in piece.groups[at : at + 3])
    sizes = (len(first), len(second), len(third))
    if sizes[0] == 4 and max(sizes[1:]) <= 2:
        return first[:2] in ("18", "19", "20", "21") and plausible_day(0, int(second), int(third))
    if max(sizes[:2]) > 2 or not (sizes[2] == 4 or (sizes[2] == 2 and alone)):
        return False
    a, b = int(first), int(second)
    return (sizes[2] == 2 or third[:2] in ("18", "19", "20", "21")) and (
        plausible_day(0, a, b) or plausible_day(0, b, a)
    )


def _cards(piece: Piece) -> Taken:
    found: list[Span] = []
    taken: list[tuple[int, int]] = []
    told: bool | None = None
    at = 0
    while at < len(piece.sizes):
        for count in _card_windows(piece, at):
            if told is None:
                told = topic_before(piece.text, piece.groups[at][0]) == "card"
            validator = _card_validator(piece.digits(at, at + count), told=told)
            if validator is not None:
                start, end = piece.groups[at][0], piece.groups[at + count - 1][1]
                found.append(Span("credit_card", start, end, validator, 0.98 if validator == "luhn" else 0.7))
                taken.append((at, at + count))
                at += count - 1
                break
        at += 1
    return found, taken


def _card_windows(piece: Piece, at: int) -> Iterator[int]:
    """How many groups from group ``at`` on are written as a card: one group, the issuers' groups, or single digits."""
    size = piece.sizes[at]
    if 12 <= size <= 19:
        yield 1
    elif size == 4:
        for count in (5, 4, 3):
            if piece.sizes[at : at + count] in _CARD_GROUPS_OF[count] and _alike(piece.separators[at : at + count - 1]):
                yield count
    elif size == 1 and (at == 0 or piece.sizes[at - 1] != 1):
        shape = piece.sizes[at : at + 20]
        count = next((n for n, one in enumerate(shape) if one != 1), len(shape))
        if 13 <= count <= 19 and _alike(piece.separators[at : at + count - 1]):
            yield count


def _alike(separators: tuple[str, ...]) -> bool:
    return len(set(separators)) == 1 and separators[0] in (" ", "-", ".", " - ")


def _card_validator(digits: str, *, told: bool) -> str | None:
    if len(set(digits)) == 1 and digits[0] == "0":
        return None
    if (told or _issued(digits)) and luhn(digits):
        return "luhn"
    # A card with a slip of the pen is still mostly somebody's card.
    return "context" if told and 13 <= len(digits) <= 19 else None


def _issued(digits: str) -> bool:
    """Whether a payment network issues this length under this prefix; 12 and 13 digits only where a word says card."""
    length, two, four = len(digits), int(digits[:2]), int(digits[:4])
    return (
        (length >= 14 and length in (16, 19) and digits[0] == "4")
        or (length == 16 and (51 <= two <= 55 or 2221 <= four <= 2720))
        or (length == 15 and two in (34, 37))
        or (14 <= length <= 19 and (two in (36, 38, 39) or 300 <= int(digits[:3]) <= 305))
        or (16 <= length <= 19 and (two in (35, 60, 62, 64, 65, 81) or digits[:4] == "2200"))
        or (length in (15, 16) and four in (2131, 1800))
        or (14 <= length <= 19 and (two in (50, 58, 63, 67) or two in (56, 57)))
    )


def _social_security(piece: Piece) -> Taken:
    found: list[Span] = []
    taken: list[tuple[int, int]] = []
    sizes, separators = piece.sizes, piece.separators
    for at in range(len(sizes) - 2):
        if (
            sizes[at : at + 3] != (3, 2, 4)
            or separators[at] != separators[at + 1]
            or separators[at] not in ("-", " ", ".")
        ):
            continue
        beside = {separators[n] for n in (at - 1, at + 2) if 0 <= n < len(separators)}
        window = piece.part(at, at + 3)
        if separators[at] in beside and separators[at] != " ":
            continue
        if separators[at] != "-" and topic_before(piece.text, window.start) not in ("ssn", "national", None):
            continue
        if assigned_ssn(window.digits()):
            found.append(Span("us_ssn", window.start, window.end, "area_group_serial", 0.92))
            taken.append((at, at + 3))
    return found, taken


def assigned_ssn(digits: str) -> bool:
    """Whether nine digits can be a social security number: no area 000, 666 or 900-999, no group 00, no serial 0000."""
    return digits[:3] not in ("000", "666") and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def _explained(piece: Piece) -> Iterator[Span]:
    """Numbers that a word, or their own check digits, explain; else phones."""
    digits, text = piece.digits(), piece.text
    if len(piece.groups) == 1 and not 5 <= len(digits) <= 18:
        return
    start, end = _whole_token(text, piece.start, piece.end)
    told = told_before(text, start)
    topic = told.topic
    if topic == "ssn" and len(digits) == 9:
        validator, confidence = ("area_group_serial", 0.9) if assigned_ssn(digits) else ("context", 0.7)
        yield Span("us_ssn", piece.start, piece.end, validator, confidence)
        return
    scheme = scheme_of(digits, piece.sizes, "".join(piece.separators), told=topic == "national")
    phone = topic == "phone" or text[start - 1 : start] == "+" or phone_after(text, end)
    if scheme is not None and not phone and topic not in ("card", "other"):
        yield Span("national_id", piece.start, piece.end, scheme, 0.9)
        return
    if topic in _CONTEXT_KINDS and told.direct and {*piece.separators} <= {" ", "-"}:
        kind, low, high = _CONTEXT_KINDS[topic]
        if low <= len(digits) <= high and not unit_after(text, end) and not in_sum(text, start, end):
            yield Span(kind, start, end, "context", 0.65)
            return
    yield from phones(text, piece.groups, told)


def _whole_token(text: str, start: int, end: int) -> tuple[int, int]:
    """The digits with the letters written to them: licences and passports often begin with some."""
    low, high = start - 8, end + 8
    while start > max(0, low) and (text[start - 1].isalnum()):
        start -= 1
    while end < min(len(text), high) and text[end].isalnum():
        end += 1
    return start, end
