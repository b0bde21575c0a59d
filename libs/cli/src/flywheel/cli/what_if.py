"""What a candidate would have earned on logged decisions: the whole, and by slices of the context."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flywheel.cli.candidates import Candidate
from flywheel.cli.logged_rows import LoggedRow
from flywheel.stats import Bounds, Estimate, Evaluation, Log, better, evaluate
from flywheel.stats.features import context_features

Array = NDArray[np.float64]

LEVEL: Final = 0.95
LEARN_SHARE: Final = 0.5
"""Of a log, oldest first, what a charter that learns forms its beliefs on; the rest judges it."""
MOST_ROWS: Final = 200_000
TIMEOUT_S: Final = 120.0
NOT_BETTER: Final = "not proven better: the lower end of the gain's confidence sequence is not above 0"
MOST_SLICES: Final = 20
DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Slice:
    """One part of the log: ``field`` and ``value`` of the context, both None for the whole."""

    field: str | None
    value: str | None
    found: Evaluation


def what_if(
    rows: Sequence[LoggedRow], candidate: Candidate, *, low: float, high: float, alpha: float, by: Sequence[str] = ()
) -> list[Slice]:
    """Return the whole, then each of the 20 most frequent values of every field of ``by``.

    Raises ``ValueError`` where a reward lies outside of ``[low, high]``.
    """
    targets = [candidate(row) for row in rows]
    log, target = _matrices(rows, targets)
    found = [Slice(None, None, evaluate(log, target, low=low, high=high, alpha=alpha))]
    for field in by:
        for value, mask in _parts(rows, field):
            part = evaluate(log.take(mask), target[mask], low=low, high=high, alpha=alpha)
            found.append(Slice(field, value, part))
    return found


def _matrices(rows: Sequence[LoggedRow], targets: Sequence[Mapping[str, float]]) -> tuple[Log, Array]:
    """Return the log and the target over every arm named anywhere, in alphabetical order."""
    names = sorted(
        {row.arm for row in rows} | {arm for row in rows for arm in row.arms} | {a for t in targets for a in t}
    )
    place = {name: index for index, name in enumerate(names)}
    whole = all(row.arms for row in rows)
    logging, target = np.zeros((len(rows), len(names))), np.zeros((len(rows), len(names)))
    for number, (row, chosen) in enumerate(zip(rows, targets, strict=True)):
        for arm, logged in zip(row.arms, row.propensities, strict=True):
            logging[number, place[arm]] = logged
        for arm, share in chosen.items():
            target[number, place[arm]] = share
    arm_places = np.array([place[row.arm] for row in rows], dtype=np.int64)
    reward, propensity = np.array([row.reward for row in rows]), np.array([row.propensity for row in rows])
    features = context_features([row.context for row in rows])
    return Log(reward, arm_places, propensity, logging if whole else None, features), target


def _parts(rows: Sequence[LoggedRow], field: str) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    values = [_shown(row.context.get(field)) for row in rows]
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    for value in sorted(counts, key=lambda text: (-counts[text], text))[:MOST_SLICES]:
        yield value, np.array([one == value for one in values])


def _shown(value: object) -> str:
    if value is None:
        return "(absent)"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def slice_as_json(part: Slice) -> dict[str, Any]:
    """One slice, numbers to 6 digits, so that machines that add in another order print the same."""
    found = part.found
    of = found.diagnosis
    return {
        "field": part.field,
        "value": part.value,
        "rows": of.rows,
        "logged": {"value": _round(found.logged), "interval": _pair(found.logged_interval)},
        "refused": list(found.refusals),
        "effective_rows": _round(of.effective),
        "mean_weight": _round(of.mean_weight),
        "mean_weight_error": _round(of.mean_weight_error),
        "largest_weight": _round(of.largest_weight),
        "largest_weight_share": _round(of.largest_share),
        "unsupported_share": None if of.unsupported is None else _round(of.unsupported),
        "estimates": [_estimate(one) for one in found.estimates],
        "value_sequence": None if found.value_always is None else _pair(found.value_always),
        "gain_sequence": None if found.gain_always is None else _pair(found.gain_always),
        "better": better(found),
    }


def _estimate(one: Estimate) -> dict[str, Any]:
    return {
        "estimator": one.name,
        "value": _round(one.value),
        **_bounds(one.bounds),
        "gain": {"value": _round(one.gain), **_bounds(one.gain_bounds)},
        "weight_limit": None if one.limit is None else _round(one.limit),
    }


def _bounds(of: Bounds) -> dict[str, list[float]]:
    return {"interval": _pair((of.low, of.high)), "sequence": _pair((of.always_low, of.always_high))}


def _pair(ends: tuple[float, float]) -> list[float]:
    return [_round(ends[0]), _round(ends[1])]


def _round(number: float) -> float:
    # Adding 0.0 turns the negative zero into the other.
    return float(f"{number:.{DIGITS}g}") + 0.0
