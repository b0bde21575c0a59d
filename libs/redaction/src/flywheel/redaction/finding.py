"""Everything that can be found in one text, in time linear in its length."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from flywheel.redaction.accounts import crypto_addresses, ibans
from flywheel.redaction.digits import numbers
from flywheel.redaction.kinds import Span, settle
from flywheel.redaction.national import lettered_ids
from flywheel.redaction.network import email_addresses, ipv6_addresses, mac_addresses, urls
from flywheel.redaction.secrets import secrets

_ZEROS: Final = "٠۰߀०০੦૦୦௦౦೦൦๐໐༠０"
_SPACES: Final = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u3000"
_ASCII: Final = (
    {ord(zero) + n: str(n) for zero in _ZEROS for n in range(10)}
    | dict.fromkeys(map(ord, "‐‑‒–—−﹣－"), "-")
    | dict.fromkeys(map(ord, _SPACES), " ")
    | {ord(wide): plain for wide, plain in zip("＠．＋（）：／", "@.+():/", strict=True)}
)
"""Digits of other scripts, and the forms of punctuation that keyboards and typesetters make, to ASCII."""
_OTHER: Final = re.compile(f"[{''.join(map(chr, _ASCII))}]")
_DIGIT: Final = re.compile(r"[0-9]")


def find(text: str) -> tuple[Span, ...]:
    """What is in ``text``, by start, without overlaps."""
    return settle(candidates(text))


def candidates(text: str) -> Iterator[Span]:
    """Every find, overlapping ones too: what a caller keeps must not hide what it takes out."""
    if not text.isascii() and _OTHER.search(text):
        text = text.translate(_ASCII)  # one character for one: offsets stay
    if "@" in text:
        yield from email_addresses(text)
    if "." in text or "://" in text:
        yield from urls(text)
    yield from secrets(text)
    if ":" in text:
        yield from ipv6_addresses(text)
    if _DIGIT.search(text) is None:
        return
    yield from numbers(text)
    yield from lettered_ids(text)
    yield from ibans(text)
    if len(text) >= 17:
        yield from mac_addresses(text)
    if len(text) >= 26:
        yield from crypto_addresses(text)
