"""Counts what went in against what arrived: by id, per place (a topic, a table), so that nothing is lost or doubled
unseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Balance:
    """One place against what should be there. ``lost`` never arrived, ``duplicated`` arrived again, ``foreign`` was
    never sent."""

    place: str
    sent: int
    arrived: int
    lost: tuple[str, ...]
    duplicated: tuple[str, ...]
    foreign: tuple[str, ...]

    @property
    def even(self) -> bool:
        """Whether every id sent is there exactly once, and nothing else."""
        return not (self.lost or self.duplicated or self.foreign)

    def __str__(self) -> str:
        found = f"{self.place}: sent {self.sent}, arrived {self.arrived}"
        if self.even:
            return f"{found}, even"
        wrong = [(self.lost, "lost"), (self.duplicated, "twice or more"), (self.foreign, "not ours")]
        return ", ".join([found, *(f"{len(ids)} {what} (first {ids[0]})" for ids, what in wrong if ids)])


@dataclass(slots=True)
class Ledger:
    """Ids sent and ids seen, by place. An id sent twice to one place on purpose still has to arrive once."""

    _sent: dict[str, set[str]] = field(default_factory=dict)
    _seen: dict[str, Counter[str]] = field(default_factory=dict)

    def sent(self, place: str, ids: Iterable[str]) -> None:
        """Note that these ids should end in ``place``."""
        self._sent.setdefault(place, set()).update(ids)

    def seen(self, place: str, ids: Iterable[str]) -> None:
        """Note that these ids were found in ``place``; once per finding."""
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
        )

    def balances(self) -> list[Balance]:
        """The account of every place that was named, in order of name."""
        return [self.balance(place) for place in sorted(self._sent.keys() | self._seen.keys())]
