"""What to say about a budget, that it is said once, and when it is over. Pure; money integer pico-USD, times of events.

An overrun is told when its probability reaches ``SURE``. Were the forecast exact, its odds would be a martingale in
windows that end below, and reach 24 in a share of them of at most the odds at the start over 24 (Ville 1939): at even
odds one false warning in 24 such windows, however often one looks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from flywheel.budget.forecast import Forecast

WARN_AT: Final = (0.5, 0.8, 0.95)
SURE: Final = 0.96
"""Probability of ending above the amount at which that is said ..."""
UNSURE: Final = 0.2
"""... and below which it is taken back."""
_OVER_BELOW: Final = 0.9
"""A level is over when the spend falls below so much of it: money left a rolling window, or the amount was raised."""

Kind = Literal["budget_threshold", "budget_exhausted", "budget_forecast"]
Severity = Literal["info", "warning", "critical"]
State = Literal["firing", "resolved"]

_SPENT: Final = "spent "
_EXHAUSTED: Final = "exhausted"
_OVERRUN: Final = "overrun"
_TAKEN_BACK: Final = "overrun resolved"


@dataclass(frozen=True, slots=True)
class Reading:
    """A budget at an instant. ``rolling`` windows have no end of their own: ``end_us`` is how far was forecast."""

    instance: str
    at_us: int
    start_us: int
    end_us: int
    spent_pico: int
    amount_pico: int
    exhausted: bool = False
    rolling: bool = False
    forecast: Forecast | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What a guard keeps per instance: the window spoken of (its start; 0 if rolling), what was said and as of when."""

    start_us: int = 0
    names: tuple[tuple[str, int], ...] = ()

    @property
    def firing(self) -> tuple[tuple[str, int], ...]:
        """What was said and is not over."""
        gone = {_TAKEN_BACK, _OVERRUN} if any(name == _TAKEN_BACK for name, _ in self.names) else set()
        return tuple(pair for pair in self.names if pair[0] not in gone)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"start_us": self.start_us, "names": [list(pair) for pair in self.names]}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Said:
        """The inverse of ``as_json``."""
        return cls(int(found["start_us"]), tuple((str(name), int(of_us)) for name, of_us in found["names"]))


@dataclass(frozen=True, slots=True)
class BudgetAlert:
    """One thing to say, for an ``alert`` event; ``value_pico`` is the spend or, of an overrun, the mean forecast."""

    alert_id: str
    kind: Kind
    severity: Severity
    state: State
    level: float
    at_us: int
    start_us: int
    end_us: int
    value_pico: int
    threshold_pico: int


def alerts(said: Said, reading: Reading, *, warn_at: Iterable[float] = WARN_AT) -> tuple[Said, tuple[BudgetAlert, ...]]:
    """What the reading makes necessary to say, and what has been said then.

    Each level (share of the amount), exhaustion and the overrun fire once a window; a level and exhaustion are resolved
    when the spend fell a tenth below, and may fire again then; an overrun that became unlikely is resolved once and not
    said again. What fires of a window that is over is resolved. A reading of a window before the one spoken of says
    nothing.
    """
    start_us = 0 if reading.rolling else reading.start_us
    if start_us < said.start_us:
        return said, ()
    over: list[BudgetAlert] = []
    if start_us > said.start_us:
        over += lapsed(said, replace(reading, start_us=said.start_us, end_us=start_us))[1]
        said = Said(start_us)
    known = dict(said.names)
    for name, of_us in said.firing:
        if _fell_below(reading, name):
            over.append(_resolved(reading, name, of_us))
            del known[name]
    if reading.rolling and _TAKEN_BACK in known and _below(reading, 1.0):
        del known[_TAKEN_BACK], known[_OVERRUN]
    made: list[BudgetAlert] = []
    for level in sorted(set(warn_at)):
        if _reached(reading, level):
            made.append(_alert(reading, _name(level), "budget_threshold", _severity(level), level))
    if reading.exhausted or _reached(reading, 1.0):
        made.append(_alert(reading, _EXHAUSTED, "budget_exhausted", "critical", 1.0))
    made += _overrun(known, reading)
    news = [alert for alert in made if _known_as(alert) not in known]
    known |= {_known_as(alert): _of(reading) for alert in news}
    return Said(start_us, tuple(sorted(known.items()))), (*over, *news)


def lapsed(said: Said, reading: Reading) -> tuple[Said, tuple[BudgetAlert, ...]]:
    """What ends with a window, by a reading of that window when it is over; nothing where another is spoken of."""
    if reading.rolling or reading.start_us != said.start_us:
        return said, ()
    return Said(said.start_us), tuple(_resolved(reading, name, of_us) for name, of_us in said.firing)


def _overrun(known: Mapping[str, int], reading: Reading) -> list[BudgetAlert]:
    """The overrun where it is as good as certain and not yet there; its end where it was said and became unlikely."""
    if reading.forecast is None or _reached(reading, 1.0):
        return []
    chance = reading.forecast.chance_above(reading.amount_pico)
    value = reading.forecast.mean_pico
    if _OVERRUN not in known:
        if chance < SURE:
            return []
        return [replace(_alert(reading, _OVERRUN, "budget_forecast", "warning", SURE), value_pico=value)]
    if chance >= UNSURE:
        return []
    alert = _alert(reading, _OVERRUN, "budget_forecast", "warning", SURE, of_us=known[_OVERRUN])
    return [replace(alert, value_pico=value, state="resolved")]


def _fell_below(reading: Reading, name: str) -> bool:
    """Whether what was said of a level or of exhaustion does not hold any more, by a tenth; of a rolling window in
    which nothing is spent any more no overrun is foretold."""
    if name == _OVERRUN:
        return reading.rolling and reading.spent_pico <= 0
    if name == _EXHAUSTED:
        return not reading.exhausted and _below(reading, 1.0)
    return _below(reading, float(name.removeprefix(_SPENT)))


def _below(reading: Reading, level: float) -> bool:
    return reading.spent_pico < _OVER_BELOW * level * reading.amount_pico


def _reached(reading: Reading, level: float) -> bool:
    """Whether so much of the amount is spent; in millionths, as money is not compared as a float."""
    return reading.spent_pico * 1_000_000 >= round(level * 1_000_000) * reading.amount_pico


def _name(level: float) -> str:
    return f"{_SPENT}{level:g}"


def _known_as(alert: BudgetAlert) -> str:
    if alert.kind == "budget_threshold":
        return _name(alert.level)
    if alert.kind == "budget_exhausted":
        return _EXHAUSTED
    return _OVERRUN if alert.state == "firing" else _TAKEN_BACK


def _of(reading: Reading) -> int:
    """What tells one time a thing is said from the next: the window, or of a rolling budget the instant."""
    return reading.at_us if reading.rolling else reading.start_us


def _resolved(reading: Reading, name: str, of_us: int) -> BudgetAlert:
    """The end of an alert that was said under a name."""
    if name == _OVERRUN:
        alert = _alert(reading, name, "budget_forecast", "warning", SURE, of_us=of_us)
    elif name == _EXHAUSTED:
        alert = _alert(reading, name, "budget_exhausted", "critical", 1.0, of_us=of_us)
    else:
        level = float(name.removeprefix(_SPENT))
        alert = _alert(reading, name, "budget_threshold", _severity(level), level, of_us=of_us)
    return replace(alert, state="resolved")


def _severity(level: float) -> Severity:
    return "info" if level < 0.8 else "warning"


def _alert(
    reading: Reading, name: str, kind: Kind, severity: Severity, level: float, *, of_us: int | None = None
) -> BudgetAlert:
    """A firing alert of a reading."""
    of = _of(reading) if of_us is None else of_us
    digest = hashlib.sha256(f"{reading.instance}\n{of}\n{name}".encode()).hexdigest()
    threshold = reading.amount_pico * round(level * 1_000_000) // 1_000_000
    return BudgetAlert(
        alert_id=digest[:32],
        kind=kind,
        severity=severity,
        state="firing",
        level=level,
        at_us=reading.at_us,
        start_us=reading.start_us,
        end_us=reading.end_us,
        value_pico=reading.spent_pico,
        threshold_pico=threshold if kind == "budget_threshold" else reading.amount_pico,
    )
