"""The price of money: how much more reward a dollar must buy, so that a budget in mode downgrade lasts. Pure.

A dual price found by feedback, as in bandits with knapsacks (Badanidiyuru, Kleinberg, Slivkins 2013) and the pacing of
budgets in auctions (Balseiro, Gur 2019), and led by what is left over what is to come, as where the linear program is
solved again and again (Ferreira, Simchi-Levi, Wang 2018): what a call may cost is the money left over the calls still
expected, and the price's logarithm follows how far calls of late cost more or less than that. How many calls come does
not depend on the price, so the forecast of calls, unlike one of money, does not lag behind a price that has just moved;
and what was spent too much or too little is spread over all that is to come.

The reward that is at stake is not known here. So the price begins where a mean call's cost is worth a tenth of a
reward, not at nought: from nought it would take the first twentieth of a window, and at a quarter of what is wanted a
fifth of its money, to be felt at all.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

PICO_PER_USD: Final = 10**12
_GAIN: Final = 0.6
"""By how much the logarithm moves in the time that "of late" means, per unit of error (calls e times too dear)."""
_MOST_ERROR: Final = 1.0
_MEMORY: Final = 1 / 64
"""Of a window: over which the cost of calls of late is taken; longer while so few calls came that it means little."""
_FEWEST_CALLS: Final = 16.0
_FIRST: Final = math.log(0.1)
_LOWEST: Final = math.log(1e-3)
_HIGHEST: Final = math.log(30.0)


@dataclass(frozen=True, slots=True)
class Pressure:
    """State of the controller: ``log`` is the logarithm of the price, in rewards per mean call; free at its lowest.
    ``call_pico``: that mean call; ``total_pico``, ``calls``: of the window at the last reading; ``late_pico``,
    ``late_calls``: the same, what is older fading away."""

    log: float = _LOWEST
    at_us: int = 0
    call_pico: int = 0
    total_pico: int = 0
    calls: int = 0
    late_pico: int = 0
    late_calls: float = 0.0

    @property
    def price_of_money(self) -> float:
        """λ: reward a dollar must buy (1/USD); 0 without pressure, at most 30 rewards for a mean call's cost."""
        if self.log <= _LOWEST or self.call_pico <= 0:
            return 0.0
        return math.exp(self.log) * PICO_PER_USD / self.call_pico

    def adjusted(
        self, *, at_us: int, window_us: int, left_pico: int, total_pico: int, calls: int, calls_to_come: float
    ) -> Pressure:
        """The pressure after a reading at ``at_us``.

        Args:
            left_pico: what may still be spent until the window ends.
            total_pico: all that was spent since the window began, or since a rolling budget is watched.
            calls: how many calls that was. Their mean cost scales the price, and is held while there is pressure, as
                calls become cheaper by it.
            calls_to_come: expected until the window ends.
        """
        if self.at_us and at_us <= self.at_us:
            return self
        anew = calls < self.calls
        newest_calls = calls if anew else calls - self.calls
        newest_pico = total_pico if anew else max(0, total_pico - self.total_pico)
        passed = (at_us - self.at_us) / window_us if self.at_us else 0.0
        progress = min(1.0, passed / _MEMORY, newest_calls / _FEWEST_CALLS)
        kept = math.exp(-progress)
        late_pico = round(self.late_pico * kept) + newest_pico
        late_calls = round(self.late_calls * kept + newest_calls, 6)
        error = _error(late_pico / late_calls, left_pico, calls_to_come) if late_calls > 0 and late_pico > 0 else 0.0
        log, scale = self.log, self.call_pico
        if log > _LOWEST and scale > 0:
            log = min(max(log + _GAIN * progress * error, _LOWEST), _HIGHEST)
        else:
            log, scale = _FIRST if error > 0 else _LOWEST, round(late_pico / late_calls) if late_calls > 0 else 0
        return Pressure(round(log, 9), at_us, scale, total_pico, calls, late_pico, late_calls)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def _error(call_pico: float, left_pico: int, calls_to_come: float) -> float:
    """Logarithm of what a call costs over what it may cost, within bounds."""
    if calls_to_come <= 0:
        return 0.0
    if left_pico <= 0:
        return _MOST_ERROR
    error = math.log(call_pico) + math.log(calls_to_come) - math.log(left_pico)
    return min(max(error, -_MOST_ERROR), _MOST_ERROR)
