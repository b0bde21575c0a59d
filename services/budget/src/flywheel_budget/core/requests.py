"""A request and what it costs its budgets: a set of decisions and calls that grows.

Everything told of a request is a function of that set, so the order in which its parts came leaves no trace. One
decision authorises one call that costs: the first such call of a request settles every reservation made for it,
whichever router made them (a second decision about the same request is the same permission), and its cost is spent from
one of them. Of a cascade it authorises two: a call that says it was escalated settles no more than it cost, and the
next one the rest. Every other call is passive: it counts in each budget it falls under, without a reservation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, NamedTuple

MAX_PARTS: Final = 256
"""Decisions or calls kept for a request; more are refused, so that no request can fill the state."""
FAILED: Final = ("ERROR",)

RowKey = tuple[str, str, str]
"""Instance, window, account; no account is money spent without a reservation."""


class Counts(NamedTuple):
    """What a request adds to a row, in picodollars and calls."""

    spent: int = 0
    settled: int = 0
    calls: int = 0
    unpriced: int = 0
    above_bound: int = 0

    def plus(self, other: Counts) -> Counts:
        """Return the sum."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))

    def minus(self, other: Counts) -> Counts:
        """Return the difference."""
        return Counts(*(a - b for a, b in zip(self, other, strict=True)))


NOTHING: Final = Counts()
_PLAIN_CALL: Final = 6
"""Fields of a call that was not escalated, as it is kept."""


class Reserved(NamedTuple):
    """One reservation of a decision; ``account`` and ``cumulative`` together are its identity."""

    instance: str
    window: str
    account: str
    bound: int
    cumulative: int


class Decision(NamedTuple):
    """A decision that reserved."""

    occurred_at: int
    id: str
    reservations: tuple[Reserved, ...]


class Call(NamedTuple):
    """One attempt. ``cost`` None: it cost money and nobody knows how much; ``passive``: instance and window of every
    budget it falls under by itself; ``escalated``: another call follows that the same reservations pay."""

    occurred_at: int
    id: str
    decision_id: str | None
    shadow: bool
    cost: int | None
    passive: tuple[tuple[str, str], ...]
    escalated: bool = False


class Request(NamedTuple):
    """The parts of one request, sorted by time and id."""

    decisions: tuple[Decision, ...] = ()
    calls: tuple[Call, ...] = ()

    @property
    def parts(self) -> int:
        """How many facts it is made of."""
        return len(self.decisions) + len(self.calls)

    @property
    def newest_us(self) -> int:
        """Event time of its newest part."""
        decided = (decision.occurred_at for decision in self.decisions)
        return max((*decided, *(call.occurred_at for call in self.calls)))

    def with_part(self, part: Decision | Call) -> Request | str:
        """Return the request with one part more, or why it changes nothing."""
        known: Sequence[Decision | Call] = self.decisions if isinstance(part, Decision) else self.calls
        # The id of a decision is that of its request under its policy version: of two routers that were asked the same,
        # both made reservations under one id.
        if any(other.id == part.id and _reserved(other) == _reserved(part) for other in known):
            return "duplicate"
        if len(known) >= MAX_PARTS:
            return "too_many_parts"
        if isinstance(part, Decision):
            return self._replace(decisions=tuple(sorted((*self.decisions, part))))
        return self._replace(calls=tuple(sorted((*self.calls, part), key=_order)))

    def encode(self) -> bytes:
        """Return canonical bytes; whole numbers of any size."""
        calls = [call if call.escalated else call[:_PLAIN_CALL] for call in self.calls]
        return json.dumps((self.decisions, calls), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Request:
        """Return the request that ``encode`` wrote."""
        decisions, calls = json.loads(data)
        return cls(
            tuple(Decision(at, name, tuple(Reserved(*r) for r in made)) for at, name, made in decisions),
            tuple(
                Call(at, name, decision, shadow, cost, tuple((i, w) for i, w in passive), *escalated)
                for at, name, decision, shadow, cost, passive, *escalated in calls
            ),
        )


def _reserved(part: Decision | Call) -> frozenset[tuple[str, int]]:
    """Which reservations a part made: account and cumulative of each."""
    made = part.reservations if isinstance(part, Decision) else ()
    return frozenset((r.account, r.cumulative) for r in made)


def _order(call: Call) -> tuple[int, str]:
    return call.occurred_at, call.id


def rows_of(request: Request) -> dict[RowKey, Counts]:
    """Return what a request contributes to which rows.

    The keys only grow with its parts, also where the contribution is nothing, so that a row can be numbered by the
    facts behind it and a newer state of it always has the larger number.
    """
    rows: dict[RowKey, Counts] = {}
    for call in request.calls:
        for instance, window in call.passive:
            rows.setdefault((instance, window, ""), NOTHING)
    reservations = _distinct(request)
    for _, r in reservations:
        rows.setdefault((r.instance, r.window, r.account), NOTHING)
    paying = _paying(request) if reservations else ()
    covered: set[str] = set()
    if paying:
        covered = {r.instance for _, r in reservations}
        _pay(paying, reservations, rows)
    for call in request.calls:
        for instance, window in call.passive:
            if call not in paying or instance not in covered:
                cost = Counts(call.cost or 0, 0, 1, int(call.cost is None), 0)
                rows[instance, window, ""] = rows[instance, window, ""].plus(cost)
    return rows


def _distinct(request: Request) -> list[tuple[str, Reserved]]:
    """Every reservation once, with the decision that made it first."""
    found: dict[tuple[str, str, int], tuple[str, Reserved]] = {}
    for decision in request.decisions:
        for r in decision.reservations:
            found.setdefault((r.instance, r.account, r.cumulative), (decision.id, r))
    return list(found.values())


def _paying(request: Request) -> tuple[Call, ...]:
    """The calls that the reservations pay: the first that was not free, as what failed for nothing may be tried again;
    of a cascade the one that was escalated and the one after it."""
    calls = [call for call in request.calls if not call.shadow]
    costly = next((place for place, call in enumerate(calls) if call.cost != 0), 0)
    first = next((place for place, call in enumerate(calls) if call.escalated), costly)
    return tuple(calls[first : first + 2 if calls and calls[first].escalated else first + 1])


def _pay(paid: Sequence[Call], reservations: Sequence[tuple[str, Reserved]], rows: dict[RowKey, Counts]) -> None:
    """Settle every reservation; spend what the calls cost from one of each instance: the one their decision made.

    As long as another call follows, no more is settled than is spent, so that what it may cost stays reserved.
    """
    first, last = paid[0], paid[-1]
    known = sum(call.cost for call in paid if call.cost is not None)
    unpriced = sum(call.cost is None for call in paid)
    payers: dict[str, Reserved] = {}
    for decision_id, r in reservations:
        if r.instance not in payers or decision_id == first.decision_id:
            payers[r.instance] = r
    for _, r in reservations:
        spent = max(known, r.bound) if unpriced else known
        open_still = last.escalated and payers[r.instance] is r
        key = (r.instance, r.window, r.account)
        rows[key] = rows[key].plus(Counts(settled=min(spent, r.bound) if open_still else r.bound))
        if payers[r.instance] is r:
            rows[key] = rows[key].plus(Counts(spent, 0, len(paid), unpriced, int(spent > r.bound)))
