"""Stage 2: what is granted, what comes back, and that it is never more than there is."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.budget import Budget
from flywheel_budget.core import GuardFold
from flywheel_budget.core.pools import Account, Pool

_spec = importlib.util.spec_from_file_location("budget_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)
DAILY, DAY, pico = parts.DAILY, parts.DAY, parts.pico
CLOSING = 1 << 62
HOUR_S = 3600


class Guard:
    """The fold with its state, fed one entry at a time."""

    def __init__(self, facts, budget=DAILY, *, defined=True):
        self.facts, self.budget, self.state, self.fold = facts, budget, facts.State(), GuardFold()
        self.offset, self.states, self.log = 0, [], []
        if defined:
            self.tell(facts.definition(budget))

    def tell(self, event):
        event = parts.at_offset(event, self.offset)
        self.offset += 1
        self.log.append(event)
        self.result = self.fold.fold(0, [event], self.state)
        self.states += [o.value for o in self.result.outputs if o.event == "budget_state"]
        return [o.value for o in self.result.outputs if o.event == "lease"]

    def ask(self, *args, **more):
        return self.tell(self.facts.request(*args, **{"budget": self.budget, **more}))

    def spend(self, *args, **more):
        return self.tell(self.facts.spend(*args, **{"budget": self.budget, **more}))

    @property
    def verdict(self):
        return self.result.verdicts[0]


def granted(leases, account):
    return [pico(lease["granted_usd"]) for lease in leases if lease["account"] == account]


@pytest.fixture
def guard(facts):
    return Guard(facts)


def test_a_lease_is_at_most_half_an_equal_share_of_what_is_left(guard):
    (lease,) = guard.ask("a.1", 1, 0, 10_000)
    assert (pico(lease["granted_usd"]), lease["reason"], lease["window"]) == (500, "partial", DAY)
    (lease,) = guard.ask("b.1", 1, 0, 10_000)
    assert pico(lease["granted_usd"]) == 125  # of 500 left, two holders
    (lease,) = guard.ask("c.1", 1, 0, 20)
    assert (pico(lease["granted_usd"]), lease["reason"]) == (20, "granted")


def test_the_same_request_gets_the_same_answer_and_an_older_one_none(guard):
    first = guard.ask("a.1", 2, 0, 100)
    again = guard.ask("a.1", 2, 0, 100)
    assert granted(first, "a.1") == granted(again, "a.1") == [100]
    assert guard.ask("a.1", 1, 0, 900) == [] and guard.verdict.reason == "older"


def test_what_is_given_back_is_there_for_others(guard):
    guard.ask("a.1", 1, 0, 500)
    assert granted(guard.ask("a.1", 2, 30, 40), "a.1") == [40]
    assert granted(guard.ask("b.1", 1, 0, 10_000, need=960), "b.1") == [960]


def test_what_was_reserved_is_never_given_back(guard, facts):
    guard.ask("a.1", 1, 0, 500)
    (lease,) = guard.ask("a.1", 2, 300, 300)
    assert pico(lease["granted_usd"]) == 300
    assert guard.tell(facts.request("a.1", 3, 300, 200)) == [] and guard.verdict.field == "limit_wanted_usd"


def test_a_closed_account_holds_what_it_reserved_until_that_is_settled(guard):
    guard.ask("a.1", 1, 0, 500)
    (lease,) = guard.ask("a.1", CLOSING, 60, 60, closing=True)
    assert lease["closed"] and pico(lease["granted_usd"]) == 60
    assert pico(guard.states[-1]["available_usd"]) == 940
    guard.spend("a.1", 1, 10, 60)
    assert (pico(guard.states[-1]["spent_usd"]), pico(guard.states[-1]["exposure_usd"])) == (10, 0)


def test_a_call_that_waits_is_paid_from_what_others_are_asked_to_return(guard):
    guard.ask("a.1", 1, 0, 500)
    guard.ask("b.1", 1, 0, 1000, need=500)
    leases = guard.ask("c.1", 1, 0, 400, need=300)
    assert granted(leases, "c.1") == [0]
    pressed = {lease["account"]: lease for lease in leases if lease["scarce"]}
    assert pressed["a.1"]["seq"] == 1 and pico(pressed["a.1"]["granted_usd"]) == 500
    assert [lease["reason"] for lease in leases if lease["account"] == "c.1"] == ["wait"]
    leases = guard.ask("a.1", 2, 100, 150)
    assert granted(leases, "a.1") == [150] and granted(leases, "c.1") == [300]
    assert [lease["seq"] for lease in leases if lease["account"] == "c.1"] == [1]


def test_a_caller_that_gave_up_holds_nothing_back_from_others(guard):
    guard.ask("a.1", 1, 0, 1000, need=600)
    guard.ask("b.1", 1, 0, 900, need=900)
    assert granted(guard.ask("c.1", 1, 0, 100, at_s=0.5), "c.1") == [0]
    assert granted(guard.ask("c.1", 2, 0, 60, at_s=2), "c.1") == [60]


def test_nothing_left_is_said_to_be_exhausted_and_is_not_waited_for(guard):
    guard.spend("", 1, 990)
    (lease,) = guard.ask("a.1", 1, 0, 100, need=20)
    assert (lease["exhausted"], lease["reason"], pico(lease["granted_usd"])) == (True, "exhausted", 0)
    (lease,) = guard.ask("a.1", 2, 0, 100, need=10)
    assert (lease["exhausted"], pico(lease["granted_usd"])) == (False, 10)


def test_passive_spend_leaves_less_to_lease_and_may_pass_the_amount(guard):
    guard.spend("", 1, 400)
    assert granted(guard.ask("a.1", 1, 0, 1000, need=600), "a.1") == [600]
    guard.spend("", 2, 700)
    assert pico(guard.states[-1]["available_usd"]) == 0 and pico(guard.states[-1]["spent_usd"]) == 700


def test_rows_replace_and_older_ones_change_nothing(guard):
    guard.spend("", 2, 50)
    guard.spend("", 1, 900)
    assert guard.verdict.reason == "older"
    guard.spend("", 3, 20)
    guard.spend("", 1, 5, source="spend/1")
    assert pico(guard.states[-1]["spent_usd"]) == 25


def test_a_window_begins_anew_and_the_old_account_is_told_so(guard):
    guard.ask("a.1", 1, 0, 1000, need=800)
    (lease,) = guard.ask("a.1", 2, 10, 900, need=1, at_s=25 * HOUR_S)
    assert lease["closed"] and pico(lease["granted_usd"]) == 800 and lease["reason"] == "window_over"
    (lease,) = guard.ask("a.2", 1, 0, 1000, need=1000, at_s=25 * HOUR_S)
    assert (lease["window"], pico(lease["granted_usd"])) == ("2026-11-22T00:00:00Z", 1000)
    assert guard.states[-1]["window"] == "2026-11-22T00:00:00Z"


def test_the_next_window_is_leased_a_minute_early_and_no_earlier(guard):
    tomorrow = "2026-11-22T00:00:00Z"
    assert granted(guard.ask("a.1", 1, 0, 10, window=tomorrow, at_s=23 * HOUR_S), "a.1") == [0]
    assert granted(guard.ask("a.1", 2, 0, 10, window=tomorrow, at_s=24 * HOUR_S - 30), "a.1") == [10]
    assert guard.ask("a.2", 1, 0, 10, window="2026-11-22T01:00:00Z", at_s=24 * HOUR_S - 30) == []
    assert guard.verdict.field == "window"


def test_a_late_row_counts_in_its_own_window(guard):
    guard.ask("a.1", 1, 0, 1000, need=100)
    guard.spend("a.1", 1, 80, 100, at_s=25 * HOUR_S)
    assert granted(guard.ask("a.2", 1, 0, 1000, need=1000, at_s=25 * HOUR_S), "a.2") == [1000]
    guard.spend("", 1, 80, at_s=200 * HOUR_S)
    assert guard.verdict.reason == "too_late"
    assert not any(DAY in key for key in guard.state.tables["accounts"] | guard.state.tables["rows"])


def test_who_closes_an_account_of_a_forgotten_window_is_told_it_is_closed(guard):
    guard.ask("a.1", 1, 0, 10, at_s=200 * HOUR_S)
    (lease,) = guard.ask("b.1", CLOSING, 60, 60, closing=True, window=DAY, at_s=200 * HOUR_S)
    assert lease["closed"] and lease["seq"] == CLOSING and guard.verdict.reason == "too_late"
    assert pico(guard.states[-1]["exposure_usd"]) == 10


def test_a_window_after_the_next_is_nobodys_yet(guard):
    assert guard.ask("a.1", 1, 0, 10, window="2026-11-23T00:00:00Z") == []
    assert guard.verdict.field == "window"


def test_an_unknown_budget_leases_nothing_until_it_is_defined(facts):
    guard = Guard(facts, defined=False)
    (lease,) = guard.ask("a.1", 1, 0, 100, need=10)
    assert lease["reason"] == "unknown_budget" and pico(lease["granted_usd"]) == 0
    guard.spend("", 1, 950)
    guard.tell(facts.definition(DAILY))
    assert pico(guard.states[-1]["spent_usd"]) == 950
    assert granted(guard.ask("a.1", 2, 0, 100, need=10), "a.1") == [25]


def test_definitions_change_the_amount_but_never_what_is_counted(guard, facts):
    guard.tell(facts.definition(replace(DAILY, revision=2, amount_pico=5000)))
    assert pico(guard.states[-1]["amount_usd"]) == 5000
    guard.tell(facts.definition(DAILY))
    assert guard.verdict.reason == "older"
    guard.tell(facts.definition(replace(DAILY, revision=3, per="hour")))
    assert guard.verdict.field == "terms.per"
    guard.tell(facts.definition(replace(DAILY, revision=3, amount_pico=5000, ended=True)))
    assert guard.ask("a.1", 1, 0, 10, need=10)[0]["closed"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kind": "gift"}, "kind"),
        ({"instance": "acme/other"}, "instance"),
        ({"instance": "acme/day/extra"}, "instance"),
        ({"account": ""}, "account"),
        ({"seq": 0}, "seq"),
        ({"window": "today"}, "window"),
        ({"need_usd": parts.to_usd(-1)}, "need_usd"),
        ({"reserved_usd": None}, "reserved_usd"),
        ({"kind": "definition"}, "terms"),
        ({"kind": "spend"}, "source"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(guard, facts, change, named):
    event = facts.request("a.1", 1, 0, 10)
    guard.tell(event._replace(value=event.value | change))
    assert guard.verdict.field == named


def test_instances_of_one_budget_have_money_of_their_own(facts):
    guard = Guard(facts, Budget("acme", "each", 1, parts.T0, 100, "day", each=("user_hash",), mode="hard"))
    for user in ("u1", "u%2F2"):
        (lease,) = guard.ask(f"{user}.1", 1, 0, 100, need=100, instance=f"acme/each/{user}")
        assert pico(lease["granted_usd"]) == 100
    assert guard.states[-1]["scope"] == {"user_hash": "u/2"}
    guard.tell(facts.definition(replace(guard.budget, revision=2, amount_pico=150)))
    assert {s["instance"] for s in guard.states[-2:]} == {"acme/each/u1", "acme/each/u%2F2"}


ROLLING = Budget("acme", "roll", 1, parts.T0, 1000, "rolling", rolling_s=3600, mode="hard")


def test_money_leaves_a_rolling_window_a_slot_after_its_length(facts):
    guard = Guard(facts, ROLLING)
    guard.spend("", 1, 900, at_s=30)
    assert granted(guard.ask("a.1", 1, 0, 1000, need=500, at_s=HOUR_S + 30), "a.1") == [0]
    assert granted(guard.ask("a.2", 1, 0, 1000, need=500, at_s=HOUR_S + 61), "a.2") == [500]


def test_an_account_of_a_rolling_budget_exposes_nothing_a_length_after_its_epoch(facts):
    guard = Guard(facts, ROLLING)
    guard.ask("a.1", 1, 0, 1000, need=900, at_s=30)
    assert granted(guard.ask("b.1", 1, 0, 1000, need=500, at_s=2 * HOUR_S - 1), "b.1") == [0]
    assert granted(guard.ask("b.2", 1, 0, 1000, need=500, at_s=2 * HOUR_S + 1), "b.2") == [500]
    # What it spent after all counts when it is heard of.
    guard.spend("a.1", 1, 300, 900, at_s=2 * HOUR_S + 2)
    assert (pico(guard.states[-1]["spent_usd"]), pico(guard.states[-1]["exposure_usd"])) == (300, 500)


@dataclass
class Holder:
    """A process that keeps the rules: absolute, monotone, one request at a time, never above its limit."""

    name: str
    limit: int = 0
    reserved: int = 0
    seq: int = 0
    asked: tuple[int, int, int] | None = None
    need: int = 0
    bounds: list[int] = field(default_factory=list)
    closed: bool = False

    def hear(self, lease):
        if lease["account"] == self.name and lease["seq"] == self.seq and not self.closed:
            self.limit = max(pico(lease["granted_usd"]), self.reserved)


def pools(state):
    """Every pool, checked against its accounts."""
    found = {}
    for key, data in state.tables.get("pools", {}).items():
        pool = found[key] = Pool.decode(data)
        instance, _, window = key.partition("\x1f")
        named = {n: Account.decode(v) for n, v in state.tables.get("accounts", {}).items()}
        mine = [a for n, a in named.items() if n.startswith(instance + "\x1f") and a.window == window]
        assert pool.exposure == sum(account.exposure for account in mine)
        assert all(account.granted >= account.reserved for account in mine)
    return found


SCARCE = replace(DAILY, amount_pico=300)


class Play:
    """Holders that crash, lose answers and repeat themselves; after every step no more is out than there is."""

    def __init__(self, facts):
        self.guard, self.at_s = Guard(facts, SCARCE), 0.0
        self.holders = [Holder(f"h{n}.1") for n in range(4)]
        self.everyone, self.rows, self.passive = list(self.holders), {}, 0
        self.pools = pools(self.guard.state)

    def step(self, number, kind, who, size):
        for lease in getattr(self, kind)(who, size) or ():
            if (number + size) % 3:  # every third answer is lost
                for each in self.everyone:
                    each.hear(lease)
        out = 0
        for holder in self.everyone:
            settled = self.rows.get(holder.name, (0, 0, 0))[2]
            out += (holder.reserved if holder.closed else holder.limit) - settled
        paid = sum(spent for _, spent, _ in self.rows.values())
        # Passive money asks nobody: it may pass the amount. Nothing else may, and nothing is granted once it did.
        assert out + paid - self.passive <= SCARCE.amount_pico
        before, self.pools = self.pools, pools(self.guard.state)
        for key, pool in self.pools.items():
            if pool.exposure > before[key].exposure:
                assert pool.spent + pool.exposure <= SCARCE.amount_pico

    def ask(self, who, size):
        holder, need = self.holders[who], size % 120
        holder.seq += 1
        holder.asked = (holder.seq, holder.reserved, holder.reserved + max(size, need))
        holder.limit, holder.need = min(holder.limit, holder.asked[2]), need
        return self.again(who, size)

    def again(self, who, size):
        holder = self.holders[who]
        return self.guard.ask(holder.name, *holder.asked, need=holder.need, at_s=self.at_s) if holder.asked else ()

    def reserve(self, who, size):
        holder = self.holders[who]
        if 0 < size <= holder.limit - holder.reserved:
            holder.reserved += size
            holder.bounds.append(size)

    def give_back(self, who, size):
        holder = self.holders[who]
        holder.seq += 1
        holder.asked, holder.need, holder.limit = (holder.seq, holder.reserved, holder.reserved), 0, holder.reserved
        return self.again(who, size)

    def call(self, who, size):
        payer = next((h for h in self.everyone if h.bounds), None)
        if payer is None:
            return ()
        bound = payer.bounds.pop(0)
        version, spent, settled = self.rows.get(payer.name, (0, 0, 0))
        self.rows[payer.name] = (version + 1, spent + size % (bound + 1), settled + bound)
        return self.guard.spend(payer.name, *self.rows[payer.name], at_s=self.at_s)

    def passive_call(self, who, size):
        self.passive += size % 20
        self.rows[""] = (self.rows.get("", (0, 0, 0))[0] + 1, self.passive, 0)
        return self.guard.spend("", *self.rows[""], at_s=self.at_s)

    def crash(self, who, size):
        """Its successor on the same disk closes the account with what it had reserved."""
        holder = self.holders[who]
        holder.closed, holder.seq = True, CLOSING
        life = int(holder.name.partition(".")[2]) + 1
        self.holders[who] = Holder(f"h{who}.{life}")
        self.everyone.append(self.holders[who])
        return self.guard.ask(holder.name, CLOSING, holder.reserved, holder.reserved, closing=True, at_s=self.at_s)

    def wait(self, who, size):
        self.at_s += size / 100


KINDS = ["ask", "ask", "ask", "again", "reserve", "give_back", "call", "passive_call", "crash", "wait"]


def scripts():
    return st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3), st.integers(0, 400)), max_size=60)


def played(facts, script):
    play = Play(facts)
    for number, step in enumerate(script):
        play.step(number, *step)
    return play.guard


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(script=scripts())
def test_no_more_is_out_than_there_is_whatever_happens(facts, script):
    played(facts, script)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(script=scripts(), data=st.data())
def test_the_ledger_read_again_in_any_batches_gives_the_same_bytes(facts, script, data):
    guard = played(facts, script)
    cuts = data.draw(st.lists(st.integers(0, len(guard.log)), max_size=6))
    state, leases, fold = facts.State(), [], GuardFold()
    for start, stop in pairwise([0, *sorted(cuts), len(guard.log)]):
        leases += [o for o in fold.fold(0, guard.log[start:stop], state).outputs if o.event == "lease"]
    once = GuardFold().fold(0, guard.log, facts.State())
    assert state.dump() == guard.state.dump()
    assert leases == [o for o in once.outputs if o.event == "lease"]
