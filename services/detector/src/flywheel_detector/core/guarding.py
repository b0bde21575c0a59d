"""The life of alerts about declared bounds: broken, said again when it became another, kept again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flywheel.stream import Output
from flywheel_detector.core.alerting import FORGOTTEN, NEWS, RANK, AlertTerms, rate_of
from flywheel_detector.core.book import Book, Place, Raised
from flywheel_detector.core.guardrails import GUARDRAIL, Guardrail
from flywheel_detector.core.measures import measure_of
from flywheel_detector.core.off_level import LEAST_TO_RESOLVE, Off
from flywheel_detector.core.published import (
    alert_id,
    alert_output,
    changed_before,
    figure_text,
    impact_of,
    scope_of,
    severity_of,
    title_of,
    when,
)
from flywheel_detector.core.series import Series
from flywheel_detector.core.shelf import Shelf

KEPT: Final = "kept again"
NO_DATA: Final = "no more data"
UNDECLARED: Final = "not declared any more"


class Guarding:
    """One feature's alerts about bounds during a batch."""

    def __init__(
        self, book: Book, shelf: Shelf, terms: AlertTerms, rails: Mapping[str, Guardrail], *, window_us: int,
        outputs: list[Output],
    ) -> None:  # fmt: skip
        self._book, self._shelf, self._terms, self._rails = book, shelf, terms, rails
        self._window_us, self._outputs = window_us, outputs

    def rails_of(self, measure: str) -> list[Guardrail]:
        """The bounds of a measure."""
        return [rail for rail in self._rails.values() if rail.measure == measure]

    def found(self, place_key: str, series: Series, label: str, now_us: int) -> None:
        """A bound that was kept is broken."""
        about = f"{place_key}{GUARDRAIL}{label}"
        identity = alert_id(self._book, self._book.places[place_key], f"{GUARDRAIL} {label}")
        raised = Raised(identity, GUARDRAIL, place_key, [series.measure.name], "info", now_us, now_us, 0.0)
        self._book.alerts[about] = raised
        self._say(raised, self._rails[label], series.guarded[label].off, "firing", now_us)

    def look(self, now_us: int) -> None:
        """Say again what became another; resolve what is over."""
        for about, raised in sorted(self._book.alerts.items()):
            if raised.kind == GUARDRAIL:
                self._look_at(about, raised, now_us)

    def _look_at(self, about: str, raised: Raised, now_us: int) -> None:
        label, place = about[len(raised.place) + len(GUARDRAIL) :], self._book.places.get(raised.place)
        rail, (measure,) = self._rails.get(label), raised.measures
        if place is None or measure not in place.measures:
            del self._book.alerts[about]
            self._say(raised, rail, None, "resolved", now_us, why=FORGOTTEN)
            return
        series = self._shelf.series(self._book.key, raised.place, measure)
        known = series.guarded.get(label)
        off = None if known is None or rail is None or known.limit != rail.limit else known.off
        if known is None or rail is None or off is None:
            del self._book.alerts[about]
            self._say(raised, rail, None, "resolved", now_us, why=UNDECLARED)
            return
        over = KEPT if off.is_over(self._terms.resolve_us) else ""
        if not over and now_us - place.arrived_us >= self._terms.quiet_us:
            over = NO_DATA
        if over:
            series.keep(label)
            del self._book.alerts[about]
            self._say(raised, rail, off, "resolved", now_us, why=over)
        elif now_us - raised.said_us >= self._terms.repeat_us and self._is_news(raised, off):
            self._say(raised, rail, off, "firing", now_us)

    def _is_news(self, raised: Raised, off: Off) -> bool:
        return abs(self._observed(off) - raised.said) >= NEWS * abs(off.observed - off.expected)

    def _observed(self, off: Off) -> float:
        count, mean = off.lately(self._terms.resolve_us)
        return mean if count >= LEAST_TO_RESOLVE else off.observed

    def _say(
        self, raised: Raised, rail: Guardrail | None, off: Off | None, state: str, now_us: int, *, why: str = ""
    ) -> None:
        book, place = self._book, self._book.places.get(raised.place, Place("", ""))
        (measure,) = raised.measures
        scope = scope_of(book, place, measure)
        attributes = {"measure": measure, "resolved_because": why}
        value = threshold = window = None
        what = f"{measure}: bound {why}"
        if rail is not None and off is not None:
            mean = self._observed(off)
            value, threshold, window = rail.shown(mean), rail.shown(rail.bound), (off.since_us, now_us)
            what = f"{rail.said(mean)}{' (' + why + ')' if why else ''}"
            attributes |= self._evidence(rail, off, place, value, threshold)
            if state == "firing":
                raised.said = mean
                grave = severity_of(measure_of(measure), threshold, value, rate_of(book, place, self._window_us)[1])
                raised.severity = max(raised.severity, grave, key=lambda each: RANK[each])
        raised.reports += state == "firing"
        raised.said_us = now_us
        output = alert_output(
            book, raised, state=state, now_us=now_us, scope=scope, title=title_of(book, scope, what)[:300],
            detail="" if off is None else f"since {when(off.since_us)}", value=value, threshold=threshold,
            window=window, attributes=attributes,
        )  # fmt: skip
        self._outputs.append(output)

    def _evidence(self, rail: Guardrail, off: Off, place: Place, value: float, allowed: float) -> dict[str, str]:
        measure = measure_of(rail.measure)
        calls, _ = rate_of(self._book, place, self._window_us)
        return {
            "guardrail": rail.name, "limit": figure_text(rail.limit), "unit": measure.unit,
            "observed": figure_text(value), "expected": figure_text(allowed), "calls_per_hour": figure_text(calls),
            "since": when(off.since_us), "e_value": figure_text(off.e_value),
            "run_length": figure_text(off.run_length), "exemplars": ", ".join(off.exemplars),
            "changed_before": "; ".join(changed_before(self._book, place, off.since_us, self._book.newest_us)),
            "impact": "" if rail.quantile is not None else impact_of(measure, allowed, value, calls),
            "method": "e-detector by betting against the bound",
        }  # fmt: skip
