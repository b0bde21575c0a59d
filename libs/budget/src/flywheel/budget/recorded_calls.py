"""Calls of a person's own JSONL file, with their cost and what they belong to. Pure: lines come as bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from flywheel.budget.declared import DIMENSIONS, MAX_VALUE
from flywheel.budget.money import to_pico
from flywheel.pricing import PriceBook
from flywheel.pricing.lines import Line, LineInvalid, price_lines, read_object, read_time_us

_MOST_USD: Final = Decimal(10**9)


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A call: when, what it cost (None: it has no price), and its dimensions."""

    at_us: int
    cost_pico: int | None
    dimensions: Mapping[str, str | None]


def recorded_calls(lines: Iterable[bytes], prices: PriceBook) -> Iterator[tuple[int, RecordedCall | LineInvalid]]:
    """Each line that is not blank, by number from 1: a call, or why it is none.

    A line has ``time`` and either ``cost_usd`` (a number or text; null is unknown) or what ``price_lines`` takes; and
    any of ``DIMENSIONS`` as text.
    """
    for number, raw in enumerate(lines, start=1):
        if not raw.strip():
            continue
        try:
            yield number, _call(raw, prices)
        except LineInvalid as error:
            yield number, error


def _call(raw: bytes, prices: PriceBook) -> RecordedCall:
    found = read_object(raw)
    dimensions = {name: _dimension(found, name) for name in DIMENSIONS}
    if "cost_usd" in found:
        return RecordedCall(read_time_us(found.get("time")), _cost(found["cost_usd"]), dimensions)
    (line,) = price_lines([raw], prices)
    return RecordedCall(read_time_us(found.get("time")), _priced(line), dimensions)


def _priced(line: Line) -> int | None:
    if line.error is not None:
        raise line.error
    assert line.priced is not None
    return None if line.priced.cost_usd is None else to_pico(line.priced.cost_usd)


def _cost(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise LineInvalid("cost_usd", "is no amount such as 0.0123")
    try:
        cost = Decimal(value)
    except InvalidOperation:
        raise LineInvalid("cost_usd", "is no amount such as 0.0123") from None
    if not (cost.is_finite() and 0 <= cost <= _MOST_USD):
        raise LineInvalid("cost_usd", f"is not from 0 to {_MOST_USD}")
    try:
        return to_pico(cost)
    except ValueError as error:
        raise LineInvalid("cost_usd", str(error)) from None


def _dimension(found: Mapping[str, Any], name: str) -> str | None:
    value = found.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_VALUE:
        raise LineInvalid(name, f"is not text of 1 to {MAX_VALUE} characters")
    return value
