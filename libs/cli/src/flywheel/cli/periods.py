"""From when until when: what ``--from`` and ``--to`` say, to microseconds since the epoch."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FOREVER_US: Final = 4_102_444_800_000_000
"""The year 2100: later than anything that was recorded."""


def instant(text: str) -> int:
    """A date (its beginning, UTC) or a time as RFC 3339, in microseconds; without an offset it is UTC."""
    try:
        at = datetime.fromisoformat(text)
        at_us = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{text!r} is neither a date nor a time, e.g. 2026-11-01T08:00:00Z") from None
    if at_us < 0:
        raise click.BadParameter(f"{text!r} is before 1970")
    return at_us


def period_options(command: F) -> F:
    """Adds ``--from`` and ``--to``, passed on as ``start_us`` and ``stop_us``."""
    until = click.option("--to", "stop_us", type=instant, required=True, help="Until then, exclusive.")
    since = click.option("--from", "start_us", type=instant, required=True, help="From then on (UTC).")
    return since(until(command))


def check_period(start_us: int, stop_us: int) -> None:
    """Refuse a period that ends before it begins."""
    if stop_us <= start_us:
        raise click.UsageError("--to must be later than --from")


def within(start_us: int, stop_us: int, *, of: str = "") -> str:
    """The SQL condition on ``occurred_at``; ``of`` is the table's alias with its dot."""
    return (
        f"{of}occurred_at >= fromUnixTimestamp64Micro({start_us}, 'UTC')"
        f" AND {of}occurred_at < fromUnixTimestamp64Micro({stop_us}, 'UTC')"
    )
