"""The price of money: how much more reward a dollar must buy, so that a budget in mode downgrade lasts. Pure.

A dual price found by feedback, as in bandits with knapsacks (Badanidiyuru, Kleinberg, Slivkins 2013; Agrawal, Devanur
2016) and the pacing of budgets in auctions (Balseiro, Gur 2019), but on the price's logarithm, and led by the forecast
instead of the last step's spend: it rises while the rest of the window is foretold to cost more than is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from flywheel.budget.forecast import Forecast

PICO_PER_USD: Final = 10**12
_GAIN: Final = 24.0
"""By how much the logarithm moves in a whole window per unit of error (a rest foretold e times too dear)."""
_MOST_ERROR: Final = 1.0
_MOST_STEP: Final = 0.1
"""Of a window, counted at most between two readings: a silence is no reason to leap."""
_LOWEST: Final = math.log(1e-3)
_HIGHEST: Final = math.log(30.0)


@dataclass(frozen=True, slots=True)
class Pressure:
    """State of the controller: ``log`` is the logarithm of the price, in rewards per mean call; free at its lowest."""

    log: float = _LOWEST
    at_us: int = 0
    call_pico: int = 0

    @property
    def price_of_money(self) -> float:
        """λ: reward a dollar must buy (1/USD); 0 without pressure, at most 30 rewards for a mean call's cost."""
        if self.log <= _LOWEST or self.call_pico <= 0:
            return 0.0
        return math.exp(self.log) * PICO_PER_USD / self.call_pico

    def adjusted(self, forecast: Forecast, *, at_us: int, window_us: int, amount_pico: int, call_pico: int) -> Pressure:
        """The pressure after a reading at ``at_us``; ``call_pico``, the mean cost of a call, scales the price.

        The scale is held while there is pressure, as calls become cheaper by it.
        """
        scale = call_pico if self.log <= _LOWEST or self.call_pico <= 0 else self.call_pico
        if self.at_us == 0 or at_us <= self.at_us:
            return Pressure(self.log, max(at_us, self.at_us), scale)
        passed = min((at_us - self.at_us) / window_us, _MOST_STEP)
        log = self.log + _GAIN * passed * _error(forecast, amount_pico)
        return Pressure(round(min(max(log, _LOWEST), _HIGHEST), 9), at_us, scale)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"log": self.log, "at_us": self.at_us, "call_pico": self.call_pico}


def _error(forecast: Forecast, amount_pico: int) -> float:
    """Logarithm of what the rest is foretold to cost over what is left for it, within bounds."""
    to_come, left = forecast.mean_pico - forecast.spent_pico, amount_pico - forecast.spent_pico
    if left <= 0:
        return _MOST_ERROR
    if to_come <= 0:
        return -_MOST_ERROR
    return min(max(math.log(to_come / left), -_MOST_ERROR), _MOST_ERROR)
