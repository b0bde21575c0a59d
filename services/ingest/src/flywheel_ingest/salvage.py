"""A body that is not valid JSON as a whole, taken apart so that one bad value costs one item and is named.

``NaN``, bad UTF-8, a lone surrogate or a thousand brackets make any parser refuse the whole text. Brackets, strings and
commas still tell where the items and their fields are, so each is parsed by itself. Iterative: depth costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import orjson

from flywheel_ingest.batch import SHAPE, BodyInvalid, TooManyItems
from flywheel_ingest.core import Unreadable
from flywheel_ingest.items import MAX_ERRORS, MAX_KEY, FieldError

MAX_TOKENS: Final = 400_000
"""Looking at a token costs about half a microsecond; a body with more is refused as a whole."""

# Possessive, so that a text of megabytes leaves nothing behind to come back to.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["{}\[\],:]', re.DOTALL)
_OPEN: Final = frozenset(b"{[")
_CLOSE: Final = {ord("}"): ord("{"), ord("]"): ord("[")}
_COMMA: Final = ord(",")
_COLON: Final = ord(":")
_QUOTE: Final = ord('"')
_BLANK: Final = b" \t\r\n"


def salvage(body: bytes, *, max_items: int) -> list[object]:
    """The items of a body: each parsed, or ``Unreadable`` with the field that could not be.

    Raises:
        BodyInvalid: the body is not ``{"items": [...]}`` or ``[...]``, or its brackets and strings do not match up.
        TooManyItems: it has more than ``max_items``.
    """
    body = body.strip(_BLANK)
    check_brackets(body)
    if body[:1] == b"{":
        body = _items_member(body)
    if body[:1] != b"[":
        raise BodyInvalid("items", "is an array of items")
    parts = list(split(body))
    if len(parts) > max_items:
        raise TooManyItems(len(parts), max_items)
    return [_item(part) for part in parts]


def _items_member(body: bytes) -> bytes:
    found: bytes | None = None
    for key, value in members(body):
        if key != "items":
            raise BodyInvalid(key[:MAX_KEY], f"no such field; {SHAPE}")
        found = value
    if found is None:
        raise BodyInvalid("items", "is required")
    return found


def _item(part: bytes) -> object:
    try:
        return orjson.loads(part)
    except orjson.JSONDecodeError as whole:
        if part[:1] != b"{" or part[-1:] != b"}":
            return Unreadable((FieldError("", reason(part, whole)),))
        errors = []
        for key, value in members(part):
            try:
                orjson.loads(value)
            except orjson.JSONDecodeError as error:
                errors.append(FieldError(key[:MAX_KEY], reason(value, error)))
                if len(errors) == MAX_ERRORS:
                    break
        return Unreadable(tuple(errors) or (FieldError("", reason(part, whole)),))


def members(text: bytes) -> Iterator[tuple[str, bytes]]:
    """Key and value of each member of an object; a member that is none is an empty key with the text as value."""
    for part in split(text):
        key_match = _TOKEN.match(part)
        rest = part[key_match.end() :].lstrip(_BLANK) if key_match else b""
        if key_match is None or part[0] != _QUOTE or rest[:1] != b":":
            yield "", part
            continue
        try:
            key = str(orjson.loads(key_match.group()))
        except orjson.JSONDecodeError:
            yield key_match.group()[1:-1].decode("utf-8", "replace"), b""
            continue
        yield key, rest[1:].strip(_BLANK)


def split(text: bytes) -> Iterator[bytes]:
    """The parts of an array or object between its commas, without the blanks around them."""
    depth, start = 0, 1
    for token in _TOKEN.finditer(text):
        first = text[token.start()]
        if first in _OPEN:
            depth += 1
        elif first in _CLOSE:
            depth -= 1
        elif first == _COMMA and depth == 1:
            yield text[start : token.start()].strip(_BLANK)
            start = token.end()
    last = text[start:-1].strip(_BLANK)
    if last or start > 1:
        yield last


def check_brackets(body: bytes) -> None:
    """One bracketed value whose brackets and quotes match up, and nothing after it."""
    open_brackets = bytearray()
    end = -1
    for count, token in enumerate(_TOKEN.finditer(body)):
        at = token.start()
        first = body[at]
        if count >= MAX_TOKENS:
            raise BodyInvalid("body", "is not valid JSON, and too large to look for the bad part; post smaller batches")
        if end >= 0:
            raise BodyInvalid("body", f"is not valid JSON: more text at byte {at}")
        if first == _QUOTE and token.end() - at == 1:
            raise BodyInvalid("body", f"is not valid JSON: the string at byte {at} does not end")
        if first in _OPEN:
            open_brackets.append(first)
        elif first in _CLOSE:
            if not open_brackets or open_brackets.pop() != _CLOSE[first]:
                raise BodyInvalid("body", f"is not valid JSON: the bracket at byte {at} closes nothing")
            if not open_brackets:
                end = token.end()
    if open_brackets:
        raise BodyInvalid("body", f"is not valid JSON: {len(open_brackets)} brackets are not closed; cut short?")
    if end != len(body) or not body or body[0] not in _OPEN:
        raise BodyInvalid("body", f"is not valid JSON; {SHAPE}")


def reason(text: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as bad:
        return f"is not UTF-8: {bad.reason}"
    if text in (b"NaN", b"Infinity", b"-Infinity"):
        return f"{text.decode()} is no JSON number; leave out what is unknown"
    if "recursion" in error.msg.lower() or "depth" in error.msg.lower():
        return "is nested too deeply"
    if "surrogate" in error.msg.lower():
        return "holds half of a surrogate pair, which is no character"
    return f"is not valid JSON: {error.msg}"[:200]
