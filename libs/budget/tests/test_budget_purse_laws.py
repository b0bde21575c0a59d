"""Laws of the purse: with any answers lost, repeated, late or reordered, with any holder killed at any time, no more is
ever reserved than there is, and once everything is closed and settled all the rest is there again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flywheel.budget.leases import Lease, LeaseRequest, Left, Reservation
from flywheel.budget.purse import Purse
from flywheel.testkit.guard_model import Guard

INSTANCES = ("p/team", "p/org")
AMOUNTS = {"p/team": 2_000, "p/org": 3_000}
HOLDERS = 2
BOUNDS = (1, 2, 5, 20, 120)


@dataclass
class Holder:
    """A process: its purse, and what its file on disk says."""

    number: int
    life: int = 0
    file: dict[str, tuple[str, int]] = field(default_factory=dict)
    purse: Purse = field(init=False)

    def __post_init__(self) -> None:
        self.purse = Purse(f"h{self.number}.{self.life}")

    def reborn(self, now_s: float) -> None:
        self.life += 1
        self.purse = Purse(f"h{self.number}.{self.life}")
        self.purse.inherit([Left(name, instance, held) for name, (instance, held) in self.file.items()], now_s)


class PurseMachine(RuleBasedStateMachine):
    """Two holders, two nested budgets, a network that loses, repeats and reorders."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0
        self.guards = {instance: Guard(amount) for instance, amount in AMOUNTS.items()}
        self.holders = [Holder(number) for number in range(HOLDERS)]
        self.requests: list[LeaseRequest] = []
        self.leases: list[Lease] = []
        self.old: list[Lease] = []
        self.calls: list[tuple[Reservation, ...]] = []
        self.lost = dict.fromkeys(INSTANCES, 0)
        self.contents: dict[tuple[str, int], LeaseRequest] = {}

    def send(self, holder: Holder, found: list[LeaseRequest]) -> None:
        for request in found:
            holder.file.setdefault(request.account, (request.instance, 0))
            said = self.contents.setdefault((request.account, request.seq), request)
            assert (said.reserved_pico, said.limit_wanted_pico) == (request.reserved_pico, request.limit_wanted_pico)
        self.requests += found

    @rule(
        who=st.integers(0, HOLDERS - 1),
        bound=st.sampled_from([1, 2, 5, 20, 120]),
        nested=st.booleans(),
        lost=st.booleans(),
    )
    def decide(self, who: int, bound: int, nested: bool, lost: bool) -> None:
        holder, instances = self.holders[who], INSTANCES if nested else INSTANCES[:1]
        before = [holder.purse.room_pico([each], self.now_s) for each in instances]
        made = holder.purse.reserve(instances, bound, self.now_s)
        after = [holder.purse.room_pico([each], self.now_s) for each in instances]
        if made is None:
            assert min(before) < bound
            assert before == after  # all or none
            holder.purse.want(instances, bound, self.now_s)
        else:
            assert after == [room - bound for room in before]
            for each in made:
                self.lost[each.instance] += bound if lost else 0
                holder.file[each.account] = (each.instance, each.cumulative_pico)
            if not lost:
                self.calls.append(made)
        self.send(holder, holder.purse.requests(self.now_s))

    @rule(who=st.integers(0, HOLDERS - 1), bound=st.integers(1, 50))
    def decide_what_cannot_be_logged(self, who: int, bound: int) -> None:
        purse = self.holders[who].purse
        room = purse.room_pico(INSTANCES, self.now_s)
        made = purse.reserve(INSTANCES, bound, self.now_s)
        if made is not None:
            purse.cancel(made)
            assert purse.room_pico(INSTANCES, self.now_s) == room

    @rule(who=st.integers(0, HOLDERS - 1), passed_s=st.sampled_from([0.01, 0.25, 1.1, 40.0]), failed=st.booleans())
    def sweep(self, who: int, passed_s: float, failed: bool) -> None:
        self.now_s += passed_s
        purse = self.holders[who].purse
        found = purse.sweep(self.now_s)
        if failed:
            for request in found:
                self.holders[who].file.setdefault(request.account, (request.instance, 0))
            purse.unsent(found)
            self.requests += found[:1]  # "failed" may still have arrived
        else:
            self.send(self.holders[who], found)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), again=st.booleans())
    def guard_reads(self, data: Any, again: bool) -> None:
        place = data.draw(st.integers(0, len(self.requests) - 1))
        request = self.requests[place] if again else self.requests.pop(place)
        lease = self.guards[request.instance].answer(request)
        if lease is not None:
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), again=st.booleans())
    def holder_reads(self, data: Any, again: bool) -> None:
        place = data.draw(st.integers(0, len(self.leases) - 1))
        lease = self.leases[place] if again else self.leases.pop(place)
        for holder in self.holders:  # every holder reads every answer
            holder.purse.apply(lease, self.now_s)
            if lease.closed and not holder.purse.holds(lease.account):
                holder.file.pop(lease.account, None)

    @rule()
    def network_works(self) -> None:
        """In order and once: without it hardly anything is ever granted in so few steps."""
        for request in self.requests:
            lease = self.guards[request.instance].answer(request)
            self.leases += [lease] if lease else []
        for lease in self.leases:
            for holder in self.holders:
                holder.purse.apply(lease, self.now_s)
                if lease.closed and not holder.purse.holds(lease.account):
                    holder.file.pop(lease.account, None)
        self.old = (self.old + self.leases)[-30:]
        self.requests, self.leases = [], []

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def an_old_answer_comes_again(self, data: Any) -> None:
        lease = data.draw(st.sampled_from(self.old))
        for holder in self.holders:
            holder.purse.apply(lease, self.now_s)

    @precondition(lambda self: self.requests)
    @rule()
    def requests_are_lost(self) -> None:
        self.requests.clear()

    @precondition(lambda self: self.leases)
    @rule()
    def answers_are_lost(self) -> None:
        self.leases.clear()

    @rule(who=st.integers(0, HOLDERS - 1))
    def killed(self, who: int) -> None:
        self.holders[who].reborn(self.now_s)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), share=st.integers(0, 100))
    def call_ends(self, data: Any, share: int) -> None:
        call = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        for each in call:
            self.guards[each.instance].settle(each.account, each.bound_pico, each.bound_pico * share // 100)

    @rule(scarce=st.booleans())
    def money_gets_scarce(self, scarce: bool) -> None:
        for guard in self.guards.values():
            guard.scarce = scarce

    @invariant()
    def never_more_than_there_is(self) -> None:
        for guard in self.guards.values():
            assert guard.available >= 0
            for account in guard.accounts.values():
                assert account.exposure >= 0
        for holder in self.holders:
            for name, (instance, reserved) in holder.file.items():
                known = self.guards[instance].accounts.get(name)
                assert reserved <= (known.granted if known else 0)

    def teardown(self) -> None:
        """Everybody stops, the network heals: what was not reserved is there again, to the last picodollar."""
        for holder in self.holders:
            holder.purse.close_all()
            assert holder.purse.room_pico(INSTANCES, self.now_s) == 0
        for _ in range(6):
            self.now_s += 60.0
            for holder in self.holders:
                self.send(holder, holder.purse.sweep(self.now_s))
            self.leases += filter(None, (self.guards[each.instance].answer(each) for each in self.requests))
            self.requests.clear()
            for lease in self.leases:
                for holder in self.holders:
                    holder.purse.apply(lease, self.now_s)
        assert [holder.purse.closing for holder in self.holders] == [0] * HOLDERS
        for call in self.calls:
            for each in call:
                self.guards[each.instance].settle(each.account, each.bound_pico, each.bound_pico)
        for instance, guard in self.guards.items():
            assert all(account.closed for account in guard.accounts.values())
            assert guard.available == guard.amount - guard.spent - self.lost[instance]


PurseMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestPurse = PurseMachine.TestCase
