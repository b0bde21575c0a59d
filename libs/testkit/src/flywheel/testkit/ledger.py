"""Counts what went in against what arrived: by id, per place (a topic, a view), so that nothing is lost, doubled,
made up or put out of order unseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Balance:
    """One place against what should be there. ``lost`` never arrived, ``duplicated`` arrived again, ``foreign`` (a
    phantom) was never sent, ``reordered`` are keys whose ids arrived in another order than they were sent."""

    place: str
    sent: int
    arrived: int
    lost: tuple[str, ...]
    duplicated: tuple[str, ...]
    foreign: tuple[str, ...]
    reordered: tuple[str, ...] = ()

    @property
    def even(self) -> bool:
        """Whether every id sent is there exactly once, in the order of its key, and nothing else."""
        return not (self.lost or self.duplicated or self.foreign or self.reordered)

    def __str__(self) -> str:
        found = f"{self.place}: sent {self.sent}, arrived {self.arrived}"
        if self.even:
            return f"{found}, even"
        wrong = [
            (self.lost, "lost"),
            (self.duplicated, "twice or more"),
            (self.foreign, "not ours"),
            (self.reordered, "keys out of order"),
        ]
        return ", ".join([found, *(f"{len(ids)} {what} (first {ids[0]})" for ids, what in wrong if ids)])


@dataclass(slots=True)
class Ledger:
    """Ids sent and ids seen, by place. An id sent twice to one place on purpose still has to arrive once.

    Order is looked at per key, and only for ids that were named with one: of the ids of a key that arrived, the order
    of their first arrival is held against the order in which they were first sent.
    """

    _sent: dict[str, set[str]] = field(default_factory=dict)
    _seen: dict[str, Counter[str]] = field(default_factory=dict)
    _order: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def sent(self, place: str, ids: Iterable[str], *, key: str | None = None) -> None:
        """Note that these ids should end in ``place``; with a ``key``, in this order."""
        sent = self._sent.setdefault(place, set())
        for one in ids:
            if key is not None and one not in sent:
                self._order.setdefault(place, {}).setdefault(key, []).append(one)
            sent.add(one)

    def ids_sent(self, place: str) -> list[str]:
        """The ids that should be in ``place``, in order of name."""
        return sorted(self._sent.get(place, ()))

    def seen(self, place: str, ids: Iterable[str]) -> None:
        """Note that these ids were found in ``place``, in this order; once per finding."""
        self._seen.setdefault(place, Counter()).update(ids)

    def balance(self, place: str) -> Balance:
        """The account of one place."""
        sent = self._sent.get(place, set())
        seen = self._seen.get(place, Counter())
        return Balance(
            place=place,
            sent=len(sent),
            arrived=seen.total(),
            lost=tuple(sorted(sent - seen.keys())),
            duplicated=tuple(sorted(found for found, times in seen.items() if times > 1)),
            foreign=tuple(sorted(seen.keys() - sent)),
            reordered=self._reordered(place, seen),
        )

    def _reordered(self, place: str, seen: Counter[str]) -> tuple[str, ...]:
        # A counter keeps the order of first arrival.
        rank = {found: number for number, found in enumerate(seen)}
        wrong = []
        for key, ids in self._order.get(place, {}).items():
            arrived = [rank[one] for one in ids if one in rank]
            if arrived != sorted(arrived):
                wrong.append(key)
        return tuple(sorted(wrong))

    def balances(self) -> list[Balance]:
        """The account of every place that was named, in order of name."""
        return [self.balance(place) for place in sorted(self._sent.keys() | self._seen.keys())]
