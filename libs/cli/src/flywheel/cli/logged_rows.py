"""Logged decisions with their rewards: from a person's own JSONL file, or from ClickHouse."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from flywheel.cli.file_lines import MOST_LINE_BYTES
from flywheel.cli.periods import within
from flywheel.cli.questions import Rows
from flywheel.policy.charter_yaml import CharterInvalid, parse_charter
from flywheel.store import quoted

Value = str | int | float | bool

MOST_ARMS: Final = 64
_CLOSE: Final = 1e-6


class RowInvalid(ValueError):
    """A line that is no logged decision: names the field."""


@dataclass(frozen=True, slots=True)
class LoggedRow:
    """One decision and what it brought. ``arms`` and ``propensities`` are those that could be chosen, empty where only
    the chosen arm's propensity is known; ``target`` what another policy would have done, where the file says so;
    ``limited`` where a budget narrowed the choice, which it would do to any policy; ``features`` the context as a
    linear policy logged it, and ``encoding`` the digest of its declarations."""

    arm: str
    propensity: float
    reward: float
    arms: tuple[str, ...] = ()
    propensities: tuple[float, ...] = ()
    context: Mapping[str, Value] = field(default_factory=dict)
    target: Mapping[str, float] | None = None
    limited: bool = False
    at_us: int | None = None
    features: tuple[int, ...] = ()
    encoding: str | None = None


@dataclass(slots=True)
class Left:
    """Decisions that are not in the evaluation, by why."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, why: str, count: int = 1) -> None:
        if count:
            self.counts[why] = self.counts.get(why, 0) + count


def read_row(line: bytes) -> LoggedRow:
    """Return the decision that a line of JSON tells; raise ``RowInvalid``.

    ``arm``, ``reward``, and ``propensity`` or ``arms`` with ``propensities``; optional ``context`` (texts, numbers and
    booleans by name), ``target`` (probabilities by arm) and ``time`` (RFC 3339).
    """
    if len(line) > MOST_LINE_BYTES:
        raise RowInvalid(f"is longer than {MOST_LINE_BYTES} bytes")
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise RowInvalid(f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise RowInvalid("not an object")
    arm = _text(found, "arm")
    arms, propensities = _distribution(found)
    propensity = _number(found, "propensity", least=0.0, most=1.0) if "propensity" in found else None
    if arms:
        if arm not in arms:
            raise RowInvalid(f"arm: {arm!r} is not one of arms")
        logged = propensities[arms.index(arm)]
        if propensity is not None and abs(propensity - logged) > _CLOSE:
            raise RowInvalid(f"propensity: {propensity:g} is not what propensities say of {arm!r}, {logged:g}")
        propensity = logged
    if propensity is None:
        raise RowInvalid("propensity: missing, and so are arms and propensities")
    if propensity <= 0:
        raise RowInvalid("propensity: must be above 0, as the arm was chosen")
    return LoggedRow(
        arm, propensity, _number(found, "reward"), arms, propensities,
        _context(found.get("context")), _target(found.get("target")), at_us=_time(found.get("time")),
    )  # fmt: skip


def read_rows(lines: Iterable[bytes], told: Callable[[int, str], None], left: Left) -> Iterator[LoggedRow]:
    """Return the decisions of a file; ``told`` hears the number of each line that is none, and why."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield read_row(line)
        except RowInvalid as error:
            left.add("lines that could not be read")
            told(number, str(error))


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not value or len(value) > 256:
        raise RowInvalid(f"{name}: {'missing' if value is None else 'must be a text of 1 to 256 characters'}")
    return value


def _number(found: Mapping[str, Any], name: str, *, least: float = -math.inf, most: float = math.inf) -> float:
    return _as_number(found.get(name), name, least=least, most=most)


def _as_number(value: Any, name: str, *, least: float = -math.inf, most: float = math.inf) -> float:
    if value is None:
        raise RowInvalid(f"{name}: missing")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RowInvalid(f"{name}: must be a number")
    if not least <= value <= most:
        raise RowInvalid(f"{name}: must be from {least:g} to {most:g}")
    return float(value)


def _distribution(found: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    arms, propensities = found.get("arms"), found.get("propensities")
    if propensities is None:
        return (), ()
    if not isinstance(arms, list) or not all(isinstance(arm, str) and 0 < len(arm) <= 256 for arm in arms):
        raise RowInvalid("arms: must be a list of names")
    if not 0 < len(arms) <= MOST_ARMS or len(set(arms)) != len(arms):
        raise RowInvalid(f"arms: must be 1 to {MOST_ARMS} different names")
    if not isinstance(propensities, list) or len(propensities) != len(arms):
        raise RowInvalid("propensities: must be a list with a number for each of arms")
    values = tuple(_as_number(p, f"propensities.{n}", least=0.0, most=1.0) for n, p in enumerate(propensities))
    if abs(math.fsum(values) - 1.0) > 1e-3:
        raise RowInvalid(f"propensities: add up to {math.fsum(values):g}, not 1")
    return tuple(arms), values


def _context(value: Any) -> Mapping[str, Value]:
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > 64:
        raise RowInvalid("context: must be an object of at most 64 fields")
    for name, item in value.items():
        if item is not None and (
            not isinstance(item, str | int | float | bool) or (isinstance(item, float) and not math.isfinite(item))
        ):
            raise RowInvalid(f"context.{name}: must be a text, a number or a boolean")
    return {name: item for name, item in value.items() if item is not None}


def _target(value: Any) -> Mapping[str, float] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not 0 < len(value) <= MOST_ARMS:
        raise RowInvalid(f"target: must be an object of 1 to {MOST_ARMS} arms with their probabilities")
    shares = {arm: _as_number(share, f"target.{arm}", least=0.0, most=1.0) for arm, share in value.items()}
    if abs(math.fsum(shares.values()) - 1.0) > 1e-3:
        raise RowInvalid(f"target: adds up to {math.fsum(shares.values()):g}, not 1")
    return shares


def _time(value: Any) -> int | None:
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise RowInvalid("time: must be a time as 2026-11-01T08:00:00Z") from error
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e6)


def recorded_rows(
    ask: Callable[[str], Rows], *, project: str, feature: str, period: tuple[int, int], most: int, left: Left
) -> list[LoggedRow]:
    """Return the newest ``most`` decisions of a period that a policy made and that have a reward, oldest first.

    A decision that a default made, without a reward, or older than the newest ``most`` is counted in ``left``.
    """
    where = f"d.project = {quoted(project)} AND d.policy = {quoted(feature)} AND {within(*period, of='d.')}"
    joined = (
        "FROM v_decisions AS d LEFT JOIN v_outcomes AS o ON o.project = d.project AND o.decision_id = d.event_id"
        f" WHERE {where}"
    )
    counted = ask(
        f"SELECT countIf(d.reason != 'policy'), countIf(d.reason = 'policy' AND o.decision_id = ''),"
        f" countIf(d.reason = 'policy' AND o.decision_id != '' AND o.reward IS NULL),"
        f" countIf(d.reason = 'policy' AND o.reward IS NOT NULL) {joined}"
    ).rows[0]
    left.add("decided by a default", int(counted[0]))
    left.add("without an outcome yet", int(counted[1]))
    left.add("with an outcome but no reward", int(counted[2]))
    left.add("older than the newest asked for", max(0, int(counted[3]) - most))
    found = ask(
        "SELECT toUnixTimestamp64Micro(d.occurred_at), d.event_id, d.arm, d.propensity, d.arms, d.propensities,"
        " mapKeys(d.context), mapValues(d.context), d.downgraded_from IS NOT NULL OR d.budget_price IS NOT NULL,"
        f" d.features, d.encoding, o.reward {joined} AND d.reason = 'policy' AND o.reward IS NOT NULL"
        f" ORDER BY d.occurred_at DESC, d.event_id DESC LIMIT {most:d}"
    )
    return [_recorded(row) for row in reversed(found.rows)]


def charter_range(ask: Callable[[str], Rows], *, project: str, feature: str) -> tuple[float, float] | None:
    """Return the range of the reward that a feature's newest charter declares; None where there is none to read."""
    found = ask(
        f"SELECT charter_yaml FROM v_charters WHERE project = {quoted(project)} AND feature = {quoted(feature)}"
        " ORDER BY revision DESC LIMIT 1"
    )
    try:
        return parse_charter(found.rows[0][0]).reward_range if found.rows else None
    except CharterInvalid:
        return None


def _recorded(row: Any) -> LoggedRow:
    at_us, _, arm, propensity, arms, propensities, names, texts, limited, features, encoding, reward = row
    context = {name: read_value(text) for name, text in zip(names, texts, strict=True)}
    return LoggedRow(
        arm, propensity, reward, tuple(arms), tuple(propensities), context, limited=bool(limited), at_us=at_us,
        features=tuple(features), encoding=encoding,
    )  # fmt: skip


def read_value(text: str) -> Value:
    """Return what a logged context value was before it was written as text."""
    if text in ("true", "false"):
        return text == "true"
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text
