"""The router's end of the ledger: follows budgets, leases and states, sends requests, keeps the accounts file, and
gives everything back when the router stops."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from flywheel.budget.accounts import AccountsFile, dead_accounts, open_accounts
from flywheel.budget.bounds import Bounds
from flywheel.budget.declared import BudgetInvalid
from flywheel.budget.leases import Lease, LeaseRequest
from flywheel.budget.money import to_pico, to_usd
from flywheel.budget.purse import Purse
from flywheel.budget.scopes import budget_key_of
from flywheel.budget.windows import window_id
from flywheel.events import Codec, event_id, headers
from flywheel.observe import Metrics, logger
from flywheel.pricing import PriceBook, bundled_prices
from flywheel.stream import Bus, CompactedTable, Outgoing, Unavailable
from flywheel_router.decision_log import SendMany
from flywheel_router.spending import Spending

BUDGETS: Final = "budgets"
LEASES: Final = "budget-leases"
STATES: Final = "budget-states"
LEDGER: Final = "budget-ledger"
_ENTRY: Final = "budget_entry"
_SWEEP_S: Final = 0.25
_ADOPT_S: Final = 10.0
_GUARDED: Final = "guarded"


class Leases:
    """What the router holds of budgets, and how it talks about it. Raises OSError where its folder cannot be used."""

    def __init__(
        self,
        folder: Path,
        bus: Bus,
        codec: Codec,
        metrics: Metrics,
        prices: Callable[[], PriceBook] = bundled_prices,
    ) -> None:
        """``prices`` are read when the first budget comes, in a thread."""
        self._folder = folder
        self._prices = prices
        self._codec = codec
        self._metrics = metrics
        self._log = logger("router.leases")
        self._life = uuid.uuid4().hex
        self._accounts: AccountsFile = open_accounts(folder)
        self._dead: list[AccountsFile] = []
        self.holder = f"router-{self._life[:8]}"
        self.purse = Purse(self._life)
        self.spending = Spending(self.purse, self._accounts.write, guarded=(folder / _GUARDED).exists())
        self.on_definition: Callable[[], None] = lambda: None
        """Told when a budget was declared, changed or ended."""
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._loading: asyncio.Task[None] | None = None
        self.tables = {
            topic: CompactedTable(bus, topic, codec, update)
            for topic, update in (
                (BUDGETS, self.on_budget),
                (LEASES, self.on_lease),
                (STATES, self.spending.state),
            )
        }

    # -- what is read -------------------------------------------------------------------------------------------------

    def on_budget(self, key: str, event: Mapping[str, Any] | None) -> None:
        """Take a budget; one that cannot be held is logged, and what was held stays."""
        try:
            changed = self.spending.update(key, event)
        except (BudgetInvalid, KeyError, TypeError) as error:
            self._log.error("budget cannot be used", key=key, detail=str(error))
            return
        if changed:
            self._metrics.gauge("budgets_loaded", len(self.spending))
            self._mark()
            self.on_definition()
            if self._loading is None and len(self.spending):
                self._loading = asyncio.create_task(self._load_prices(), name="prices")

    def on_lease(self, key: str, event: Mapping[str, Any] | None) -> None:
        """Take an answer of the guard; others' answers are passed over."""
        if event is None or not self.purse.holds(key):
            return
        lease = lease_of(event)
        if not self.purse.apply(lease, time.monotonic()):
            return
        if event["window_start"] is not None:
            self._accounts.place(key, event["window_start"])
        self._metrics.count("lease_answers_total", 1, reason=lease.reason)
        if not self.purse.holds(key):
            self._drop(key)
        self._changed.set()
        self._changed = asyncio.Event()
        self._wake.set()

    async def opened(self) -> None:
        """Return when every budget there is was read."""
        await self.tables[BUDGETS].ready.wait()
        self.spending.opened()
        self._mark()

    # -- what is sent -------------------------------------------------------------------------------------------------

    @property
    def changed(self) -> asyncio.Event:
        """Set when the next answer comes."""
        return self._changed

    def wake(self) -> None:
        """See to it that what is due is sent."""
        if self.purse.due:
            self._wake.set()

    async def run(self, producer: SendMany) -> None:
        """Send requests for ever: what is due at once, and everything that is left over four times a second."""
        self._adopt(self._accounts)
        swept_s = adopted_s = -1e9
        while True:
            now_s = time.monotonic()
            if now_s - adopted_s >= _ADOPT_S:
                adopted_s = now_s
                for accounts in dead_accounts(self._folder):
                    self._dead.append(accounts)
                    self._adopt(accounts)
            if now_s - swept_s >= _SWEEP_S:
                swept_s = now_s
                requests = self.purse.sweep(now_s)
                self._metrics.gauge("lease_accounts", len(self._accounts))
            else:
                requests = self.purse.requests(now_s)
            await self._send(producer, requests)
            until_s = min(swept_s + _SWEEP_S, self.purse.next_s or swept_s + _SWEEP_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, until_s - time.monotonic())):
                    await self._wake.wait()
            self._wake.clear()

    async def closed(self) -> None:
        """Give everything back; return when the guard has confirmed it."""
        self.purse.close_all()
        self._wake.set()
        while self.purse.closing:
            await self._changed.wait()

    def close(self) -> None:
        """Let go of the files: what is not confirmed is in them for the next start."""
        if self._loading is not None:
            self._loading.cancel()
        for accounts in (self._accounts, *self._dead):
            accounts.close()

    async def _send(self, producer: SendMany, requests: Sequence[LeaseRequest]) -> None:
        if not requests:
            return
        try:
            for request in requests:
                if not request.closing:
                    self._accounts.open(request.account, request.instance)
            await producer.send_many([self._outgoing(request) for request in requests])
        except (Unavailable, OSError) as error:
            self._log.warning("lease requests wait", detail=str(error))
            self.purse.unsent(requests)
            await asyncio.sleep(min(getattr(error, "retry_after_s", 1.0), 1.0))
            return
        self._metrics.count("lease_requests_total", len(requests))

    def _outgoing(self, request: LeaseRequest) -> Outgoing:
        now_us = time.time_ns() // 1000
        event = request_event(request, holder=self.holder, now_us=now_us)
        envelope = headers(event=_ENTRY, event_id=event["event_id"], source="router", occurred_at_us=now_us)
        key = budget_key_of(request.instance).encode()
        return Outgoing(LEDGER, key, self._codec.encode(_ENTRY, event), envelope)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _adopt(self, accounts: AccountsFile) -> None:
        if accounts.left:
            self._log.info("closing what an earlier life left", accounts=len(accounts.left))
            self.purse.inherit(accounts.left, time.monotonic())

    def _drop(self, account: str) -> None:
        self._accounts.drop(account)
        for accounts in list(self._dead):
            accounts.drop(account)
            if not len(accounts):
                accounts.close()
                self._dead.remove(accounts)

    def _mark(self) -> None:
        """Leave a note for the next start: whether deciding before the budgets are read could break one."""
        path = self._folder / _GUARDED
        with contextlib.suppress(OSError):  # a full disk: deciding stops anyway, as nothing can be logged
            if self.spending.hard:
                path.touch()
            elif self.tables[BUDGETS].ready.is_set():
                path.unlink(missing_ok=True)

    async def _load_prices(self) -> None:
        # About a second of reading a table: not in the loop that answers.
        book = await asyncio.to_thread(self._prices)
        self.spending.priced_by(Bounds(book))
        self._changed.set()
        self._changed = asyncio.Event()


def lease_of(event: Mapping[str, Any]) -> Lease:
    """A ``lease`` event as the purse reads it."""
    end_us = event["window_end"]
    return Lease(
        account=event["account"],
        seq=event["seq"],
        granted_pico=to_pico(event["granted_usd"]),
        window=event["window"],
        window_end_us=end_us,
        lasts_s=None if end_us is None else (end_us - event["occurred_at"]) / 1e6,
        ttl_s=event["ttl_s"],
        next_window="" if end_us is None else window_id(end_us),
        closed=event["closed"],
        scarce=event["scarce"],
        exhausted=event["exhausted"],
        reason=event["reason"],
    )


def request_event(request: LeaseRequest, *, holder: str, now_us: int) -> dict[str, Any]:
    """A request as the ledger has it."""
    project, budget = budget_key_of(request.instance).split("/")
    return {
        "event_id": event_id("lease_request", request.account, request.seq),
        "project": project,
        "budget": budget,
        "occurred_at": now_us,
        "kind": "request",
        "instance": request.instance,
        "window": request.window,
        "account": request.account,
        "holder": holder,
        "incarnation": request.account.rpartition("-")[0],
        "seq": request.seq,
        "reserved_usd": to_usd(request.reserved_pico),
        "limit_wanted_usd": to_usd(request.limit_wanted_pico),
        "need_usd": to_usd(request.need_pico),
        "closing": request.closing,
    }
