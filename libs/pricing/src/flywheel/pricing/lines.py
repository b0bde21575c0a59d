"""Calls in a person's own JSONL file: each line read, priced, and summed up. Pure: lines come as bytes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, cast

from flywheel.pricing.book import PriceBook
from flywheel.pricing.buckets import BUCKETS, Convention
from flywheel.pricing.calls import PricedCall, price_call
from flywheel.pricing.conventions import EMITTERS
from flywheel.pricing.tables import Context

MOST_LINE_BYTES: Final = 1_048_576
_LONGEST_NAME: Final = 256
_MOST_POOL_SECONDS: Final = Decimal(10**9)
_CONVENTIONS: Final = ("INCLUSIVE", "EXCLUSIVE", "UNKNOWN")
_CONTEXT_FIELDS: Final = ("service_tier", "processing")
_EARLIEST_US: Final = 946_684_800_000_000
_LATEST_US: Final = 4_102_444_800_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)?)?", re.ASCII)


class LineInvalid(ValueError):
    """A line that is no call; ``field`` is empty where it is about the whole line."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file, by number from 1: priced, or why it could not be read."""

    number: int
    provider: str | None = None
    model: str | None = None
    priced: PricedCall | None = None
    error: LineInvalid | None = None


def price_lines(lines: Iterable[bytes], prices: PriceBook) -> Iterator[Line]:
    """Price each line that is not blank.

    A line is an object with ``provider`` and ``model`` (text), ``time`` (RFC 3339, without an offset UTC, or integer
    microseconds since the epoch) and ``usage`` (the raw object); it may have ``convention`` (a key of ``EMITTERS``, or
    INCLUSIVE or EXCLUSIVE), ``pool_seconds`` (for local models), ``service_tier`` and ``processing``. Other keys are
    the person's own and are left alone.
    """
    for number, raw in enumerate(lines, start=1):
        if not raw.strip():
            continue
        try:
            yield _priced(number, raw, prices)
        except LineInvalid as error:
            yield Line(number, error=error)


def _priced(number: int, raw: bytes, prices: PriceBook) -> Line:
    found = read_object(raw)
    provider, model = _name(found, "provider"), _name(found, "model")
    at_us = read_time_us(found.get("time"))
    usage = found.get("usage")
    pool_seconds = _pool_seconds(found.get("pool_seconds"))
    if usage is None and pool_seconds is None:
        raise LineInvalid("usage", "is missing")
    if usage is not None and not isinstance(usage, dict):
        raise LineInvalid("usage", "is not an object")
    emitter, convention = _convention(found.get("convention"))
    priced = price_call(
        usage,
        prices,
        provider=provider,
        models=(model,),
        at_us=at_us,
        emitter=emitter,
        convention=convention,
        context=_context(found),
        pool_seconds=pool_seconds,
    )
    return Line(number, provider, model, priced)


def read_object(raw: bytes) -> dict[str, Any]:
    """The JSON object of a line, decimals exact. Raises ``LineInvalid``."""
    if len(raw) > MOST_LINE_BYTES:
        raise LineInvalid("", f"is longer than {MOST_LINE_BYTES} bytes")
    try:
        found = json.loads(raw.decode("utf-8"), parse_float=Decimal, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise LineInvalid("", f"not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise LineInvalid("", "not JSON: nested too deeply") from None
    except json.JSONDecodeError as error:
        raise LineInvalid("", f"not JSON: {error.msg} at character {error.pos + 1}") from None
    except ValueError as error:
        raise LineInvalid("", f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise LineInvalid("", "is not an object")
    return cast(dict[str, Any], found)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _name(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    if value is None:
        raise LineInvalid(key, "is missing")
    return _text(key, value)


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST_NAME:
        raise LineInvalid(key, f"is not text of 1 to {_LONGEST_NAME} characters")
    if not value.isprintable():
        raise LineInvalid(key, "has characters that cannot be printed")
    return value


def read_time_us(value: object) -> int:
    """Microseconds since the epoch of a line's ``time``. Raises ``LineInvalid``."""
    if value is None:
        raise LineInvalid("time", "is missing")
    if type(value) is int:
        if _EARLIEST_US <= value <= _LATEST_US:
            return value
        for unit, factor in (("seconds", 1_000_000), ("milliseconds", 1_000)):
            if _EARLIEST_US <= value * factor <= _LATEST_US:
                raise LineInvalid("time", f"looks like {unit}; send microseconds since the epoch")
        raise LineInvalid("time", "is not within 2000 and 2100, taken as microseconds since the epoch")
    if not isinstance(value, str) or _RFC3339.fullmatch(value) is None:
        raise LineInvalid("time", "is neither RFC 3339, e.g. 2026-11-21T04:10:00Z, nor integer microseconds")
    try:
        at = datetime.fromisoformat(value.upper())
        at_us = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise LineInvalid("time", "is no date and time that exists") from None
    if not _EARLIEST_US <= at_us <= _LATEST_US:
        raise LineInvalid("time", "is not within 2000 and 2100")
    return at_us


def _convention(value: object) -> tuple[str | None, Convention | None]:
    if value is None:
        return None, None
    if isinstance(value, str):
        if value in EMITTERS:
            return value, None
        if value.upper() in _CONVENTIONS:
            return None, cast(Convention, value.upper())
    raise LineInvalid("convention", f"is none of {', '.join(sorted(EMITTERS))}, INCLUSIVE, EXCLUSIVE and UNKNOWN")


def _pool_seconds(value: object) -> Decimal | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 <= value <= _MOST_POOL_SECONDS:
        raise LineInvalid("pool_seconds", f"is not a number from 0 to {_MOST_POOL_SECONDS}")
    return Decimal(value)


def _context(found: Mapping[str, Any]) -> Context:
    told = ((key, found.get(key)) for key in _CONTEXT_FIELDS)
    return tuple((key, _text(key, value)) for key, value in told if value is not None)


def line_as_json(line: Line) -> dict[str, Any]:
    """A line as plain values; money as decimal text, an unknown as null."""
    if line.error is not None:
        return {"line": line.number, "error": {"field": line.error.field, "message": line.error.message}}
    assert line.priced is not None
    priced, usage = line.priced, line.priced.usage
    rates = priced.rates
    return {
        "line": line.number,
        "provider": line.provider,
        "model": line.model,
        "cost_usd": money(priced.cost_usd),
        "cost_source": priced.cost_source,
        "computed_usd": money(priced.computed_usd),
        "price_source": priced.price_source,
        "price_version": priced.price_version,
        "priced_as": rates and rates.model,
        "rates_usd": rates and {name: money(rate) for name, rate in rates.named().items()},
        "per_request_usd": rates and money(rates.per_request_usd),
        "per_pool_second_usd": rates and money(rates.per_pool_second_usd),
        "long_context_above": rates and rates.above_tokens,
        "buckets": dict(zip(BUCKETS, usage.buckets, strict=True)),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "emitter": usage.emitter,
        "convention": usage.convention,
        "flags": list(priced.flags),
        "unknown_keys": list(usage.unknown_keys),
    }


def money(amount: Decimal | None) -> str | None:
    """An amount as decimal text without an exponent or idle zeros."""
    if amount is None:
        return None
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(slots=True)
class Sums:
    """Calls and money of some lines."""

    calls: int = 0
    unpriced: int = 0
    priced_usd: Decimal = Decimal(0)
    tokens: int = 0
    unpriced_tokens: int = 0

    def add(self, priced: PricedCall) -> None:
        """Count one call."""
        tokens = (priced.usage.input_tokens or 0) + (priced.usage.output_tokens or 0)
        self.calls += 1
        self.tokens += tokens
        if priced.cost_usd is None:
            self.unpriced += 1
            self.unpriced_tokens += tokens
        else:
            self.priced_usd += priced.cost_usd

    @property
    def cost_usd(self) -> Decimal | None:
        """USD of the calls that have a price; None where none of them has."""
        return None if self.calls and self.unpriced == self.calls else self.priced_usd

    @property
    def unpriced_share(self) -> float | None:
        """Of the calls, those without a price; None where there is no call."""
        return self.unpriced / self.calls if self.calls else None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "calls": self.calls,
            "unpriced": self.unpriced,
            "unpriced_share": self.unpriced_share,
            "cost_usd": money(self.cost_usd),
            "tokens": self.tokens,
            "unpriced_tokens": self.unpriced_tokens,
        }


@dataclass(slots=True)
class Summary:
    """What a file came to: all, by provider and model, and how often each flag was raised."""

    whole: Sums = field(default_factory=Sums)
    by_model: dict[tuple[str, str], Sums] = field(default_factory=dict)
    flags: Counter[str] = field(default_factory=Counter)
    bad_lines: int = 0

    def add(self, line: Line) -> None:
        """Count one line."""
        if line.priced is None:
            self.bad_lines += 1
            return
        self.whole.add(line.priced)
        self.by_model.setdefault((line.provider or "", line.model or ""), Sums()).add(line.priced)
        self.flags.update(line.priced.flags)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **self.whole.as_json(),
            "bad_lines": self.bad_lines,
            "by_model": [
                {"provider": provider, "model": model, **sums.as_json()}
                for (provider, model), sums in sorted(self.by_model.items())
            ],
            "flags": dict(sorted(self.flags.items())),
        }
