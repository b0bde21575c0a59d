"""What can be found, and how finds that overlap are settled."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

Kind = Literal[
    "credit_card",
    "iban_code",
    "email_address",
    "phone_number",
    "ip_address",
    "mac_address",
    "us_ssn",
    "national_id",
    "driver_license",
    "passport",
    "bank_account",
    "crypto_address",
    "secret",
    "url",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
"""Every kind; where Presidio finds the same thing the name is Presidio's in lower case."""


@dataclass(frozen=True, slots=True)
class Span:
    """A find: ``text[start:end]`` is a ``kind``.

    ``validator`` names what vouches for it (``luhn``, ``mod97``, ``context``, a scheme such as ``es_dni``);
    ``confidence`` (0 to 1) orders overlapping finds and is not a probability.
    """

    kind: Kind
    start: int
    end: int
    validator: str
    confidence: float


def settle(found: Iterable[Span]) -> tuple[Span, ...]:
    """Finds without overlaps, by start.

    The surer find wins, then the longer, then the first; what a loser has beyond the winners it overlaps is added to
    the surest of them, so that no part of anything found is left standing. The order of ``found`` does not matter.
    """
    starts: list[int] = []
    kept: list[Span] = []
    ranked = sorted(found, key=lambda s: (-s.confidence, s.start - s.end, s.start, s.kind, s.validator))
    for span in ranked:
        first = bisect_right(starts, span.start)
        if first and kept[first - 1].end > span.start:
            first -= 1
        last = first
        while last < len(kept) and kept[last].start < span.end:
            last += 1
        over = kept[first:last]
        if not over:
            starts.insert(first, span.start)
            kept.insert(first, span)
            continue
        low, high = min(span.start, over[0].start), max(span.end, over[-1].end)
        if (low, high) == (over[0].start, over[0].end):
            continue
        best = max(over, key=lambda s: (s.confidence, -s.start))
        starts[first:last] = [low]
        kept[first:last] = [replace(best, start=low, end=high)]
    return tuple(kept)
