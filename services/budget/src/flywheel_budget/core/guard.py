"""Stage 2: the guard. Grants leases out of the ledger, the single writer of every budget in its partition.

The ledger holds definitions, what was spent and what holders ask for in one order, each entry with the broker's time.
State and leases are a function of that order alone: read again, in any batches, it gives the same bytes. There is no
other clock, so nothing is taken back because somebody was silent: a frozen process may still use what it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flywheel.budget import Budget, BudgetInvalid, Window, budget_key_of, changed_identity, slot_us, windows_of
from flywheel.stream import Event, FoldResult, Output, Reject, Skip, StateView, check_form
from flywheel_budget.core.entries import TICK, Asked, Spent, asked, spent
from flywheel_budget.core.outlook import Alerts, Outlook, alert_output
from flywheel_budget.core.pools import Account, Pool, share
from flywheel_budget.core.published import Place, account_lease, forgotten_lease, state_of, unknown_lease
from flywheel_budget.core.shelf import ROLLING, PoolKey, Shelf, window_named

FORM: Final = 2
"""Of the state; another one when what the tables hold changes."""
KEEP_US: Final = 3 * 86_400 * 1_000_000
"""How long after its end a window's rows are kept: as long as calls that are late may still be counted."""
AHEAD_US: Final = 60_000_000
"""How long before a window begins its money may be leased, so that nobody waits at the turn."""


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """``ttl_s``: what lies idle longer is given back."""

    ttl_s: float = 10.0


class GuardFold:
    """The fold of stage 2."""

    def __init__(self, settings: GuardSettings | None = None) -> None:
        self._settings = settings or GuardSettings()

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
        """Take a batch of entries; answer each request, publish each pool that changed."""
        check_form(state, FORM, stage="budget-guard", shard=shard)
        batch = _Batch(Shelf(state), self._settings)
        verdicts: dict[int, Skip | Reject] = {}
        for index, event in enumerate(events):
            verdict = batch.take(event)
            if verdict is not None:
                verdicts[index] = verdict
        return FoldResult(batch.finish(), verdicts)


class _Batch:
    def __init__(self, shelf: Shelf, settings: GuardSettings) -> None:
        self._shelf, self._settings = shelf, settings
        self._outputs: list[Output] = []
        self._touched: dict[PoolKey, tuple[Budget, Place]] = {}
        self._place = Place(0, 0, 0, 0)

    def take(self, event: Event) -> Skip | Reject | None:
        if event.event != "budget_entry":
            return Skip("not_an_input")
        shelf, raw = self._shelf, event.raw
        shelf.now_us = max(shelf.now_us, raw.timestamp_ms * 1000)
        self._place = Place(shelf.now_us, raw.partition, raw.offset, 0)
        for at_us, instance, window in shelf.due():
            self._window_over(at_us, instance, window)
        value = event.value
        if value["kind"] == TICK:
            return None
        key = f"{value['project']}/{value['budget']}"
        if value["kind"] == "definition":
            return self._define(key, value)
        if value["kind"] == "request":
            request = asked(value)
            return request if isinstance(request, Reject) else self._ask(key, request)
        if value["kind"] == "spend":
            row = spent(value)
            return row if isinstance(row, Reject) else self._spend(key, row)
        return Reject("unknown_kind", "kind", f"{value['kind']!r} is none of definition, spend, request, tick")

    def finish(self) -> list[Output]:
        """Write the state; return answers in the order they were given, then the pools that changed."""
        states = []
        for key in sorted(self._touched):
            pool = self._shelf.pool(key)
            budget, place = self._touched[key]
            state = None if pool is None else state_of(budget, key, pool, self._shelf, place)
            if state is not None:
                states.append(state)
        self._shelf.write()
        return [*self._outputs, *states]

    # -- definitions --------------------------------------------------------------------------------------------------

    def _define(self, key: str, value: Mapping[str, Any]) -> Skip | Reject | None:
        if value["terms"] is None:
            return Reject("budget_invalid", "terms", "a definition must have them")
        try:
            budget = Budget.from_terms(value["project"], value["budget"], value["terms"])
        except BudgetInvalid as error:
            return Reject("budget_invalid", f"terms.{error.field}", error.message)
        known = self._shelf.budget(key)
        if known is not None:
            changed = changed_identity(known, budget)
            if changed is not None:
                return Reject("identity_changed", f"terms.{changed}", "never changes under one name")
            if budget.revision <= known.revision:
                return Skip("older")
        self._shelf.keep_budget(budget)
        if known is None:
            for row in self._shelf.take_early(key):
                self._spend(key, row)
        if not budget.each:  # shown before anything is spent
            window = windows_of(budget).at(self._shelf.now_us)
            pool = self._shelf.open_pool(self._open(budget, budget.key, window))
            self._look(budget, budget.key, window, pool, 0)
        for pool_key in self._shelf.pools_of(budget):
            pool = self._shelf.open_pool(pool_key)
            self._touch(budget, pool_key)
            self._serve(budget, pool_key, pool)
        return None

    # -- requests -----------------------------------------------------------------------------------------------------

    def _ask(self, key: str, request: Asked) -> Skip | Reject | None:
        shelf = self._shelf
        budget = shelf.budget(key)
        if budget is None:
            self._outputs.append(unknown_lease(request, self._next_place(), self._settings.ttl_s))
            return Skip("unknown_budget")
        if len(request.instance.split("/")) != 2 + len(budget.each):
            return Reject("out_of_range", "instance", f"must have a value for each of {list(budget.each)}")
        account = shelf.account(request.instance, request.account)
        if account is None:
            window = self._window_of(budget, request.window)
            if window is None:
                return Reject("out_of_range", "window", "the budget has no such window, or not yet")
            if _kept_until(budget, window) <= shelf.now_us:
                self._outputs.append(forgotten_lease(request, self._next_place(), self._settings.ttl_s))
                return Skip("too_late")
            self._open(budget, request.instance, window)
            account = shelf.open_account(request.instance, request.account, Account(window.id, request.holder))
        pool_key = shelf.pool_key(budget, request.instance, account.window)
        pool = self._fresh(budget, pool_key)
        if request.seq < account.seq:
            return Skip("older")
        if request.seq > account.seq:
            before = account.exposure
            self._heard(budget, account, pool, request)
            pool.exposure += account.exposure - before
            self._share(budget, account, pool, request)
            self._touch(budget, pool_key)
        self._answer(budget, request.instance, request.account, account, pool)
        if pool.awaited(shelf.now_us):
            self._serve(budget, pool_key, pool)
            self._press(budget, pool_key, pool)
        return None

    def _window_of(self, budget: Budget, name: str) -> Window | None:
        windows = windows_of(budget)
        now = windows.at(self._shelf.now_us)
        window = window_named(budget, name) if name else now
        return window if window is not None and window.start_us <= windows.after(now).start_us else None

    def _heard(self, budget: Budget, account: Account, pool: Pool, request: Asked) -> None:
        """Take in what a holder says of an account: what it reserved, what it gives back, that it closes."""
        account.seq = request.seq
        account.scarce = False
        account.reserved = max(account.reserved, request.reserved)
        # More than was granted is a holder's fault; what it says it reserved counts all the same.
        account.granted = max(account.granted, account.reserved)
        if request.closing:
            account.closed = True
        if account.closed:
            account.granted = account.reserved
        elif request.wanted < account.granted:
            account.granted = max(request.wanted, account.reserved)
        account.wanted, account.needed = request.wanted, 0
        pool.done_waiting(request.account)
        if account.closed:
            pool.active.pop(request.account, None)
        else:
            pool.active[request.account] = self._shelf.now_us

    def _share(self, budget: Budget, account: Account, pool: Pool, request: Asked) -> None:
        """Grant what may be granted of what is asked, and say why it is what it is."""
        if account.closed:
            account.reason = "closed"
            return
        if budget.ended or not self._leasing(budget, account.window):
            account.reason = "ended" if budget.ended else "window_over"
            return
        wanted = account.wanted - account.granted
        if wanted <= 0:
            account.reason = "granted" if request.wanted == account.granted else "returned"
            return
        least = max(0, request.reserved + request.need - account.granted) if request.need else 0
        available = pool.available(budget.amount_pico)
        now_us = self._shelf.now_us
        extra = share(wanted=max(wanted, least), least=least, available=available, holders=pool.sharing(now_us))
        if pool.awaited(now_us):
            # What is over goes to calls that wait, not to stocks.
            extra = min(extra, least)
        account.granted += extra
        pool.exposure += extra
        if least and extra < least:
            account.reason = "exhausted" if budget.amount_pico - pool.spent < request.need else "wait"
            if account.reason == "exhausted":
                pool.refused = min(pool.refused or request.need, request.need)
                self._look(budget, request.instance, windows_of(budget).named(account.window), pool, 0)
            if account.reason == "wait":
                account.needed = account.reserved + request.need
                pool.wait(request.account, now_us)
        else:
            account.reason = "granted" if extra >= wanted else "partial"

    def _leasing(self, budget: Budget, window: str) -> bool:
        found = window_named(budget, window)
        return found is not None and found.start_us - AHEAD_US <= self._shelf.now_us < found.end_us

    def _press(self, budget: Budget, pool_key: PoolKey, pool: Pool) -> None:
        """Ask those who hold what they have not reserved to give it back, once for each of their requests."""
        waiting = pool.awaited(self._shelf.now_us)
        for name in sorted(pool.active) if waiting else ():
            account = self._shelf.account(pool_key[0], name)
            if account is not None and account.idle and not account.scarce and name not in waiting:
                account.scarce = True
                self._answer(budget, pool_key[0], name, account, pool)

    def _serve(self, budget: Budget, pool_key: PoolKey, pool: Pool) -> None:
        """Grant calls that wait exactly what they need, as far as there is money, in the order they asked."""
        for name in pool.awaited(self._shelf.now_us):
            account = self._shelf.account(pool_key[0], name)
            if account is None or account.closed or budget.ended or not self._leasing(budget, account.window):
                pool.done_waiting(name)
                continue
            least = account.needed - account.granted
            if least > pool.available(budget.amount_pico):
                continue
            account.granted += least
            pool.exposure += least
            account.reason = "partial"
            pool.done_waiting(name)
            self._touch(budget, pool_key)
            self._answer(budget, pool_key[0], name, account, pool)

    # -- money spent --------------------------------------------------------------------------------------------------

    def _spend(self, key: str, entry: Spent) -> Skip | Reject | None:
        shelf = self._shelf
        budget = shelf.budget(key)
        if budget is None:
            shelf.keep_early(key, entry)
            return None
        window = window_named(budget, entry.window)
        if window is None:
            return Reject("out_of_range", "window", "the budget has no such window")
        if _kept_until(budget, window) <= shelf.now_us:
            return Skip("too_late")
        known = shelf.row(entry)
        if entry.row.version <= known.version:
            return Skip("older")
        shelf.keep_row(entry)
        pool_key = self._open(budget, entry.instance, window)
        pool = self._fresh(budget, pool_key)
        slot = None if budget.rolling_s is None else shelf.now_us // slot_us(budget) * slot_us(budget)
        pool.spend(entry.row.spent - known.spent, slot)
        pool.calls += entry.row.calls - known.calls
        pool.unpriced += entry.row.unpriced - known.unpriced
        pool.above_bound += entry.row.above_bound - known.above_bound
        self._look(budget, entry.instance, window, pool, entry.row.spent - known.spent)
        if entry.account:
            self._settle(entry, entry.row.settled - known.settled, pool, window)
        self._touch(budget, pool_key)
        self._serve(budget, pool_key, pool)
        return None

    def _settle(self, entry: Spent, delta: int, pool: Pool, window: Window) -> None:
        account = self._shelf.account(entry.instance, entry.account)
        if account is None:  # its requests are older than the ledger reaches
            account = self._shelf.open_account(entry.instance, entry.account, Account(window.id))
        before = account.exposure
        account.settled += delta
        pool.exposure += account.exposure - before

    def _look(self, budget: Budget, instance: str, window: Window | None, pool: Pool, delta: int) -> None:
        """Say what has to be said of a pool, if its window is the present one."""
        now_us = self._shelf.now_us
        if window is None or (budget.rolling_s is None and not window.start_us <= now_us < window.end_us):
            return
        outlook = self._shelf.outlook(instance)
        if outlook is None:
            outlook = self._shelf.open_outlook(instance, Outlook.begun(budget, window, now_us))
        self._say(budget, instance, outlook.look(budget, instance, window, pool, delta=delta, now_us=now_us))
        if outlook.said.firing:
            self._look_again(budget, instance, window, pool)

    def _say(self, budget: Budget, instance: str, news: Alerts) -> None:
        self._outputs += [alert_output(budget, instance, alert) for alert in news]

    def _look_again(self, budget: Budget, instance: str, window: Window, pool: Pool) -> None:
        """Have a look taken when what fires may be over, though nobody spends anything: at the end of the window, or
        when money leaves a rolling one."""
        if budget.rolling_s is None:
            self._shelf.set_timer(window.end_us, instance, window.id)
        elif pool.slots:
            leaves_us = pool.slots[0][0] + slot_us(budget) + budget.rolling_s * 1_000_000
            self._shelf.set_timer(leaves_us, instance, ROLLING)

    # -- time ---------------------------------------------------------------------------------------------------------

    def _open(self, budget: Budget, instance: str, window: Window) -> PoolKey:
        """Return the pool of a window; a new window gets its timers."""
        shelf = self._shelf
        key = shelf.pool_key(budget, instance, window.id)
        shelf.open_pool(key)
        if budget.rolling_s is not None:
            shelf.set_timer(window.end_us + budget.rolling_s * 1_000_000, instance, window.id)
        shelf.set_timer(_kept_until(budget, window), instance, window.id)
        return key

    def _fresh(self, budget: Budget, key: PoolKey) -> Pool:
        """Return a pool as of now: what has left a rolling window is gone."""
        pool = self._shelf.open_pool(key)
        if budget.rolling_s is not None:
            gone_us = self._shelf.now_us - budget.rolling_s * 1_000_000
            if pool.expire(gone_us, slot_us(budget)):
                self._touch(budget, key)
        return pool

    def _window_over(self, at_us: int, instance: str, name: str) -> None:
        """A window is over, and with it what was said of it. A rolling one has passed the end of an epoch: its accounts
        expose nothing any more; or money has left it. Later: it is forgotten.
        """
        budget = self._shelf.budget(budget_key_of(instance))
        if budget is None:
            return
        key = self._shelf.pool_key(budget, instance, name)
        if name == ROLLING:
            self._look(budget, instance, windows_of(budget).at(self._shelf.now_us), self._fresh(budget, key), 0)
            return
        window = window_named(budget, name)
        if window is None:
            return
        if budget.rolling_s is not None:
            pool = self._fresh(budget, key)
            for member in self._shelf.members(instance, name):
                account = self._shelf.account(instance, member)
                if account is not None and account.counted:
                    pool.exposure -= account.exposure
                    account.counted = False
                    pool.active.pop(member, None)
                    pool.done_waiting(member)
            self._touch(budget, key)
        elif (outlook := self._shelf.outlook(instance)) is not None:
            pool = self._shelf.open_pool(key)
            self._say(budget, instance, outlook.lapse(budget, instance, window, pool, now_us=self._shelf.now_us))
        if at_us >= _kept_until(budget, window):
            self._shelf.forget_window(instance, name)
            if budget.rolling_s is None:
                self._shelf.drop_pool(key)

    # -- what is told -------------------------------------------------------------------------------------------------

    def _touch(self, budget: Budget, key: PoolKey) -> None:
        self._touched[key] = (budget, self._place)

    def _next_place(self) -> Place:
        self._place = self._place._replace(ordinal=self._place.ordinal + 1)
        return self._place

    def _answer(self, budget: Budget, instance: str, name: str, account: Account, pool: Pool) -> None:
        window = window_named(budget, account.window)
        over = budget.ended or window is None or window.end_us <= self._shelf.now_us
        lease = account_lease(
            budget, instance, name, account, pool, window=window, closed=account.closed or over,
            place=self._next_place(), ttl_s=self._settings.ttl_s,
        )  # fmt: skip
        self._outputs.append(lease)


def _kept_until(budget: Budget, window: Window) -> int:
    return window.end_us + (budget.rolling_s or 0) * 1_000_000 + KEEP_US
