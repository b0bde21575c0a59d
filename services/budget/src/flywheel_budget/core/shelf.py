"""The guard's state during a batch: budgets, pools, accounts, rows and timers, read once and written back once.

Tables: ``budgets`` (terms by project/budget), ``pools`` (by instance and pool), ``accounts`` (by instance and account),
``rows`` (by instance, window, account and source), ``members`` (accounts by instance and window), ``early`` (rows of
budgets whose definition has not come yet), ``timers`` (what is to be done when), ``outlooks`` (by instance) and
``clock``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from flywheel.budget import Budget, Window, budget_key_of, to_usd, window_start, windows_of
from flywheel.stream import StateView
from flywheel_budget.core.entries import Spent
from flywheel_budget.core.outlook import Outlook
from flywheel_budget.core.pools import NO_ROW, Account, Pool, SpendRow

SEP: Final = "\x1f"
_AFTER: Final = "\x20"
ROLLING: Final = "rolling"
"""Name of the one pool of an instance of a rolling budget."""
NEVER_US: Final = 1 << 62
PoolKey = tuple[str, str]


class Shelf:
    """One batch's view of a shard of the guard."""

    def __init__(self, state: StateView) -> None:
        self._state = state
        self._budgets: dict[str, Budget | None] = {}
        self._pools: dict[PoolKey, Pool | None] = {}
        self._accounts: dict[PoolKey, Account | None] = {}
        self._outlooks: dict[str, Outlook] = {}
        self._next_us: int | None = None
        self.now_us = int(state.get("clock", "now") or b"0")

    # -- budgets ------------------------------------------------------------------------------------------------------

    def budget(self, key: str) -> Budget | None:
        """Return the newest terms of a budget."""
        if key not in self._budgets:
            stored = self._state.get("budgets", key)
            self._budgets[key] = None if stored is None else _budget(key, stored)
        return self._budgets[key]

    def keep_budget(self, budget: Budget) -> None:
        """Take over new terms."""
        terms = budget.terms() | {"amount_usd": budget.amount_pico}
        self._state.put("budgets", budget.key, json.dumps(terms, separators=(",", ":"), sort_keys=True).encode())
        self._budgets[budget.key] = budget

    # -- pools --------------------------------------------------------------------------------------------------------

    def pool_key(self, budget: Budget, instance: str, window: str) -> PoolKey:
        """Return the pool that a window's money comes from."""
        return instance, window if budget.rolling_s is None else ROLLING

    def pool(self, key: PoolKey) -> Pool | None:
        """Return a pool, None where nothing has happened in it."""
        if key not in self._pools:
            stored = self._state.get("pools", SEP.join(key))
            self._pools[key] = None if stored is None else Pool.decode(stored)
        return self._pools[key]

    def open_pool(self, key: PoolKey) -> Pool:
        """Return a pool, a new one where there is none."""
        pool = self.pool(key)
        if pool is None:
            pool = self._pools[key] = Pool()
        return pool

    def drop_pool(self, key: PoolKey) -> None:
        """Forget a pool."""
        self._pools[key] = None
        self._state.delete("pools", SEP.join(key))

    def pools_of(self, budget: Budget) -> list[PoolKey]:
        """Return the keys of every pool of a budget, in order."""
        stored = {k for k, _ in self._state.scan("pools", budget.key + SEP, budget.key + _AFTER)}
        stored |= {k for k, _ in self._state.scan("pools", budget.key + "/", budget.key + "0")}
        found = {_pair(name) for name in stored}
        found |= {key for key in self._pools if budget_key_of(key[0]) == budget.key}
        return sorted(key for key in found if self.pool(key) is not None)

    # -- accounts and rows --------------------------------------------------------------------------------------------

    def account(self, instance: str, name: str) -> Account | None:
        """Return an account."""
        key = (instance, name)
        if key not in self._accounts:
            stored = self._state.get("accounts", SEP.join(key))
            self._accounts[key] = None if stored is None else Account.decode(stored)
        return self._accounts[key]

    def open_account(self, instance: str, name: str, account: Account) -> Account:
        """Take in a new account."""
        self._accounts[instance, name] = account
        self._state.put("members", SEP.join((instance, account.window, name)), b"")
        return account

    def members(self, instance: str, window: str) -> list[str]:
        """Return the accounts of a window, by name."""
        front = SEP.join((instance, window))
        return [k[len(front) + 1 :] for k, _ in self._state.scan("members", front + SEP, front + _AFTER)]

    def forget_window(self, instance: str, window: str) -> None:
        """Forget accounts and rows of a window."""
        front = SEP.join((instance, window))
        for name in self.members(instance, window):
            self._accounts[instance, name] = None
            self._state.delete("accounts", SEP.join((instance, name)))
            self._state.delete("members", SEP.join((front, name)))
        for key, _ in list(self._state.scan("rows", front + SEP, front + _AFTER)):
            self._state.delete("rows", key)

    def row(self, entry: Spent) -> SpendRow:
        """Return the newest row of the entry's source."""
        stored = self._state.get("rows", _row_key(entry))
        return NO_ROW if stored is None else SpendRow(*json.loads(stored))

    def keep_row(self, entry: Spent) -> None:
        """Take a row over."""
        self._state.put("rows", _row_key(entry), json.dumps(entry.row, separators=(",", ":")).encode())

    def keep_early(self, budget: str, entry: Spent) -> None:
        """Put a row aside until its budget is known."""
        self._state.put("early", budget + SEP + _row_key(entry), json.dumps(entry, separators=(",", ":")).encode())

    def take_early(self, budget: str) -> list[Spent]:
        """Return the rows put aside for a budget, and forget them."""
        found = list(self._state.scan("early", budget + SEP, budget + _AFTER))
        for key, _ in found:
            self._state.delete("early", key)
        rows = (json.loads(data) for _, data in found)
        return [Spent(i, window, account, source, SpendRow(*row)) for i, window, account, source, row in rows]

    def outlook(self, instance: str) -> Outlook | None:
        """Return the outlook of an instance, None where nothing was ever looked at."""
        if instance not in self._outlooks:
            stored = self._state.get("outlooks", instance)
            if stored is None:
                return None
            self._outlooks[instance] = Outlook.decode(stored)
        return self._outlooks[instance]

    def open_outlook(self, instance: str, outlook: Outlook) -> Outlook:
        """Take in a new outlook."""
        self._outlooks[instance] = outlook
        return outlook

    # -- time ---------------------------------------------------------------------------------------------------------

    def set_timer(self, at_us: int, instance: str, window: str) -> None:
        """Have ``due`` return this window at that time."""
        self._state.put("timers", SEP.join((f"{at_us:020d}", instance, window)), b"")
        if self._next_us is not None:
            self._next_us = min(self._next_us, at_us)

    def due(self) -> Iterator[tuple[int, str, str]]:
        """Take out the timers that are due now: time, instance, window."""
        while self._next() <= self.now_us:
            key, _ = next(iter(self._state.scan("timers", limit=1)))
            self._state.delete("timers", key)
            self._next_us = None
            at, instance, window = key.split(SEP)
            yield int(at), instance, window

    def _next(self) -> int:
        if self._next_us is None:
            first = next(iter(self._state.scan("timers", limit=1)), None)
            self._next_us = NEVER_US if first is None else int(first[0].partition(SEP)[0])
        return self._next_us

    def write(self) -> None:
        """Write back what was taken out."""
        self._state.put("clock", "now", str(self.now_us).encode())
        for key, pool in self._pools.items():
            if pool is not None:
                self._state.put("pools", SEP.join(key), pool.encode())
        for instance, outlook in self._outlooks.items():
            self._state.put("outlooks", instance, outlook.encode())
        for key, account in self._accounts.items():
            if account is not None:
                self._state.put("accounts", SEP.join(key), account.encode())


def window_named(budget: Budget, name: str) -> Window | None:
    """Return the window of this name, None where the budget has none."""
    return windows_of(budget).named(name) if window_start(name) is not None else None


def _row_key(entry: Spent) -> str:
    return SEP.join((entry.instance, entry.window, entry.account, entry.source))


def _pair(name: str) -> PoolKey:
    instance, _, pool = name.partition(SEP)
    return instance, pool


def _budget(key: str, stored: bytes) -> Budget:
    project, _, name = key.partition("/")
    terms = json.loads(stored)
    return Budget.from_terms(project, name, terms | {"amount_usd": to_usd(terms["amount_usd"])})
