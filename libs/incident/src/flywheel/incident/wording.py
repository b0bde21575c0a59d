"""Times, durations and figures as people read them; texts of others without what would steer a screen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from flywheel.incident.effects import Measure

MOST_CHARACTERS: Final = 1_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def visible(text: str, most: int = MOST_CHARACTERS) -> str:
    """A text of somebody else in one line: control characters, marks of direction and the like as dots, cut."""
    shown = "".join(c if c.isprintable() else "·" for c in " ".join(text[: 2 * most].split()))
    return shown if len(shown) <= most and len(text) <= 2 * most else shown[: most - 1] + "…"


def moment(at_us: int | None) -> str | None:
    """A time as RFC 3339, UTC, to the microsecond; None stays None."""
    if at_us is None:
        return None
    return (_EPOCH + timedelta(microseconds=at_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def clock(at_us: int | None) -> str:
    """A time as people read it, UTC, to the second; a dash for None."""
    return "–" if at_us is None else (_EPOCH + timedelta(microseconds=at_us)).strftime("%Y-%m-%d %H:%M:%S")


def lasting(seconds: float | None) -> str:
    """A duration in its two largest units, e.g. ``4 min 55 s``; a dash for None."""
    if seconds is None:
        return "–"
    sign, whole = ("-" if seconds < 0 else ""), abs(seconds)
    if whole < 10:
        return f"{sign}{whole:.1f} s".replace(".0 s", " s")
    rest = round(whole)
    parts = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count} {unit}")
    return sign + " ".join(parts[:2])


def figure(measure: Measure, value: float | None) -> str:
    """A measure's value with its unit; a dash for None."""
    if value is None:
        return "–"
    if measure.unit == "%":
        return f"{value:.2f} %"
    if measure.name == "calls":
        return f"{value:,.0f}"
    return f"{value:,.0f} {measure.unit}" if measure.unit == "ms" else f"{value:.4g} {measure.unit}".strip()
