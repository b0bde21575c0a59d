"""What lies before an instance: its forecast, the warnings already given, the price of money.

Looked at when entries say that money was spent, never by a clock; a forecast at most 256 times a window, as it costs a
thousand times what an entry does. Everything here is a function of the ledger, in any batches: the forecaster is taken
from its bytes each time, as what it keeps beside them is a matter of when it was asked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Final

from flywheel.budget import Budget, Window, scope_of, to_usd
from flywheel.budget.forecast import Forecast, Forecaster
from flywheel.budget.pacing import Pressure
from flywheel.budget.warnings import BudgetAlert, Reading, Said, alerts, lapsed
from flywheel.events import event_id
from flywheel.stream import Output
from flywheel_budget.core.pools import Pool

ALERTS: Final = "alerts"
Alerts = tuple[BudgetAlert, ...]
_READINGS: Final = 256
_SHORTEST_US: Final = 1_000_000


@dataclass(slots=True)
class Outlook:
    """``forecaster``: of the money; ``calls``: of their number, in mode downgrade. ``first_us`` and ``total``: of a
    rolling budget, since when it is watched and all it spent since. ``figures``: mean, low and high of the newest
    forecast, in picodollars, and the start of its window."""

    forecaster: Forecaster
    calls: Forecaster | None = None
    said: Said = field(default_factory=Said)
    pressure: Pressure = field(default_factory=Pressure)
    first_us: int = 0
    total: int = 0
    read_us: int = 0
    figures: list[int] = field(default_factory=list)

    @classmethod
    def begun(cls, budget: Budget, window: Window, now_us: int) -> Outlook:
        """Return the outlook of an instance that has spent nothing yet."""
        made = cls(Forecaster.for_window(_length_us(budget, window)), first_us=now_us, read_us=now_us)
        made.forecaster.observe(now_us, now_us if budget.rolling_s is not None else window.start_us, 0)
        return made

    def encode(self) -> bytes:
        """Return canonical bytes."""
        values = {
            "forecaster": json.loads(self.forecaster.encode()),
            "calls": None if self.calls is None else json.loads(self.calls.encode()),
            "said": self.said.as_json(),
            "pressure": self.pressure.as_json(),
            "rest": [self.first_us, self.total, self.read_us, self.figures],
        }
        return json.dumps(values, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> Outlook:
        """Return the outlook that ``encode`` wrote."""
        found: dict[str, Any] = json.loads(data)
        forecaster = Forecaster.decode(json.dumps(found["forecaster"]).encode())
        calls = None if found["calls"] is None else Forecaster.decode(json.dumps(found["calls"]).encode())
        return cls(forecaster, calls, Said.from_json(found["said"]), Pressure(**found["pressure"]), *found["rest"])

    def look(self, budget: Budget, instance: str, window: Window, pool: Pool, *, delta: int, now_us: int) -> Alerts:
        """Take in that ``delta`` more was spent in the present window; return what is to be said."""
        rolling = budget.rolling_s is not None
        self.total += delta
        since_us = self.first_us if rolling else window.start_us
        self.forecaster.observe(now_us, since_us, max(0, self.total) if rolling else pool.spent)
        if budget.mode != "downgrade":
            self.calls = None
        else:
            self.calls = self.calls or Forecaster.for_window(_length_us(budget, window))
            self.calls.observe(now_us, since_us, pool.calls)
        reading = _reading(budget, instance, window, pool, now_us)
        reading = replace(reading, forecast=self._forecast(budget, window, pool, now_us))
        self.said, news = alerts(self.said, reading, warn_at=budget.warn_at)
        return news

    def lapse(self, budget: Budget, instance: str, window: Window, pool: Pool, *, now_us: int) -> Alerts:
        """Return what ends with a calendar window that is over."""
        self.said, news = lapsed(self.said, _reading(budget, instance, window, pool, now_us))
        return news

    def _forecast(self, budget: Budget, window: Window, pool: Pool, now_us: int) -> Forecast | None:
        length_us = _length_us(budget, window)
        if now_us - self.read_us < max(_SHORTEST_US, length_us // _READINGS):
            return None
        self.read_us = now_us
        fresh = Forecaster.decode(self.forecaster.encode())
        if budget.rolling_s is None:
            since_us, end_us, counted, total = window.start_us, window.end_us, pool.spent, pool.spent
        else:
            since_us, end_us, total = self.first_us, now_us + length_us // 2, self.total
            counted = sum(spent for start_us, spent in pool.slots if start_us >= end_us - length_us)
        forecast = fresh.forecast(now_us, since_us, end_us, counted)
        if self.calls is not None and pool.calls > 0:
            expected = Forecaster.decode(self.calls.encode()).forecast(now_us, since_us, end_us, 0)
            # As many as came, in proportion, where there is no forecast yet.
            pace = pool.calls / max(1, now_us - max(since_us, self.first_us))
            self.pressure = self.pressure.adjusted(
                at_us=now_us,
                window_us=length_us,
                left_pico=budget.amount_pico - counted,
                total_pico=max(0, total),
                calls=pool.calls,
                calls_to_come=pace * (end_us - now_us) if expected is None else expected.mean_pico,
            )
        if forecast is not None:
            self.figures = [forecast.mean_pico, forecast.low_pico, forecast.high_pico, window.start_us]
        return forecast


def _reading(budget: Budget, instance: str, window: Window, pool: Pool, now_us: int) -> Reading:
    rolling = budget.rolling_s is not None
    return Reading(
        instance=instance,
        at_us=now_us,
        start_us=now_us - _length_us(budget, window) if rolling else window.start_us,
        end_us=now_us if rolling else window.end_us,
        spent_pico=pool.spent,
        amount_pico=budget.amount_pico,
        exhausted=pool.exhausted(budget.amount_pico),
        rolling=rolling,
    )


def _length_us(budget: Budget, window: Window) -> int:
    return window.end_us - window.start_us if budget.rolling_s is None else budget.rolling_s * 1_000_000


def alert_output(budget: Budget, instance: str, alert: BudgetAlert) -> Output:
    """Return the ``alert`` event of something to say."""
    amount, value = to_usd(budget.amount_pico), to_usd(alert.value_pico)
    longer = "no longer " if alert.state == "resolved" else ""
    told = {
        "budget_threshold": f"{longer}{alert.level:.0%} of {amount.normalize():f} USD spent",
        "budget_exhausted": f"{amount.normalize():f} USD are {longer}exhausted",
        "budget_forecast": f"is {longer}expected to end above {amount.normalize():f} USD",
    }[alert.kind]
    verb = "expected" if alert.kind == "budget_forecast" else "spent"
    event = {
        "event_id": event_id("alert", alert.alert_id, alert.state, alert.at_us),
        "alert_id": alert.alert_id,
        "project": budget.project,
        "occurred_at": alert.at_us,
        "kind": alert.kind,
        "severity": alert.severity,
        "state": alert.state,
        "scope": scope_of(budget, instance),
        "subject": instance,
        "title": f"Budget {budget.name}: {told}",
        "detail": f"{value.normalize():f} USD {verb}; {budget.mode}, {amount.normalize():f} USD per {budget.per}",
        "value": float(value),
        "threshold": float(to_usd(alert.threshold_pico)),
        "window_start": alert.start_us,
        "window_end": alert.end_us,
        "attributes": {"revision": str(budget.revision), "level": f"{alert.level:g}", "mode": budget.mode},
    }
    return Output(ALERTS, instance, "alert", event, budget.key)
