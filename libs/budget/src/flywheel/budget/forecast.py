"""What a budget's window will have spent at its end, with an interval. Pure: time is the events', money pico-USD.

State: what was spent in each slot (a 64th of a window) of the last three windows and in each hour of the week; integers
all, so the states of one spend's parts add up to the state of the whole, and a replay gives the same bytes. Forecast:
the slots, measured against the season (``season.py``), run through the bank of models (``dynamics.py``), which says
what the rest of the window brings. The spread comes from how the slots varied, so bursts widen it by themselves.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flywheel.budget.dynamics import SLOTS, Ahead, Bank, Slot
from flywheel.budget.season import DAY_HOURS, HOUR_US, WEEK_HOURS, Floats, Pattern, Season

INTERVAL: Final = 0.9
"""Probability of the interval ``low_pico`` to ``high_pico``."""
DAY_US: Final = DAY_HOURS * HOUR_US
_STRETCHES: Final = 12
"""The rest of the window is foretold in so many parts."""
_LEAST_FREEDOM: Final = 2.5
"""Below it (fewer than two slots seen) nothing is forecast."""
_SHORTEST_SLOT_US: Final = 1_000_000


class ForecastStateInvalid(ValueError):
    """Bytes that are no state of a forecaster."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The spend of a window at its end: its mean and the central interval of ``INTERVAL``."""

    mean_pico: int
    low_pico: int
    high_pico: int
    spent_pico: int
    unit_pico: float
    ahead: Ahead | None = field(repr=False, compare=False)

    def chance_above(self, amount_pico: int) -> float:
        """Probability that the window ends above ``amount_pico``."""
        if self.spent_pico > amount_pico:
            return 1.0
        if self.ahead is None:
            return 0.0
        return self.ahead.chance_above((amount_pico - self.spent_pico) / self.unit_pico)


@dataclass(slots=True)
class Forecaster:
    """What is remembered of one spend. ``slot_us`` is the length of its slots; see ``for_window``."""

    slot_us: int
    first_us: int | None = None
    start_us: int = 0
    total_pico: int = 0
    slots: dict[int, int] = field(default_factory=dict)
    season: Season = field(default_factory=Season)
    _filter: _Filter | None = field(default=None, repr=False, compare=False)

    @classmethod
    def for_window(cls, window_us: int) -> Forecaster:
        """A forecaster that knows nothing yet, for windows about ``window_us`` long."""
        return cls(max(_SHORTEST_SLOT_US, window_us // SLOTS))

    def observe(self, at_us: int, start_us: int, spent_pico: int) -> None:
        """At ``at_us`` the window that began at ``start_us`` had spent ``spent_pico`` in all.

        Observe 0 when a budget is first watched: a first total above 0 counts as spent evenly since the window's start.
        For a rolling budget, ``start_us`` is when it was first watched and the total is everything since. Totals of a
        window before the known one are passed over, and so is the part of a fall that no slot holds.
        """
        if self.first_us is None:
            self._begin(at_us, start_us, spent_pico)
            return
        if start_us < self.start_us:
            return
        known = self.total_pico if start_us == self.start_us else 0
        self.start_us, self.total_pico = start_us, spent_pico
        if spent_pico != known:
            self._count(at_us, spent_pico - known)

    def _begin(self, at_us: int, start_us: int, spent_pico: int) -> None:
        since_us = min(start_us, at_us) if spent_pico else at_us
        self.first_us = max(since_us, at_us - 3 * SLOTS * self.slot_us)
        self.start_us, self.total_pico = start_us, spent_pico
        parts = (at_us - self.first_us) // self.slot_us + 1
        for part in range(parts):
            share = spent_pico * (part + 1) // parts - spent_pico * part // parts
            self._count(self.first_us + part * self.slot_us, share)

    def _count(self, at_us: int, pico: int) -> None:
        slot = at_us // self.slot_us
        self.slots[slot] = self.slots.get(slot, 0) + pico
        self.season.add(at_us // HOUR_US, pico)
        if self._filter is not None and at_us < max(self._filter.until_us, self._filter.day * DAY_US):
            self._filter = None
        oldest = _oldest_slot(slot)
        if min(self.slots) < oldest:
            self.slots = {n: spent for n, spent in self.slots.items() if n >= oldest}

    def merge(self, other: Forecaster) -> Forecaster:
        """The state of both spends together, watched since the later of the two beginnings."""
        if other.slot_us != self.slot_us:
            raise ValueError(f"slots of {other.slot_us} us do not add to slots of {self.slot_us} us")
        made, theirs = Forecaster.decode(self.encode()), Forecaster.decode(other.encode())
        made.season.merge(theirs.season)
        for slot, pico in theirs.slots.items():
            made.slots[slot] = made.slots.get(slot, 0) + pico
        begun = [first for first in (made.first_us, theirs.first_us) if first is not None]
        made.first_us = max(begun) if begun else None
        if theirs.start_us == made.start_us:
            made.total_pico += theirs.total_pico
        elif theirs.start_us > made.start_us:
            made.start_us, made.total_pico = theirs.start_us, theirs.total_pico
        return made

    def encode(self) -> bytes:
        """The state as JSON, the same bytes for the same state."""
        plain = {
            "slot_us": self.slot_us,
            "first_us": self.first_us,
            "start_us": self.start_us,
            "total_pico": self.total_pico,
            "slots": sorted(self.slots.items()),
            "season": self.season.as_json(),
        }
        return json.dumps(plain, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Forecaster:
        """The inverse of ``encode``; raises ``ForecastStateInvalid``."""
        try:
            found: dict[str, Any] = json.loads(raw)
            first_us = found["first_us"]
            return cls(
                slot_us=max(1, int(found["slot_us"])),
                first_us=None if first_us is None else int(first_us),
                start_us=int(found["start_us"]),
                total_pico=int(found["total_pico"]),
                slots={int(slot): int(pico) for slot, pico in found["slots"]},
                season=Season.from_json(found["season"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ForecastStateInvalid(f"no state of a forecaster: {type(error).__name__}: {error}") from None

    def forecast(self, now_us: int, start_us: int, end_us: int, spent_pico: int) -> Forecast | None:
        """The total at ``end_us`` of the window that began at ``start_us`` and has spent ``spent_pico`` so far.

        None where too little was seen to say anything. What was spent is spent, so no figure is below it. For a rolling
        budget ``spent_pico`` is what of its spend will still lie inside the window that ends at ``end_us``.
        """
        if now_us >= end_us:
            return Forecast(spent_pico, spent_pico, spent_pico, spent_pico, 1.0, None)
        if self.first_us is None:
            return None
        known = self._filtered(now_us)
        if known is None:
            return None
        bank = known.bank
        opened_us = max(known.until_us, self.first_us)
        if now_us > opened_us:
            bank = bank.after(known.slot(opened_us, now_us, self.slots.get(now_us // self.slot_us, 0)))
        if bank.freedom < _LEAST_FREEDOM:
            return None
        edges = [now_us + (end_us - now_us) * n // _STRETCHES for n in range(_STRETCHES + 1)]
        doubt = known.doubt(now_us, end_us)
        ahead = bank.ahead((known.slot(a, b, 0) for a, b in pairwise(edges) if b > a), doubt)
        tail = (1.0 - INTERVAL) / 2.0
        mean, low, high = (
            spent_pico + max(0, round(value * known.unit))
            for value in (ahead.mean, ahead.quantile(tail), ahead.quantile(1.0 - tail))
        )
        return Forecast(max(mean, low), low, max(high, mean), spent_pico, known.unit, ahead)

    def _filtered(self, now_us: int) -> _Filter | None:
        """The bank after every whole slot before ``now_us``, from the last forecast's where that is still true."""
        day, open_slot = now_us // DAY_US, now_us // self.slot_us
        oldest = _oldest_slot(open_slot)
        known = self._filter
        if known is None or (known.oldest, known.day) != (oldest, day) or known.until_us > now_us:
            known = self._begun(oldest, day, now_us)
        if known is not None:
            for slot in range(known.until_us // self.slot_us, open_slot):
                known = known.after((slot + 1) * self.slot_us, self.slots.get(slot, 0))
        self._filter = known
        return known

    def _begun(self, oldest: int, day: int, now_us: int) -> _Filter | None:
        """The bank before the first slot in which something was spent; what came before says nothing of its size."""
        spent = [slot for slot, pico in self.slots.items() if pico > 0 and slot >= oldest]
        if not spent or self.first_us is None:
            return None
        at_us = max(min(spent) * self.slot_us, min(self.first_us, now_us))
        pattern, unit = self.season.pattern(self.first_us, day), float(self.slots[min(spent)])
        return _Filter(pattern, oldest, day, self.slot_us, at_us, unit, Bank.before(1.0))


def _oldest_slot(newest: int) -> int:
    """The first slot that counts beside the newest: three windows back; dropped a window at a time."""
    return (newest // SLOTS - 3) * SLOTS


@dataclass(frozen=True, slots=True)
class _Filter:
    """The bank after all whole slots until ``until_us``; ``unit`` pico-USD are 1 in it."""

    pattern: Pattern
    oldest: int
    day: int
    slot_us: int
    until_us: int
    unit: float
    bank: Bank

    def after(self, until_us: int, spent_pico: int) -> _Filter:
        """With the slot that ends at ``until_us``."""
        bank = self.bank.after(self.slot(self.until_us, until_us, spent_pico))
        return _Filter(self.pattern, self.oldest, self.day, self.slot_us, until_us, self.unit, bank)

    def slot(self, from_us: int, to_us: int, spent_pico: int) -> Slot:
        """A stretch with its exposure."""
        _, shares, factors = self._hours(from_us, to_us)
        length = (to_us - from_us) / self.slot_us
        return Slot(length, length * float(shares @ factors), spent_pico / self.unit)

    def doubt(self, from_us: int, to_us: int) -> float:
        """Exposure of a stretch that begins now times how far its hours' factors may be off; they err together."""
        hours, shares, factors = self._hours(from_us, to_us)
        away = (np.maximum(hours, from_us / HOUR_US) + np.minimum(hours + 1, to_us / HOUR_US)) / 2.0 - from_us / HOUR_US
        return (to_us - from_us) / self.slot_us * float(shares @ (factors * self.pattern.doubt(hours, away)))

    def _hours(self, from_us: int, to_us: int) -> tuple[NDArray[np.int64], Floats, Floats]:
        """The hours a stretch touches, how much of the stretch lies in each, and their factors."""
        hours = np.arange(from_us // HOUR_US, (to_us - 1) // HOUR_US + 1)
        starts = np.maximum(hours * HOUR_US, from_us)
        ends = np.minimum((hours + 1) * HOUR_US, to_us)
        return hours, (ends - starts) / float(to_us - from_us), self.pattern.factors[hours % WEEK_HOURS]
