"""The arithmetic of one pool of money: an instance of a budget in one calendar window, or of a rolling one for ever.

    available = amount - spent - exposure

``spent`` is what calls really cost, ``exposure`` what accounts may still reserve or have reserved for calls that are
not known yet. Nothing is ever granted beyond what is available, and nothing else raises the exposure. So what is spent,
reserved and leased never exceeds the amount, but for calls that cost more than was reserved and calls without a
reservation.

All money is in picodollars, all times are the broker's, in microseconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

ACTIVE_US: Final = 60_000_000
"""An account not heard of for so long takes no part in the sharing."""
PATIENCE_US: Final = 1_000_000
"""A call that could not be paid is thought of for so long; its caller has long been answered by then."""


@dataclass(slots=True)
class Account:
    """What the guard knows of one account. Everything is cumulative: ``granted`` is the limit of all bounds ever
    reserved, ``settled`` the bounds whose call is known."""

    window: str
    holder: str = ""
    seq: int = 0
    granted: int = 0
    reserved: int = 0
    settled: int = 0
    closed: bool = False
    wanted: int = 0
    needed: int = 0
    scarce: bool = False
    counted: bool = True
    reason: str = ""

    @property
    def exposure(self) -> int:
        """What its calls may still cost."""
        return max(0, (self.reserved if self.closed else self.granted) - self.settled) if self.counted else 0

    @property
    def idle(self) -> int:
        """What it was granted and had not reserved when it was last heard of."""
        return 0 if self.closed else max(0, self.granted - self.reserved)

    def encode(self) -> bytes:
        """Return canonical bytes."""
        values = [getattr(self, name) for name in self.__slots__]
        return json.dumps(values, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Account:
        """Return the account that ``encode`` wrote."""
        return cls(*json.loads(data))


class SpendRow(NamedTuple):
    """The newest absolute row of one source."""

    version: int
    spent: int
    settled: int
    calls: int
    unpriced: int
    above_bound: int


NO_ROW: Final = SpendRow(0, 0, 0, 0, 0, 0)


@dataclass(slots=True)
class Pool:
    """Sums over the accounts and rows of a pool, kept as they change.

    ``active``: when each open account was last heard of. ``waiting``: accounts that asked for more than there was and
    when, in that order. ``slots``: of a rolling pool what was spent when, oldest first. ``refused``: the smallest call
    that the whole rest could not pay.
    """

    spent: int = 0
    exposure: int = 0
    calls: int = 0
    unpriced: int = 0
    above_bound: int = 0
    active: dict[str, int] = field(default_factory=dict)
    waiting: list[list[Any]] = field(default_factory=list)
    slots: list[list[int]] = field(default_factory=list)
    refused: int = 0

    def available(self, amount: int) -> int:
        """What nobody holds and nobody spent."""
        return max(0, amount - self.spent - self.exposure)

    def exhausted(self, amount: int) -> bool:
        """Whether nothing is left, or less than a call needs that asked for it."""
        return self.spent + max(1, self.refused) > amount

    def sharing(self, now_us: int) -> int:
        """How many accounts share the money now."""
        return sum(1 for heard_us in self.active.values() if heard_us > now_us - ACTIVE_US)

    def wait(self, account: str, now_us: int) -> None:
        """Note that a call of this account waits."""
        self.waiting.append([account, now_us])

    def awaited(self, now_us: int) -> list[str]:
        """Return the accounts whose calls wait, first come first, and forget those whose callers have given up."""
        self.waiting = [entry for entry in self.waiting if entry[1] > now_us - PATIENCE_US]
        return [entry[0] for entry in self.waiting]

    def done_waiting(self, account: str) -> None:
        """Note that no call of this account waits any more."""
        self.waiting = [entry for entry in self.waiting if entry[0] != account]

    def spend(self, delta: int, slot_start_us: int | None) -> None:
        """Add to what was spent; in a rolling pool to the slot of now. Less comes off the oldest slots, as
        they leave first."""
        self.spent += delta
        if slot_start_us is None:
            return
        if delta < 0:
            left = -delta
            for slot in self.slots:
                taken = min(slot[1], left)
                slot[1] -= taken
                left -= taken
            # What had left the window already is not taken off again.
            self.spent += left
        elif self.slots and self.slots[-1][0] >= slot_start_us:
            self.slots[-1][1] += delta
        else:
            self.slots.append([slot_start_us, delta])

    def expire(self, before_us: int, slot_us: int) -> bool:
        """Let the money of slots that end at or before ``before_us`` leave; say whether any did."""
        left = False
        while self.slots and self.slots[0][0] + slot_us <= before_us:
            self.spent -= self.slots.pop(0)[1]
            left = True
        return left

    def encode(self) -> bytes:
        """Return canonical bytes."""
        values = [getattr(self, name) for name in self.__slots__]
        return json.dumps(values, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> Pool:
        """Return the pool that ``encode`` wrote."""
        return cls(*json.loads(data))


def share(*, wanted: int, least: int, available: int, holders: int) -> int:
    """Return how much is granted of ``wanted`` more.

    Nobody gets more than half an equal share of what is left beyond what its waiting call needs (``least``), so leases
    shrink as money runs out and none of it is out of reach of the others. A call that can't be paid gets nothing.
    """
    if least > available:
        return 0
    return min(wanted, available, max(least, available // (2 * max(1, holders))))
