"""Phone numbers by how they are written and by the words around them.

Numbering plans are not consulted: a number with a slip of the pen, or of a plan that has changed since, is somebody's
phone all the same. A calling code must be one that ITU-T E.164 assigns; a number has up to 15 digits, as it allows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from flywheel.redaction.kinds import Span
from flywheel.redaction.words import Telling, Topic, in_sum, phone_after, split_words, unit_after

Group = tuple[int, int]

_EXTENSION: Final = re.compile(
    r"[ \t]?,?[ \t]?(?:[xX]|[eE][xX][tT]\.?|[eE]xtension|#|[dD]w\.?|Durchwahl)[ \t]?\d{1,7}(?![\w])"
)
_CALLING_CODES: Final = split_words(
    """
    1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82
    84 86 90 91 92 93 94 95 98 211 212 213 216 218 220 221 222 223 224 225 226 227 228 229 230 231 232 233 234
    235 236 237 238 239 240 241 242 243 244 245 246 247 248 249 250 251 252 253 254 255 256 257 258 259 260 261
    262 263 264 265 266 267 268 269 290 291 297 298 299 350 351 352 353 354 355 356 357 358 359 370 371 372 373
    374 375 376 377 378 379 380 381 382 383 385 386 387 389 420 421 423 500 501 502 503 504 505 506 507 508 509
    590 591 592 593 594 595 596 597 598 599 670 672 673 674 675 676 677 678 679 680 681 682 683 685 686 687 688
    689 690 691 692 800 808 850 852 853 855 856 870 878 880 881 882 883 886 888 960 961 962 963 964 965 966 967
    968 970 971 972 973 974 975 976 977 979 992 993 994 995 996 998
    """
)
_MONEY: Final = "$€£¥₹"


def phones(text: str, groups: Sequence[Group], told: Telling) -> Iterator[Span]:
    """The phones among neighbouring groups of digits; ``told`` is what the words before the first are about."""
    at, topic = 0, told.topic
    labelled = topic == "phone" and told.direct and "\n" not in text[max(0, groups[0][0] - 4) : groups[0][0]]
    least = 6 if labelled else 7
    while at < len(groups):
        end = _north_american(text, groups, at)
        if end is None:
            end = _as_written(text, groups, at, told=topic == "phone")
        span = _phone(text, groups[at:end], topic, least=least)
        if span is not None:
            yield span
        at = end


def _north_american(text: str, groups: Sequence[Group], at: int) -> int | None:
    """The end of a 3-3-4 number with or without country code that begins at group ``at``."""
    sizes = [b - a for a, b in groups[at : at + 5]]
    lead = int(text[slice(*groups[at])] in ("1", "001") or (text[slice(*groups[at])] == "00" and sizes[1:2] == [1]) * 2)
    if sizes[lead : lead + 3] != [3, 3, 4]:
        return None
    end = at + lead + 3
    if end < len(groups) and _between(text, groups, end - 1) in ("-", "."):
        return None
    return end


def _as_written(text: str, groups: Sequence[Group], at: int, *, told: bool) -> int:
    """The end of the number that begins at group ``at``: a slash, or a blank before another number, ends it."""
    end, digits = at + 1, groups[at][1] - groups[at][0]
    while end < len(groups):
        size = groups[end][1] - groups[end][0]
        if "/" in _between(text, groups, end - 1) and not _area_slash(text, groups, end, digits=digits, told=told):
            break
        if digits + size > 15 or (digits >= 7 and _begins_number(text, groups, end)):
            break
        digits += size
        end += 1
    return end


def _area_slash(text: str, groups: Sequence[Group], at: int, *, digits: int, told: bool) -> bool:
    """Whether the slash before group ``at`` is behind an area code: ``030/1234567``, where told ``30/166 1318`` too."""
    start, end = groups[at - 1]
    trunk = text[start] == "0" or text[start - 1 : start] == "("
    return digits <= 5 and end - start <= 4 and groups[at][1] - groups[at][0] >= 3 and (told or trunk)


def _begins_number(text: str, groups: Sequence[Group], at: int) -> bool:
    """Whether the blank before group ``at`` parts two numbers: what follows is one by itself, or a lone digit."""
    start, end = groups[at]
    if "+" in text[max(0, start - 2) : start]:
        return True
    if _between(text, groups, at - 1) != " " or at < 2 or _between(text, groups, at - 2) not in ("-", "."):
        return False
    digits, after = end - start, at + 1
    while after < len(groups) and digits < 7 and _between(text, groups, after - 1) != " ":
        digits += groups[after][1] - groups[after][0]
        after += 1
    return digits == 1 or digits >= 7


def _between(text: str, groups: Sequence[Group], before: int) -> str:
    return text[groups[before][1] : groups[before + 1][0]]


def _phone(text: str, groups: Sequence[Group], topic: Topic | None, *, least: int) -> Span | None:
    start, end = groups[0][0], groups[-1][1]
    digits = "".join(text[a:b] for a, b in groups)
    if not least <= len(digits) <= 17 or _glued(text, start, end):
        return None
    extension = _EXTENSION.match(text, end)
    opening = _opening(text, start, end)
    plus = "+" in text[opening:start] and not text[opening - 1 : opening].isalnum()
    if in_sum(text, opening, end):
        return None
    confidence = _confidence(text, groups, digits, plus=plus, opened=_area_code(text, groups), extended=bool(extension))
    if confidence is None or (topic == "other" and confidence < 0.85):
        weak = len(digits) <= 15 and not plus and (topic == "phone" or (topic is None and phone_after(text, end)))
        if not weak and not (len(digits) <= 15 and phone_after(text, end) and len(groups) > 1):
            return None
        if text[max(0, opening - 2) : opening].strip(" ")[-1:] in tuple(_MONEY) or unit_after(text, end):
            return None
        if text[end : end + 1] in ("-", ".") and text[end + 1 : end + 2].isdigit():  # cut out of something longer
            return None
        fraction = len(groups) == 2 and _between(text, groups, 0) == "."
        if fraction and not (groups[1][1] - groups[1][0] == 4 and groups[0][1] - groups[0][0] in (3, 4)):
            return None
        return Span("phone_number", opening, extension.end() if extension else end, "context", 0.75)
    return Span("phone_number", opening, extension.end() if extension else end, "format", confidence)


def _glued(text: str, start: int, end: int) -> bool:
    """Inside a word, an identifier or a decimal: ``order_5550100123``, ``0.5550100123``."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if before in ("_", ".", "=", ":") and text[max(0, start - 2) : start - 1].isdigit():
        return True
    return before.isalnum() or before == "_" or after == "_" or (after.isalpha() and after not in "xXeE")


def _opening(text: str, start: int, end: int) -> int:
    """Where the number begins with its plus and bracket; a bracket that the number does not close is not its own."""
    at = start
    while at > 0 and start - at < 2 and text[at - 1] in "+(":
        at -= 1
    while text[at] == "(" and ")" not in text[start:end]:
        at += 1
    return at


def _area_code(text: str, groups: Sequence[Group]) -> bool:
    """Whether the first group, or the one after a lone country or trunk digit, is two to five digits in brackets."""
    first = 1 if len(groups) > 2 and text[slice(*groups[0])] in ("1", "7", "8") else 0
    start, end = groups[first]
    return text[start - 1 : start] == "(" and text[end : end + 1] == ")" and 2 <= end - start <= 5


def _confidence(
    text: str, groups: Sequence[Group], digits: str, *, plus: bool, opened: bool, extended: bool
) -> float | None:
    """How sure the writing alone makes it; ``None`` when it needs a word."""
    sizes = [b - a for a, b in groups]
    if plus:
        return 0.93 if 8 <= len(digits) <= 17 and _assigned(digits) else None
    if len(groups) > 1 and sizes[0] >= 2 and digits.startswith("00") and len(digits) >= 10:
        return 0.9 if _assigned(digits[2:]) else None
    north = sizes[-3:] == [3, 3, 4] and (len(sizes) == 3 or digits[0] == "1")
    if north and digits[-10] not in "01":
        return 0.9
    grouped = len(groups) > 1 and max(sizes) <= 8
    if opened and grouped and len(groups) <= 6 and sum(sizes[1:]) >= 5 and len(digits) <= 13:
        return 0.85
    if extended and grouped and text[groups[-1][1]] in "xXeE ":
        return 0.85
    written = 3 <= len(groups) <= 6 and max(sizes) <= 4 and min(sizes[1:]) >= 2
    trunk = digits[0] == "0" and 9 <= len(digits) <= 11 and digits[1] != "0"
    if trunk and (written or (len(groups) == 2 and 2 <= sizes[0] <= 5)):
        return 0.8
    return None


def _assigned(digits: str) -> bool:
    return any(digits[:length] in _CALLING_CODES for length in (1, 2, 3))
