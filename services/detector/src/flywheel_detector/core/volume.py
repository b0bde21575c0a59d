"""The life of a feature's alert about its traffic: fell or rose beside what the hour usually brings, came back."""

from __future__ import annotations

from typing import Final

from flywheel.detect import TrafficChange
from flywheel.detect.traffic import REMEMBERED, SPREAD, Counted
from flywheel.stream import Output
from flywheel_detector.core.alerting import FORGOTTEN, RANK, AlertTerms
from flywheel_detector.core.book import Book, Place, Raised
from flywheel_detector.core.off_level import LEAST_TO_RESOLVE, Off
from flywheel_detector.core.published import (
    TRAFFIC,
    alert_id,
    alert_output,
    changed_before,
    figure_text,
    scope_of,
    title_of,
    when,
)

GRAVE: Final = 0.2
"""Share of the usual calls at or below which it is critical."""
NEWS: Final = 0.3
"""Share of a deviation by which it must have changed to be said again: of few calls less would be chance."""
HOUR_US: Final = 3_600_000_000


class Volume:
    """One feature's traffic during a batch. A rise is told as ``info``: nobody need do anything. ``run_length``: blocks
    of calls to a false alarm."""

    def __init__(
        self, book: Book, terms: AlertTerms, *, window_us: int, run_length: float, outputs: list[Output]
    ) -> None:
        self._book, self._terms, self._run_length, self._outputs = book, terms, run_length, outputs
        book.traffic.least_us = 2 * window_us

    def take(self, start_us: int, calls: int, now_us: int) -> int:
        """Take in the calls of a window; how many figures were bet on."""
        book, off = self._book, self._book.traffic_off
        taken = book.traffic.update(start_us, calls, self._run_length, judge=off is None)
        if off is not None:
            figure = taken.slower if book.traffic_way == "fall" else taken.faster
            if figure is not None:
                off.add(start_us, [figure])
            return 0
        if taken.change is not None:
            self._begin(taken.change, start_us, now_us)
        return (taken.slower is not None) + (taken.faster is not None)

    def look(self, now_us: int) -> None:
        """Say it again when it became another; resolve it when it is over."""
        book, off = self._book, self._book.traffic_off
        raised = book.alerts.get(TRAFFIC)
        if raised is None or off is None:
            return
        over = "" if book.places else FORGOTTEN
        if not over and off.is_over(self._terms.resolve_us):
            over = "back at its level"
        if not over and book.newest_us - off.at_us >= self._terms.accept_us:
            over = "the new normal"
            book.traffic.accept()
        if over:
            del book.alerts[TRAFFIC]
            self._say(raised, off, "resolved", now_us, why=over)
            book.traffic_off, book.traffic_way = None, ""
            book.traffic.forget()
        elif now_us - raised.said_us >= self._terms.repeat_us and self._is_news(raised, off):
            self._say(raised, off, "firing", now_us)

    def _is_news(self, raised: Raised, off: Off) -> bool:
        return abs(self._figure(off) - raised.said) >= NEWS * abs(off.observed - off.expected)

    def _begin(self, change: TrafficChange, at_us: int, now_us: int) -> None:
        book = self._book
        book.traffic_way = change.way
        off = book.traffic_off = Off(
            "level_change", change.since_us, at_us, 1.0, change.figure, change.statistic, change.threshold, SPREAD,
            True, [],
        )  # fmt: skip
        raised = Raised(alert_id(book, Place("", ""), TRAFFIC), TRAFFIC, "", [], "info", now_us, now_us, 0.0)
        book.alerts[TRAFFIC] = raised
        self._say(raised, off, "firing", now_us)

    def _figure(self, off: Off) -> float:
        count, mean = off.lately(self._terms.resolve_us)
        return mean if count >= LEAST_TO_RESOLVE else off.observed

    def _say(self, raised: Raised, off: Off, state: str, now_us: int, *, why: str = "") -> None:
        book, figure = self._book, self._figure(off)
        blocks = LEAST_TO_RESOLVE if raised.reports else REMEMBERED
        counted = book.traffic.counted(off.since_us, blocks) or Counted(1.0 / figure, 1.0, HOUR_US)
        observed, expected = (each * HOUR_US / max(counted.span_us, 1) for each in counted[:2])
        if state == "firing":
            raised.reports += 1
            raised.said = figure
            grave = "info" if book.traffic_way == "rise" else "critical" if observed <= GRAVE * expected else "warning"
            raised.severity = max(raised.severity, grave, key=lambda each: RANK[each])
        raised.said_us = now_us
        what = f"traffic {why}" if why else f"{observed:.4g} calls an hour, usual {expected:.4g}"
        attributes = {
            "observed": figure_text(observed), "expected": figure_text(expected), "unit": "calls an hour",
            "measure": "calls", "since": when(off.since_us), "e_value": figure_text(off.e_value),
            "run_length": figure_text(off.run_length), "resolved_because": why,
            "changed_before": "; ".join(changed_before(book, Place("", ""), off.since_us, book.newest_us)),
            "method": "e-detector by betting against the usual calls of the hour",
        }  # fmt: skip
        scope = scope_of(book, Place("", ""), "")
        output = alert_output(
            book, raised, state=state, now_us=now_us, scope=scope, title=title_of(book, scope, what),
            detail=f"since {when(off.since_us)}", value=observed, window=(off.since_us, max(off.at_us, book.closed_us)),
            attributes=attributes,
        )  # fmt: skip
        self._outputs.append(output)
