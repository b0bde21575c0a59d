"""What the guard tells: leases to holders, states to everybody."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from flywheel.budget import Budget, Window, budget_key_of, scope_of, to_usd, window_id
from flywheel.events import event_id
from flywheel.stream import Output
from flywheel_budget.core.entries import Asked
from flywheel_budget.core.pools import ACTIVE_US, Account, Pool
from flywheel_budget.core.shelf import ROLLING, PoolKey, Shelf, window_named

LEASES: Final = "budget-leases"
STATES: Final = "budget-states"


class Place(NamedTuple):
    """Where in the ledger something is told: the broker's time, partition and offset, and the how-manieth of that
    entry.
    """

    now_us: int
    partition: int
    offset: int
    ordinal: int

    def id_of(self, kind: str) -> str:
        """Return the id of an event told here: the same whenever the same entry is read."""
        return event_id(kind, self.partition, self.offset, self.ordinal)


def account_lease(
    budget: Budget,
    instance: str,
    name: str,
    account: Account,
    pool: Pool,
    *,
    window: Window | None,
    closed: bool,
    place: Place,
    ttl_s: float,
) -> Output:
    """Return the answer to an account's newest request."""
    value = {
        "event_id": place.id_of("lease"),
        "project": budget.project,
        "budget": budget.name,
        "occurred_at": place.now_us,
        "instance": instance,
        "account": name,
        "holder": account.holder,
        "window": account.window,
        "window_start": None if window is None else window.start_us,
        "window_end": None if window is None else window.end_us,
        "seq": account.seq,
        "granted_usd": to_usd(account.granted),
        "available_usd": to_usd(pool.available(budget.amount_pico)),
        "ttl_s": ttl_s,
        "scarce": account.scarce or bool(pool.waiting),
        "exhausted": account.reason == "exhausted",
        "closed": closed,
        "reason": account.reason,
    }
    return Output(LEASES, name, "lease", value, budget.key)


def unknown_lease(request: Asked, place: Place, ttl_s: float) -> Output:
    """Return the answer about a budget that nobody has declared: what is reserved, and nothing more."""
    return _bare_lease(request, place, ttl_s, closed=request.closing, reason="unknown_budget")


def forgotten_lease(request: Asked, place: Place, ttl_s: float) -> Output:
    """Return the answer about an account of a window that is forgotten: it is over."""
    return _bare_lease(request, place, ttl_s, closed=True, reason="window_over")


def _bare_lease(request: Asked, place: Place, ttl_s: float, *, closed: bool, reason: str) -> Output:
    key = budget_key_of(request.instance)
    project, _, name = key.partition("/")
    value = {
        "event_id": place.id_of("lease"),
        "project": project,
        "budget": name,
        "occurred_at": place.now_us,
        "instance": request.instance,
        "account": request.account,
        "holder": request.holder,
        "window": request.window,
        "seq": request.seq,
        "granted_usd": to_usd(request.reserved),
        "available_usd": to_usd(0),
        "ttl_s": ttl_s,
        "closed": closed,
        "reason": reason,
    }
    return Output(LEASES, request.account, "lease", value, key)


def state_of(budget: Budget, key: PoolKey, pool: Pool, shelf: Shelf, place: Place) -> Output | None:
    """Return where a pool stands as of the entry that touched it last; None when its window is not the present one."""
    instance, name = key
    if name == ROLLING:
        length_us = (budget.rolling_s or 0) * 1_000_000
        window = Window(window_id(place.now_us - length_us), place.now_us - length_us, place.now_us)
    else:
        found = window_named(budget, name)
        if found is None or not found.start_us <= place.now_us < found.end_us:
            return None
        window = found
    held = 0
    for account_name, heard_us in pool.active.items():
        account = shelf.account(instance, account_name)
        if account is not None and heard_us > place.now_us - ACTIVE_US:
            held += account.exposure
    value: dict[str, Any] = {
        "event_id": event_id("budget_state", instance, place.partition, place.offset),
        "project": budget.project,
        "budget": budget.name,
        "occurred_at": place.now_us,
        "instance": instance,
        "scope": scope_of(budget, instance),
        "revision": budget.revision,
        "mode": budget.mode,
        "ended": budget.ended,
        "amount_usd": to_usd(budget.amount_pico),
        "window": name,
        "window_start": window.start_us,
        "window_end": window.end_us,
        "spent_usd": to_usd(pool.spent),
        "exposure_usd": to_usd(pool.exposure),
        "available_usd": to_usd(pool.available(budget.amount_pico)),
        "stranded_usd": to_usd(pool.exposure - held),
        "calls": pool.calls,
        "unpriced": pool.unpriced,
        "above_bound": pool.above_bound,
        "holders": len(pool.active),
        "exhausted": pool.exhausted(budget.amount_pico),
    }
    outlook = shelf.outlook(instance)
    if outlook is not None:
        value["price_of_money"] = outlook.pressure.price_of_money
        if outlook.figures and (name == ROLLING or outlook.figures[3] == window.start_us):
            mean, low, high = (to_usd(pico) for pico in outlook.figures[:3])
            value |= {"forecast_usd": mean, "forecast_low_usd": low, "forecast_high_usd": high}
    return Output(STATES, instance, "budget_state", value, budget.key)
