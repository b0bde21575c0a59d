"""A request and what it costs its budgets: a set of decisions and calls that grows.

Everything told of a request is a function of that set, so the order in which its parts came leaves no trace. One
decision authorises one call: the first call of a request settles every reservation made for it, whichever router made
them (a second decision about the same request is the same permission), and its cost is spent from one of them. Every
other call is passive: it counts in each budget it falls under, without a reservation.
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
    budget it falls under by itself."""

    occurred_at: int
    id: str
    decision_id: str | None
    shadow: bool
    cost: int | None
    passive: tuple[tuple[str, str], ...]


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
        return json.dumps(self, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Request:
        """Return the request that ``encode`` wrote."""
        decisions, calls = json.loads(data)
        return cls(
            tuple(Decision(at, name, tuple(Reserved(*r) for r in made)) for at, name, made in decisions),
            tuple(
                Call(at, name, decision, shadow, cost, tuple((i, w) for i, w in passive))
                for at, name, decision, shadow, cost, passive in calls
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
    paying = next((call for call in request.calls if not call.shadow), None) if reservations else None
    covered: set[str] = set()
    if paying is not None:
        covered = {r.instance for _, r in reservations}
        _pay(paying, reservations, rows)
    for call in request.calls:
        for instance, window in call.passive:
            if call is not paying or instance not in covered:
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


def _pay(call: Call, reservations: Sequence[tuple[str, Reserved]], rows: dict[RowKey, Counts]) -> None:
    """Settle every reservation; spend the call's cost from one of each instance: the one its decision made."""
    payers: dict[str, Reserved] = {}
    for decision_id, r in reservations:
        if r.instance not in payers or decision_id == call.decision_id:
            payers[r.instance] = r
        key = (r.instance, r.window, r.account)
        rows[key] = rows[key].plus(Counts(settled=r.bound))
    for r in payers.values():
        spent = r.bound if call.cost is None else call.cost
        key = (r.instance, r.window, r.account)
        rows[key] = rows[key].plus(Counts(spent, 0, 1, int(call.cost is None), int(spent > r.bound)))
