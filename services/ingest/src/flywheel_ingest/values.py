"""Values that need more than a schema: points in time and money."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)

EARLIEST_US: Final = 946_684_800_000_000
"""2000-01-01T00:00:00Z: no call of a language model is older, so an earlier time is a mistake of unit."""

MOST_USD: Final = Decimal(1_000_000)
_PICODOLLAR: Final = Decimal("1e-12")
_ZERO: Final = Decimal("0e-12")
MOST_SECONDS: Final = Decimal(100_000_000)
_BILLIONTH: Final = Decimal("1e-9")
LONGEST_TEAM: Final = 128
_LONGEST_NUMBER: Final = 64
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)


class ValueInvalid(ValueError):
    """A value that cannot be taken; the message says why, without the value."""


def microseconds(value: object) -> int:
    """A point in time on the wire, to microseconds since the epoch (UTC).

    Takes an RFC 3339 string with an offset (digits beyond microseconds are cut off) or integer microseconds.

    Raises:
        ValueInvalid: neither of the two.
    """
    if type(value) is int:
        return value
    if not isinstance(value, str):
        raise ValueInvalid("is an RFC 3339 string or integer microseconds since the epoch")
    if _RFC3339.fullmatch(value) is None:
        raise ValueInvalid("is not RFC 3339 with an offset, e.g. 2026-11-21T04:10:00.123Z")
    try:
        return (datetime.fromisoformat(value.upper()) - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        raise ValueInvalid("is no date and time that exists") from None


def check_time(at_us: int, *, now_us: int, max_future_us: int) -> None:
    """Refuse a time before 2000 or too far ahead of our clock.

    Raises:
        ValueInvalid: with the unit that was probably meant.
    """
    if at_us < EARLIEST_US:
        for unit, factor in (("milliseconds", 1_000), ("seconds", 1_000_000)):
            if EARLIEST_US <= at_us * factor <= now_us + max_future_us:
                raise ValueInvalid(f"is before 2000-01-01; it looks like {unit}, send microseconds")
        raise ValueInvalid("is before 2000-01-01")
    if at_us > now_us + max_future_us:
        if EARLIEST_US <= at_us // 1_000 <= now_us + max_future_us:
            raise ValueInvalid("is in the future; it looks like nanoseconds, send microseconds")
        raise ValueInvalid(f"is more than {max_future_us // 1_000_000} s in the future")


def usd(value: object) -> Decimal:
    """Money on the wire (a decimal string or a JSON number), to dollars rounded to the picodollar (half to even).

    Raises:
        ValueInvalid: not a finite number, negative or above a million dollars.
    """
    amount = _decimal(value)
    if amount > MOST_USD:
        raise ValueInvalid(f"is above {MOST_USD} US dollars")
    return amount.quantize(_PICODOLLAR) if amount else _ZERO


def seconds(value: object) -> Decimal:
    """A duration on the wire, to seconds rounded to the nanosecond (half to even).

    Raises:
        ValueInvalid: not a finite number, negative or above three years.
    """
    amount = _decimal(value)
    if amount > MOST_SECONDS:
        raise ValueInvalid(f"is above {MOST_SECONDS} seconds")
    return amount.quantize(_BILLIONTH) if amount else _BILLIONTH * 0


def fractions(value: object) -> dict[str, str]:
    """Who pays which part: names to decimal texts in their shortest form, which add up to exactly 1;
    nobody at all is nobody.

    Raises:
        ValueInvalid: no object, a part that is no number above 0 of at most nine decimals, or another sum.
    """
    if not isinstance(value, Mapping):
        raise ValueInvalid("is an object of team and fraction")
    parts: dict[str, Decimal] = {}
    for name, part in value.items():
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_TEAM:
            raise ValueInvalid(f"names a team in 1 to {LONGEST_TEAM} characters")
        amount = _decimal(part)
        if amount.is_zero() or amount > 1 or amount != amount.quantize(_BILLIONTH):
            raise ValueInvalid("has fractions above 0, at most 1, with at most nine decimals")
        parts[name] = amount.normalize()
    if parts and sum(parts.values()) != 1:
        raise ValueInvalid("has fractions that do not add up to 1")
    return {name: f"{part:f}" for name, part in parts.items()}


def _decimal(value: object) -> Decimal:
    """A number that is not below zero, from a decimal string or a JSON number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueInvalid("is a decimal string or a number")
    # A float's shortest repr is what the sender wrote; Decimal(float) would carry its binary tail.
    text = value if isinstance(value, str) else repr(value)
    if len(text) > _LONGEST_NUMBER:
        raise ValueInvalid("has too many digits")
    if _NUMBER.fullmatch(text) is None:
        raise ValueInvalid("is not a decimal number")
    amount = Decimal(text)
    if amount < 0:
        raise ValueInvalid("is negative")
    return amount
