"""The price of money: how much more reward a dollar must buy, so that a budget in mode downgrade lasts. Pure.

A dual price found by feedback, as in bandits with knapsacks (Badanidiyuru, Kleinberg, Slivkins 2013; Agrawal, Devanur
2016) and the pacing of budgets in auctions (Balseiro, Gur 2019), but on the price's logarithm, and led by the forecast
instead of the last step's spend: it rises while the rest of the window is foretold to cost more than is left.

A forecast lags behind a price that has just moved, so the pace of late has a say too: the price rises only while both
say that too much is spent, and falls only while both say too little. That allows it to move the faster the sooner the
money would be gone, and, before there is a forecast, by the pace alone.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

from flywheel.budget.forecast import Forecast

PICO_PER_USD: Final = 10**12
_GAIN: Final = 24.0
"""By how much the logarithm moves in a whole window per unit of error (a rest foretold e times too dear)."""
_MOST_ERROR: Final = 1.0
_MOST_PASSED: Final = 0.1
"""Of a window, counted at most between two readings: a silence is no reason to leap."""
_MOST_STEP: Final = 1.0
_MEMORY: Final = 1 / 64
"""Of a window: over which the pace is taken, and the soonest that money can be said to be gone."""
_LOWEST: Final = math.log(1e-3)
_HIGHEST: Final = math.log(30.0)


@dataclass(frozen=True, slots=True)
class Pressure:
    """State of the controller: ``log`` is the logarithm of the price, in rewards per mean call; free at its lowest.
    ``total_pico``: what had been spent at the last reading; ``pace_pico``: what is spent in a window, of late."""

    log: float = _LOWEST
    at_us: int = 0
    call_pico: int = 0
    total_pico: int = 0
    pace_pico: int = 0

    @property
    def price_of_money(self) -> float:
        """λ: reward a dollar must buy (1/USD); 0 without pressure, at most 30 rewards for a mean call's cost."""
        if self.log <= _LOWEST or self.call_pico <= 0:
            return 0.0
        return math.exp(self.log) * PICO_PER_USD / self.call_pico

    def adjusted(
        self,
        forecast: Forecast | None,
        *,
        at_us: int,
        end_us: int,
        window_us: int,
        amount_pico: int,
        total_pico: int,
        call_pico: int,
    ) -> Pressure:
        """The pressure after a reading at ``at_us``.

        Args:
            forecast: of what will have been spent at ``end_us``; None while too little was seen for one.
            total_pico: all that was spent since the window began, or since a rolling budget is watched.
            call_pico: the mean cost of a call. It scales the price, and is held while there is pressure, as calls
                become cheaper by it.
        """
        scale = call_pico if self.log <= _LOWEST or self.call_pico <= 0 else self.call_pico
        if self.at_us == 0 or at_us <= self.at_us:
            return Pressure(self.log, max(at_us, self.at_us), scale, total_pico, self.pace_pico)
        passed = (at_us - self.at_us) / window_us
        newest = max(0, total_pico - self.total_pico) / passed
        # The first pace is what was seen; nothing remembered has a share in it.
        new = -math.expm1(-passed / _MEMORY) if self.pace_pico else 1.0
        pace = round(self.pace_pico + new * (newest - self.pace_pico))
        left = amount_pico - (total_pico if forecast is None else forecast.spent_pico)
        error = _error(pace * max(end_us - at_us, 0) / window_us, left)
        if forecast is not None:
            error = _agreed(error, _error(forecast.mean_pico - forecast.spent_pico, left))
        gone_in = min(1.0, max(_MEMORY, left / pace)) if pace > 0 else 1.0
        step = _GAIN * min(passed, _MOST_PASSED) / gone_in * error
        log = self.log + min(max(step, -_MOST_STEP), _MOST_STEP)
        return Pressure(round(min(max(log, _LOWEST), _HIGHEST), 9), at_us, scale, total_pico, pace)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def _agreed(first: float, second: float) -> float:
    """The smaller of two errors of the same sign, 0 where they contradict each other."""
    if first * second <= 0:
        return 0.0
    return min(first, second, key=abs)


def _error(to_come: float, left: float) -> float:
    """Logarithm of what the rest will cost over what is left for it, within bounds."""
    if left <= 0:
        return _MOST_ERROR
    if to_come <= 0:
        return -_MOST_ERROR
    return min(max(math.log(to_come / left), -_MOST_ERROR), _MOST_ERROR)
