"""The guard's promise in forty lines, to hold the purse against: grants never exceed what is there."""

from __future__ import annotations

from dataclasses import dataclass, field

from flywheel.budget.leases import Lease, LeaseRequest


@dataclass
class Account:
    """What the guard knows of one account."""

    seq: int = 0
    granted: int = 0
    reserved: int = 0
    settled: int = 0
    closed: bool = False
    answer: Lease | None = None

    @property
    def exposure(self) -> int:
        return (self.reserved if self.closed else self.granted) - self.settled


@dataclass
class Guard:
    """One instance of a budget, one window."""

    amount: int
    spent: int = 0
    scarce: bool = False
    accounts: dict[str, Account] = field(default_factory=dict)

    @property
    def available(self) -> int:
        return self.amount - self.spent - sum(account.exposure for account in self.accounts.values())

    def answer(self, request: LeaseRequest) -> Lease | None:
        """Fold one request; the answer to a repeated one is the same, an older one has none."""
        account = self.accounts.setdefault(request.account, Account())
        if request.seq < account.seq or (account.closed and not request.closing):
            return None
        if request.seq == account.seq:
            return account.answer
        account.seq = request.seq
        account.reserved = request.reserved_pico
        if request.closing:
            account.closed, account.granted = True, request.reserved_pico
        elif request.limit_wanted_pico <= account.granted:
            account.granted = max(request.limit_wanted_pico, request.reserved_pico)
        else:
            holders = sum(not each.closed for each in self.accounts.values())
            fair = max(request.need_pico, self.available // (2 * holders))
            grant = min(request.limit_wanted_pico - account.granted, fair, self.available)
            account.granted += max(0, grant)
        enough = account.granted >= request.reserved_pico + request.need_pico
        account.answer = Lease(
            request.account, request.seq, account.granted, "2026-11-21T00:00:00Z", 1, None, 30.0,
            closed=account.closed, scarce=self.scarce, exhausted=not enough,
        )  # fmt: skip
        return account.answer

    def settle(self, account: str, bound: int, cost: int) -> None:
        """A reserved call is known."""
        self.accounts[account].settled += bound
        self.spent += cost
