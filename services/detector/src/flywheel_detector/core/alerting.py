"""The life of a feature's alerts: raised by a cause, said again when it became another, resolved when it is over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flywheel.stream import Output, StateView
from flywheel_detector.core.book import Book, Place, Raised, key_of
from flywheel_detector.core.guardrails import GUARDRAIL
from flywheel_detector.core.judges import Moved, moved_probes, moved_score, verdict_of
from flywheel_detector.core.measures import GOLDEN, JUDGE_DRIFT, SCORE
from flywheel_detector.core.off_level import LEAST_TO_RESOLVE, Off
from flywheel_detector.core.published import (
    SILENCE,
    TRAFFIC,
    alert_id,
    alert_output,
    changed_before,
    explained_by,
    figure_text,
    impact_of,
    scope_of,
    severity_of,
    title_of,
    when,
)
from flywheel_detector.core.series import Series
from flywheel_detector.core.shelf import Shelf

WHOLE: Final = key_of("", "")
"""The cell of what concerns a whole feature."""
RANK: Final = {"info": 0, "warning": 1, "critical": 2}
FORGOTTEN: Final = "forgotten"
"""Why an alert ended whose series went because there were too many, whether or not there is another by now."""
NEWS: Final = 0.1
"""Share of a deviation by which it must have changed to be said again."""


@dataclass(frozen=True, slots=True)
class AlertTerms:
    """``resolve_us``: how long a series must be back; ``quiet_us``: after how long without data there is nothing to
    tell of; ``repeat_us``: the least time between two reports; ``accept_us``: when a new level is the normal one;
    ``drift_us``: how long an alert about drift, of which nobody can say when it is over, fires."""

    resolve_us: int = 120_000_000
    quiet_us: int = 300_000_000
    repeat_us: int = 120_000_000
    accept_us: int = 86_400_000_000
    drift_us: int = 3_600_000_000


class Alerting:
    """One feature's alerts during a batch."""

    def __init__(
        self, book: Book, shelf: Shelf, state: StateView, terms: AlertTerms, *, window_us: int, outputs: list[Output]
    ) -> None:
        self._book, self._shelf, self._state, self._terms = book, shelf, state, terms
        self._window_us, self._outputs = window_us, outputs

    def found(self, place_key: str, series: Series, now_us: int) -> None:
        """A series went off its level: raise its alert, or join the one of the same cause."""
        kind = series.measure.kind
        if series.off is not None and series.off.kind == "drift" and kind != JUDGE_DRIFT:
            kind = "drift"
        about = f"{place_key}{kind}"
        if kind in ("arm_share", JUDGE_DRIFT):
            about += series.measure.name
        raised = self._book.alerts.get(about)
        if raised is not None:
            if series.measure.name not in raised.measures:
                raised.measures.append(series.measure.name)
            return
        place = self._book.places[place_key]
        identity = alert_id(self._book, place, about[len(place_key) :])
        raised = Raised(identity, kind, place_key, [series.measure.name], "info", now_us, now_us, 0.0)
        self._book.alerts[about] = raised
        self._say(raised, series, "firing", now_us)

    def look(self, now_us: int) -> None:
        """Say again what became another; resolve what is over."""
        for about, raised in sorted(self._book.alerts.items()):
            if raised.kind not in (SILENCE, TRAFFIC, GUARDRAIL):
                self._look_at(about, raised, now_us)

    def _look_at(self, about: str, raised: Raised, now_us: int) -> None:
        place = self._book.places.get(raised.place)
        known = [] if place is None else [name for name in raised.measures if name in place.measures]
        if place is None or not known:
            self._forget(about, raised, now_us)
            return
        members = [self._shelf.series(self._book.key, raised.place, name) for name in known]
        lead = members[0]
        why = ""
        for series in members:
            why = self._over(series, place, now_us) or why
        still = [series.measure.name for series in members if series.off is not None]
        if not still:
            del self._book.alerts[about]
            self._say(raised, lead, "resolved", now_us, why=why or FORGOTTEN)
            return
        raised.measures = still
        self._again(raised, self._shelf.series(self._book.key, raised.place, still[0]), now_us)

    def _over(self, series: Series, place: Place, now_us: int) -> str:
        """Why a series is not off its level any more, empty where it still is."""
        off = series.off
        if off is None:
            return ""
        if off.is_over(self._terms.resolve_us):
            series.end()
            return "back at its level"
        lasts_us = self._terms.drift_us if off.kind == "drift" else self._terms.accept_us
        if self._book.newest_us - off.at_us >= lasts_us:
            series.accept(self._state)
            return "the new normal"
        if now_us - place.arrived_us >= self._terms.quiet_us:
            series.end()
            return "no more data"
        return ""

    def _forget(self, about: str, raised: Raised, now_us: int) -> None:
        """End an alert whose series went because there were too many: nobody can say when it would be over."""
        book, measure = self._book, ", ".join(raised.measures)
        del book.alerts[about]
        what = f"{measure or 'calls'} not watched any more"
        self._outputs.append(
            alert_output(
                book,
                raised,
                state="resolved",
                now_us=now_us,
                scope=scope_of(book, Place("", ""), measure),
                title=title_of(book, {}, what)[:300],
                detail="too many series",
                value=None,
                window=None,
                attributes={"measure": measure, "resolved_because": FORGOTTEN},
            )
        )

    def _again(self, raised: Raised, series: Series, now_us: int) -> None:
        off = series.off
        if off is None or now_us - raised.said_us < self._terms.repeat_us:
            return
        _, observed = _figures(series, off, self._terms.resolve_us)
        verdict = series.mix.told(off.since_us).get("mix_verdict", "")
        moved = abs(observed - raised.said) >= NEWS * abs(off.observed - off.expected)
        if moved or verdict not in ("", raised.verdict) or self._blamed(raised) != raised.blamed:
            self._say(raised, series, "firing", now_us)

    # -- silence ------------------------------------------------------------------------------------------------------

    def silent(self, now_us: int, grace_us: int) -> None:
        """Raise or resolve the alert that a feature's calls stopped coming. By the ledger's time: what was late for
        another reason came before the time did. Of a feature none of whose series is watched any more nobody is told.
        """
        book = self._book
        raised, gap_us = book.alerts.get(SILENCE), now_us - book.called_us
        if not book.places:
            if raised is not None:
                self._forget(SILENCE, raised, now_us)
            return
        if raised is not None:
            if book.called_us >= raised.first_us:
                del book.alerts[SILENCE]
                self._say_silence(raised, "resolved", now_us, gap_us, book.silence.overdue_us(book.called_us) or 0)
            return
        limit_us = book.silence.overdue_us(book.called_us) if gap_us > grace_us else None
        if limit_us is not None and gap_us > limit_us + grace_us:
            raised = Raised(alert_id(book, Place("", ""), SILENCE), SILENCE, "", [], "warning", now_us, now_us, 0.0)
            book.alerts[SILENCE] = raised
            self._say_silence(raised, "firing", now_us, gap_us, limit_us)

    def _say_silence(self, raised: Raised, state: str, now_us: int, gap_us: int, limit_us: int) -> None:
        book, scope = self._book, scope_of(self._book, Place("", ""), "")
        what = "no calls" if state == "firing" else "calls again"
        attributes = {
            "observed": figure_text(gap_us / 1e6), "expected": figure_text(limit_us / 1e6), "unit": "s",
            "measure": "seconds without a call", "since": when(book.called_us),
            "false_alarms_per_day": figure_text(book.silence.per_day),
        }  # fmt: skip
        output = alert_output(
            book, raised, state=state, now_us=now_us, scope=scope, title=title_of(book, scope, what),
            detail=f"none for {gap_us / 1e6:.0f} s; usual is less than {limit_us / 1e6:.0f} s", value=gap_us / 1e6,
            window=(book.called_us, now_us), attributes=attributes,
        )  # fmt: skip
        self._outputs.append(output)

    # -- what is said -------------------------------------------------------------------------------------------------

    def _say(self, raised: Raised, series: Series, state: str, now_us: int, *, why: str = "") -> None:
        book, place = self._book, self._book.places.get(raised.place, Place("", ""))
        off, measure = series.off, series.measure
        figures = _figures(series, off, self._terms.resolve_us)
        expected, observed = measure.shown(figures[0]), measure.shown(figures[1])
        if off is not None and off.kind == "drift":
            expected, observed = figures
        calls, share = rate_of(book, place, self._window_us)
        if off is not None:
            grave = severity_of(measure, expected, observed, share)
            raised.severity = max(raised.severity, grave, key=lambda each: RANK[each])
            raised.said = figures[1]
        if state == "firing":
            raised.reports += 1
        scope = scope_of(book, place, measure.name)
        name = measure.name + (" spread" if off is not None and off.kind == "drift" else "")
        unit = f" {measure.unit}" if measure.unit else ""
        what = f"{name} {observed:.4g}{unit}, usual {expected:.4g}{unit}" if not why else f"{name} {why}"
        attributes = {
            "measure": measure.name, "unit": measure.unit, "observed": figure_text(observed),
            "expected": figure_text(expected), "calls_per_hour": figure_text(calls), "resolved_because": why,
            "also": ", ".join(raised.measures[1:]),
        }  # fmt: skip
        window = None
        if off is not None:
            window = (off.since_us, max(off.at_us, series.last_us))
            attributes |= {
                "since": when(off.since_us), "e_value": figure_text(off.e_value),
                "run_length": figure_text(off.run_length), "exemplars": ", ".join(off.exemplars),
                "changed_before": "; ".join(changed_before(book, place, off.since_us, book.newest_us)),
                "explained_by": self._explained(measure.name),
                "impact": impact_of(measure, expected, observed, calls),
                "method": "e-detector on sequential ranks", **series.mix.told(off.since_us),
            }  # fmt: skip
            raised.verdict = attributes.get("mix_verdict", "")
            raised.blamed = attributes["verdict"] = self._blamed(raised)
        output = alert_output(
            book, raised, state=state, now_us=now_us, scope=scope, title=title_of(book, scope, what)[:300],
            detail="" if off is None else f"since {when(off.since_us)}", value=observed, window=window,
            attributes=attributes,
        )  # fmt: skip
        raised.said_us = now_us
        self._outputs.append(output)

    def _blamed(self, raised: Raised) -> str:
        """What explains the scores of an alert; where evaluators differ in that, the answers to what they agree on."""
        found = {self._blame(raised.place, name) for name in raised.measures if name.startswith(SCORE)}
        return found.pop() if len(found) == 1 else ""

    def _blame(self, place_key: str, score: str) -> str:
        book, probes = self._book, f"{GOLDEN}{score.removeprefix(SCORE)}"
        feature_wide = book.places.get(WHOLE)
        off = self._shelf.series(book.key, place_key, score).off
        if off is None or off.kind != "level_change" or feature_wide is None or probes not in feature_wide.measures:
            return ""
        judge: Moved | None = moved_probes(self._shelf.series(book.key, WHOLE, probes), off.since_us)
        return verdict_of(moved_score(off, self._terms.resolve_us), judge)

    def _explained(self, measure: str) -> str:
        """Shares of the cells in the change of the feature's mean, by their calls."""
        parts: list[tuple[str, float]] = []
        for key, place in sorted(self._book.places.items()):
            glance = self._shelf.glance(self._book.key, key, measure)
            if glance is not None:
                calls = place.per_hour(self._book.closed_us, self._window_us)
                name = " ".join(part for part in (place.arm, place.model) if part)
                parts.append((name or "all", calls * (glance.lately - glance.usual)))
        return explained_by(parts) if len(parts) > 1 else ""


def rate_of(book: Book, place: Place, window_us: int) -> tuple[float, float]:
    """Calls an hour of a cell lately, and its share of the feature's."""
    calls = place.per_hour(book.closed_us, window_us)
    all_calls = sum(each.per_hour(book.closed_us, window_us) for each in book.places.values())
    return calls, calls / all_calls if all_calls and place.model else 1.0


def _figures(series: Series, off: Off | None, span_us: int) -> tuple[float, float]:
    """Expected and observed now, as figures: at first what the detector says, then what the newest windows show."""
    if off is None:
        return series.levels.level, series.lately
    count, mean = off.lately(span_us)
    return off.expected, mean if count >= LEAST_TO_RESOLVE else off.observed
