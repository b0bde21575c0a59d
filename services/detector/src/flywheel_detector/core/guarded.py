"""A series held to a bound that a charter declares: kept, broken, kept again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import pstdev
from typing import Any, Final, NamedTuple

from flywheel.detect import BoundDetector
from flywheel_detector.core.guardrails import GUARDRAIL, Guardrail
from flywheel_detector.core.off_level import Off

EXEMPLARS: Final = 3


class Seen(NamedTuple):
    """One observation: time, value in the measure's unit, request; of a score what kind of request, as JSON."""

    at_us: int
    value: float
    request_id: str
    classes: str = ""


@dataclass(slots=True)
class Guarded:
    """What is known of one bound of a series; ``off`` while it is broken, when nothing is bet."""

    limit: float
    detector: BoundDetector
    off: Off | None = None

    def take(self, rail: Guardrail, start_us: int, seen: Sequence[Seen], recent: Sequence[Seen], run: float) -> bool:
        """Take in a window's observations; whether they break the bound that was kept until then. ``recent``: the
        newest ones, those among them; ``run``: the run length to a false alarm."""
        if self.off is None:
            for place, each in enumerate(seen, 1):
                if self._breaks(rail, each, recent, run):
                    self._go_on(rail, start_us, seen[place:])
                    return True
            return False
        self._go_on(rail, start_us, seen)
        return False

    def _breaks(self, rail: Guardrail, each: Seen, recent: Sequence[Seen], run: float) -> bool:
        breach = self.detector.update(each.at_us, rail.figure(each.value), run)
        if breach is None:
            return False
        since = sorted(
            (-rail.figure(one.value), -one.at_us, one.request_id) for one in recent if one.at_us >= breach.since_us
        )
        self.off = Off(
            GUARDRAIL, breach.since_us, each.at_us, rail.bound, breach.mean, breach.statistic, breach.threshold,
            pstdev(rail.figure(one.value) for one in recent), True,
            list(dict.fromkeys(request for _, _, request in since))[:EXEMPLARS],
        )  # fmt: skip
        return True

    def _go_on(self, rail: Guardrail, start_us: int, seen: Sequence[Seen]) -> None:
        if self.off is not None and seen:
            self.off.add(start_us, [rail.figure(each.value) for each in seen])

    def plain(self) -> list[Any]:
        """Return its parts as JSON values."""
        return [self.limit, self.detector.to_json(), None if self.off is None else self.off.plain()]

    @classmethod
    def of(cls, plain: Sequence[Any]) -> Guarded:
        """Return what `plain` gave."""
        limit, detector, off = plain
        return cls(limit, BoundDetector.from_json(detector), None if off is None else Off(*off))
