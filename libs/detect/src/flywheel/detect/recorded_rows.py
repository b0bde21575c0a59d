"""Rows of a CSV file as observations of series: columns named or found, what cannot be read is named and skipped."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite, isnan
from typing import Final

TIME_NAMES: Final = ("timestamp", "time", "datetime", "date", "ts", "at", "occurred_at", "t")
VALUE_NAMES: Final = ("value", "values", "metric", "y", "v", "count", "x")
MISSING: Final = frozenset({"", "na", "nan", "null", "none", "-"})
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DIGITS_OF: Final = ((1e17, 1e-3), (1e14, 1.0), (1e11, 1e3), (0.0, 1e6))
"""From which number on it is nano-, micro-, milliseconds (else seconds) since the epoch; microseconds in each."""
MOST_CHARACTERS: Final = 100_000


class RowInvalid(ValueError):
    """A line that cannot be read; ``field`` is the column, or empty where it is the whole line."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


class ColumnsInvalid(ValueError):
    """A file in whose header a column is not to be found."""


@dataclass(frozen=True, slots=True)
class Row:
    """An observation: its line (the header is 1), time as written and in microseconds since the epoch, its value
    (None: the file says that there is none), and the values of the dimensions."""

    line: int
    timestamp: str
    at_us: int
    value: float | None
    dimensions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns are read, by place; and what parts them."""

    names: tuple[str, ...]
    time: int
    value: int
    dimensions: tuple[int, ...]
    delimiter: str


def columns_of(header: str, *, time: str | None, value: str | None, by: Sequence[str]) -> Columns:
    """The columns of a header line: those named, else those with a usual name, else the first two.

    Raises ``ColumnsInvalid``.
    """
    delimiter = max(",;\t", key=lambda mark: (header.count(mark), mark == ","))
    try:
        names = tuple(name.strip() for name in next(csv.reader([header.strip("\ufeff\r\n")], delimiter=delimiter)))
    except (csv.Error, StopIteration) as error:
        raise ColumnsInvalid("line 1: there is no header that names the columns") from error
    at = _place(names, time, TIME_NAMES, taken=())
    dimensions = tuple(_place(names, name, (), taken=()) for name in by)
    return Columns(names, at, _place(names, value, VALUE_NAMES, taken=(at, *dimensions)), dimensions, delimiter)


def _place(names: Sequence[str], wanted: str | None, usual: Sequence[str], *, taken: Sequence[int]) -> int:
    if wanted is not None:
        if wanted not in names:
            raise ColumnsInvalid(f"line 1: no column {wanted}; there are {', '.join(names)[:300]}")
        return names.index(wanted)
    lower = [name.lower() for name in names]
    for name in usual:
        if name in lower and lower.index(name) not in taken:
            return lower.index(name)
    for place in range(len(names)):
        if place not in taken:
            return place
    raise ColumnsInvalid("line 1: a time and a value column are needed")


def rows_of(lines: Iterable[bytes], columns: Columns) -> Iterator[tuple[int, Row | RowInvalid]]:
    """Rows with their line numbers, from the line after the header on; blank lines are passed over."""
    for number, raw in enumerate(lines, start=2):
        if not raw.strip():
            continue
        try:
            yield number, _row(number, raw, columns)
        except RowInvalid as error:
            yield number, error


def _row(number: int, raw: bytes, columns: Columns) -> Row:
    if len(raw) > MOST_CHARACTERS:
        raise RowInvalid("", f"longer than {MOST_CHARACTERS} bytes")
    try:
        text = raw.decode().rstrip("\r\n")
        cells = (
            next(csv.reader([text], delimiter=columns.delimiter, strict=True))
            if '"' in text
            else text.split(columns.delimiter)
        )
    except UnicodeDecodeError as error:
        raise RowInvalid("", "not UTF-8") from error
    except (csv.Error, StopIteration) as error:
        raise RowInvalid("", f"not CSV: {error}") from error
    if len(cells) <= max(columns.time, columns.value, *columns.dimensions):
        raise RowInvalid("", f"{len(cells)} columns where the header has {len(columns.names)}")
    stamp = cells[columns.time].strip()
    at_us = _time_us(stamp, columns.names[columns.time])
    value = _value(cells[columns.value].strip(), columns.names[columns.value])
    return Row(number, stamp, at_us, value, tuple(cells[place].strip() for place in columns.dimensions))


def _time_us(text: str, field: str) -> int:
    """Microseconds since the epoch of an ISO 8601 time (UTC where it names no zone) or of a number since the epoch."""
    try:
        number = float(text)
    except ValueError:
        try:
            at = datetime.fromisoformat(text)
        except ValueError as error:
            raise RowInvalid(field, "not an ISO 8601 time, nor a number since the epoch") from error
        try:
            return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - EPOCH) // timedelta(microseconds=1)
        except OverflowError as error:
            raise RowInvalid(field, "outside the years 1 to 9999") from error
    if not isfinite(number) or abs(number) >= 1e20:
        raise RowInvalid(field, "not a time")
    return round(number * next(unit for least, unit in DIGITS_OF if abs(number) >= least))


def _value(text: str, field: str) -> float | None:
    if text.lower() in MISSING:
        return None
    try:
        value = float(text.replace("_", "?"))
    except ValueError as error:
        raise RowInvalid(field, "not a number") from error
    if isnan(value):
        return None
    if not isfinite(value):
        raise RowInvalid(field, "not a finite number")
    return value
