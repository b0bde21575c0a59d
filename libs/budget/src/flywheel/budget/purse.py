"""The holder's side of leases: what a deciding process may still reserve, and what it asks the guard for. Pure.

An account belongs to one life of one holder, to one instance of a budget and one of its windows. Everything said about
it is absolute and only grows (all bounds ever reserved, the limit ever granted), so an answer that is lost, repeated or
late does no harm. The rules that make the sum over all holders safe:

- nothing is reserved above the limit of the newest answer to the newest request;
- a request that gives money back lowers the limit here before it is sent;
- a repeated request says what it said before, and anything new has a higher ``seq``;
- once an account closes, nothing is reserved from it, and its last request (``CLOSING_SEQ``) is the same whoever sends
  it, this process or the one that comes after it.

How much to ask for follows the rate at which the account is used: what is used in ``horizon_s``, asked for before half
of it is gone, so a deciding process waits for its first lease and near the end of the money, and not in between.

Money is integer picodollars (1e-12 USD), time is seconds of the holder's own monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from flywheel.budget.leases import CLOSING_SEQ, Lease, LeaseRequest, Left, Reservation, Standing

MOST_RESERVED_PICO: Final = 1 << 62
"""An account that reserved this much (4.6 million USD) is closed and another opened, as its file holds 64 bits."""

_SMOOTHING_S: Final = 1.0
_AHEAD_S: Final = 10.0
_FIRST_CALLS: Final = 8
"""A first lease is for so many calls, as nothing is known of the rate; what is too much comes back."""
_SCARCE_S: Final = 0.5
_LONGEST_RESEND_S: Final = 10.0
_REFUSED_S: Final = 2.0
_FIRST_RETRY_S: Final = 0.1
_LONGEST_RETRY_S: Final = 1.0


@dataclass(slots=True, eq=False)
class _Account:
    name: str
    instance: str
    window: str = ""
    window_end_us: int | None = None
    ends_s: float | None = None
    next_window: str = ""
    seq: int = 0
    reserved: int = 0
    limit: int = 0
    asked: LeaseRequest | None = None
    asked_s: float = 0.0
    sent_s: float = 0.0
    resend_s: float = 0.0
    closing: bool = False
    ttl_s: float = 60.0
    scarce: bool = False
    short: bool = False
    exhausted: bool = False
    refused_s: float = -1e9
    retry_s: float = 0.0
    next_ask_s: float = -1e9
    need: int = 0
    waiting: int = 0
    counted: int = 0
    rate: float = 0.0
    rated_s: float = 0.0
    used_s: float = 0.0
    largest: int = 0
    idle_since_s: float | None = None

    @property
    def room(self) -> int:
        return self.limit - self.reserved


class Purse:
    """Everything one life of a deciding process may reserve, by instance of a budget."""

    def __init__(self, life: str, *, horizon_s: float = 5.0, resend_s: float = 1.0) -> None:
        """``life`` is unique to this life of the process; ``horizon_s``: a lease lasts about so long at the present
        rate; ``resend_s``: an answer is waited for so long at first."""
        self._life = life
        self._horizon_s = horizon_s
        self._resend_s = resend_s
        self._number = 0
        self._open: dict[str, _Account] = {}
        self._ahead: dict[str, _Account] = {}
        self._known: dict[str, _Account] = {}
        self._due: dict[str, _Account] = {}
        self._later: dict[str, _Account] = {}
        self._closing_all = False

    # -- reserving ----------------------------------------------------------------------------------------------------

    def room_pico(self, instances: Iterable[str], now_s: float) -> int:
        """The largest bound that all of ``instances`` could pay now; 0 where one has no lease."""
        least = MOST_RESERVED_PICO
        for instance in instances:
            account = self._open.get(instance)
            if account is None:
                return 0
            if account.ends_s is not None and now_s >= account.ends_s:
                account = self._turn(account, now_s)
                if account is None:
                    return 0
            room = account.limit - account.reserved
            least = min(least, room)
        return least

    def fair_pico(self, instances: Sequence[str], now_s: float) -> int:
        """What one call may take beyond its need: all there is, or a share of it where the guard last gave less than
        was asked for, or wants some back. What one call takes then, others go without until it is settled."""
        room = self.room_pico(instances, now_s)
        short = any(account is not None and account.short for account in map(self._open.get, instances))
        return room // _FIRST_CALLS if short else room

    def reserve(self, instances: Sequence[str], bound_pico: int, now_s: float) -> tuple[Reservation, ...] | None:
        """Take ``bound_pico`` from every instance, or from none: None when one of them cannot pay."""
        if self.room_pico(instances, now_s) < bound_pico:
            return None
        made = []
        for instance in instances:
            account = self._open[instance]
            account.reserved += bound_pico
            account.used_s = now_s
            account.largest = max(account.largest, bound_pico)
            low = (account.limit - account.reserved) * 2 < account.rate * self._horizon_s + 2 * account.largest
            if low and account.asked is None:
                self._due[account.name] = account
            made.append(Reservation(instance, account.window, account.name, bound_pico, account.reserved))
        return tuple(made)

    def cancel(self, reservations: Iterable[Reservation]) -> None:
        """Take back what was reserved last, before anything else was: the decision was not logged and so not made."""
        for each in reservations:
            account = self._known[each.account]
            if account.reserved != each.cumulative_pico:
                raise ValueError(f"{each.account}: only the last reservation can be cancelled")
            account.reserved -= each.bound_pico

    def want(self, instances: Iterable[str], need_pico: int, now_s: float, *, most_pico: int | None = None) -> None:
        """Say that a call waits for ``need_pico`` of each instance that has less; opens accounts as needed.

        ``most_pico``: what it would take if there were enough.
        """
        most_pico = need_pico if most_pico is None else most_pico
        if self._closing_all:
            return
        for instance in instances:
            account = self._open.get(instance)
            if account is not None and account.ends_s is not None and now_s >= account.ends_s:
                account = self._turn(account, now_s)
            if account is None:
                account = self._open[instance] = self._new(instance, now_s)
            if account.room < need_pico:
                account.need = min(account.need, need_pico) if account.need else need_pico
                account.waiting += most_pico
                account.used_s = now_s
                account.largest = max(account.largest, most_pico)
                self._due[account.name] = account

    def wish(self, instances: Iterable[str], bound_pico: int, now_s: float) -> None:
        """Say that a call went without ``bound_pico``, though none waits: there should be so much next time."""
        for instance in instances:
            account = self._open.get(instance)
            if account is not None and bound_pico > account.largest:
                account.largest = bound_pico
                account.used_s = now_s
            if account is not None and account.asked is None:
                self._due[account.name] = account

    def lacking(self, instances: Iterable[str], need_pico: int, now_s: float) -> list[str]:
        """Those of ``instances`` that cannot pay ``need_pico`` now."""
        return [each for each in instances if self.room_pico((each,), now_s) < need_pico]

    def standing(self, instance: str, now_s: float) -> Standing:
        """What the guard last said of an instance, if it said no within the last two seconds."""
        account = self._open.get(instance)
        if account is None:
            return Standing(False, None)
        refused = account.exhausted and now_s - account.refused_s < _REFUSED_S
        return Standing(refused, account.window_end_us)

    # -- talking to the guard -----------------------------------------------------------------------------------------

    @property
    def due(self) -> bool:
        """Whether an account wants to be looked at before the next `sweep`."""
        return bool(self._due)

    @property
    def next_s(self) -> float | None:
        """When an account that was asked for too recently may be asked for again; None: there is none."""
        return min((account.next_ask_s for account in self._later.values()), default=None)

    def requests(self, now_s: float) -> list[LeaseRequest]:
        """What is to be sent now: for accounts that changed since the last time."""
        due, self._due, self._later = {**self._later, **self._due}, {}, {}
        return self._asking(due.values(), now_s)

    def sweep(self, now_s: float) -> list[LeaseRequest]:
        """Look at every account (call it about four times a second): rates, windows that ended, money that lies idle,
        requests that got no answer; return what is to be sent now."""
        for account in list(self._open.values()):
            self._rate(account, now_s)
            if account.ends_s is not None and now_s >= account.ends_s - _AHEAD_S:
                if now_s >= account.ends_s:
                    self._turn(account, now_s)
                    continue
                self._look_ahead(account, now_s)
            unused = now_s - account.used_s > 2 * account.ttl_s and account.asked is None
            if unused or account.reserved > MOST_RESERVED_PICO >> 1:
                self._close(account)
        self._due, self._later = {}, {}
        return self._asking(list(self._known.values()), now_s)

    def unsent(self, requests: Iterable[LeaseRequest]) -> None:
        """These could not be sent: they are due again at the next `sweep`."""
        for request in requests:
            account = self._known.get(request.account)
            if account is not None and account.asked == request:
                account.sent_s = -1e9

    def apply(self, lease: Lease, now_s: float) -> bool:
        """Take an answer; say whether it was to the newest request of an account held here.

        Anything else (another holder's, an older answer) changes nothing. The end of the window is reckoned from the
        time the request was sent, on this clock, so it is early rather than late and no two clocks are compared.
        """
        account = self._known.get(lease.account)
        if account is None or lease.seq != account.seq:
            return False
        if account.closing:
            if lease.closed:
                del self._known[account.name]
            return lease.closed
        asked, account.asked = account.asked, None
        if lease.closed:  # by the guard: its window is over, or the budget has ended
            account.limit = account.reserved
            if self._open.get(account.instance) is account:
                self._turn(account, now_s)
            else:
                self._close(account)
            return True
        # Of two answers to one request the larger is the later one.
        before, account.limit = account.limit, max(lease.granted_pico, account.limit)
        account.next_window = lease.next_window
        account.window, account.window_end_us = lease.window, lease.window_end_us
        if asked is not None:
            account.ends_s = None if lease.lasts_s is None else account.asked_s + lease.lasts_s
            account.short = account.limit < asked.limit_wanted_pico
            self._answered(account, asked, account.limit - before, now_s)
            if asked.need_pico or account.limit > before:  # else nobody asked what there is for a call
                account.exhausted = lease.exhausted
        account.ttl_s, account.scarce = lease.ttl_s, lease.scarce
        account.short = account.short or lease.scarce
        self._due[account.name] = account
        return True

    def holds(self, account: str) -> bool:
        """Whether the account is still of concern: not closed, or the guard has not confirmed it."""
        return account in self._known

    def inherit(self, accounts: Iterable[Left], now_s: float) -> None:
        """Close what a life that is over has left."""
        for left in accounts:
            if left.account not in self._known:
                account = _Account(left.account, left.instance, left.window, reserved=left.reserved_pico, rated_s=now_s)
                self._known[left.account] = account
                self._shut(account)

    def close_all(self) -> None:
        """Reserve nothing any more and give everything back: the process stops."""
        self._closing_all = True
        for account in list(self._open.values()):
            self._close(account)

    @property
    def closing(self) -> int:
        """Accounts whose closing the guard has not confirmed."""
        return len(self._known) - len(self._open) - len(self._ahead)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _new(self, instance: str, now_s: float, window: str = "") -> _Account:
        self._number += 1
        account = _Account(f"{self._life}-{self._number}", instance, window, rated_s=now_s, used_s=now_s)
        self._known[account.name] = account
        return account

    def _look_ahead(self, account: _Account, now_s: float) -> None:
        """Open the account of the next window before this one ends, with what this one uses, so that nobody waits at
        the turn."""
        in_use = now_s - account.used_s < account.ttl_s
        if in_use and account.next_window and account.instance not in self._ahead:
            ahead = self._ahead[account.instance] = self._new(account.instance, now_s, account.next_window)
            ahead.rate, ahead.largest, ahead.ttl_s = account.rate, account.largest, account.ttl_s
            ahead.waiting = ahead.largest

    def _turn(self, account: _Account, now_s: float) -> _Account | None:
        """End an account whose window is over; return the one of the next window, if it is open already."""
        ahead = self._ahead.pop(account.instance, None)
        self._close(account)
        if ahead is None:
            return None
        if ahead.ends_s is not None and now_s >= ahead.ends_s:  # a process that slept through a whole window
            self._close(ahead)
            return None
        self._open[ahead.instance] = ahead
        return ahead

    def _close(self, account: _Account) -> None:
        if self._ahead.get(account.instance) is account:
            del self._ahead[account.instance]
        if self._open.get(account.instance) is account:
            del self._open[account.instance]
            ahead = self._ahead.get(account.instance)
            if ahead is not None:
                self._close(ahead)
        if account.seq == 0:  # the guard has never heard of it, nor has the file
            del self._known[account.name]
            return
        self._shut(account)

    def _shut(self, account: _Account) -> None:
        account.closing, account.limit = True, account.reserved
        account.seq, account.asked = CLOSING_SEQ, None
        self._due[account.name] = account

    def _asking(self, accounts: Iterable[_Account], now_s: float) -> list[LeaseRequest]:
        found = [self._request(account, now_s) for account in accounts if self._known.get(account.name) is account]
        return [each for each in found if each is not None]

    def _rate(self, account: _Account, now_s: float) -> None:
        """Exponentially weighted rate of use (picodollars a second)."""
        passed_s = now_s - account.rated_s
        if passed_s <= 0:
            return
        fresh = (account.reserved - account.counted) / passed_s
        weight = min(1.0, passed_s / _SMOOTHING_S)
        account.rate += weight * (fresh - account.rate)
        account.counted, account.rated_s = account.reserved, now_s
        account.largest -= account.largest >> 7  # forgotten by half in some 20 s of sweeps

    def _target(self, account: _Account, now_s: float) -> int:
        """What should be free for use: by the rate, and at least the largest call while there are any."""
        target = int(account.rate * (_SCARCE_S if account.scarce else self._horizon_s))
        if account.scarce:
            return target if target >= account.largest else 0
        return max(target, 2 * account.largest) if now_s - account.used_s < account.ttl_s else 0

    def _request(self, account: _Account, now_s: float) -> LeaseRequest | None:
        if account.asked is not None:
            return self._again(account, now_s)
        if account.closing:
            return self._ask(account, account.reserved, now_s)
        target = self._target(account, now_s)
        if max(account.need, account.waiting) > account.room or account.room * 2 < target:
            if now_s < account.next_ask_s:
                self._later[account.name] = account
                return None
            first = 0 if account.seq or account.scarce else _FIRST_CALLS * account.largest
            extra = max(target, account.waiting, account.need, account.room, first)
            return self._ask(account, account.reserved + extra, now_s)
        if account.room <= 2 * target or account.seq == 0:
            account.idle_since_s = None
            return None
        if account.idle_since_s is None:
            account.idle_since_s = now_s
        if account.scarce or now_s - account.idle_since_s >= account.ttl_s:
            account.idle_since_s = None
            return self._ask(account, account.reserved + target, now_s)
        return None

    def _again(self, account: _Account, now_s: float) -> LeaseRequest | None:
        if now_s - account.sent_s < account.resend_s:
            return None
        account.sent_s, account.resend_s = now_s, min(2 * account.resend_s, _LONGEST_RESEND_S)
        return account.asked

    def _ask(self, account: _Account, limit_wanted: int, now_s: float) -> LeaseRequest:
        if not account.closing:
            account.seq += 1
        account.limit = min(account.limit, limit_wanted)
        need = 0 if account.closing or account.need <= account.room else account.need
        account.asked = LeaseRequest(
            account.name, account.instance, account.window, account.seq, account.reserved, limit_wanted, need,
            account.closing,
        )  # fmt: skip
        account.asked_s = account.sent_s = now_s
        account.resend_s = self._resend_s
        account.need = account.waiting = 0
        return account.asked

    def _answered(self, account: _Account, asked: LeaseRequest, gained_pico: int, now_s: float) -> None:
        """Ask again soon after an answer that was too little, and ever later while nothing comes."""
        if account.limit >= asked.limit_wanted_pico:
            account.retry_s = 0.0
        elif gained_pico > 0 and account.limit >= asked.reserved_pico + asked.need_pico:
            account.retry_s = 0.0 if asked.need_pico else _FIRST_RETRY_S
        else:
            account.refused_s = now_s
            account.retry_s = min(2 * account.retry_s, _LONGEST_RETRY_S) if account.retry_s else _FIRST_RETRY_S
        account.next_ask_s = now_s + account.retry_s
