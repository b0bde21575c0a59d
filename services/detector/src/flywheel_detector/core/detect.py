"""Stage 2: feeds the observations of each series to its detector, in order of time, and says what they find.

The ledger holds observations, charters and the time in one order. State and alerts are a function of that order alone:
read again, in any batches, it gives the same bytes. Windows close, alerts are raised and resolved when the time is
told, which it is only while stage 1 keeps up with what there is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flywheel.detect.levels import WARM_UP
from flywheel.stream import Event, FoldResult, Output, Reject, Skip, StateView, body_of, check_form
from flywheel_detector.core.alerting import Alerting, AlertTerms
from flywheel_detector.core.book import Book
from flywheel_detector.core.guarding import Guarding
from flywheel_detector.core.guardrails import guardrails_of
from flywheel_detector.core.ledger import LATEST_US, is_whole, observations_in
from flywheel_detector.core.measures import ARM_SHARE, GOLDEN, SCORE
from flywheel_detector.core.series import Series
from flywheel_detector.core.shelf import HOUR_US, Held, Shelf, series_key
from flywheel_detector.core.volume import Volume
from flywheel_detector.core.windows import OpenWindows

FORM: Final = 3
"""Of the state; another one when what the tables hold changes."""
DETECTORS: Final = 2
"""Of each series: its level and its spread; one more for each bound that it is held to."""
LEVEL_SHARE: Final = 0.9
"""Of the budget of false alarms for these; the rest is for silence."""
LEAST_RUN: Final = 100_000.0
DAY_US: Final = 86_400_000_000
MAX_CHARTERS: Final = 4
MOST_PARTITIONS: Final = 100_000
SURPLUS: Final = 2
"""Times ``most_series`` that there may be while windows are being closed."""


@dataclass(frozen=True, slots=True)
class DetectSettings:
    """``false_alarms_per_day``: over all series together; ``window_s``: what closes at once; ``grace_s``: how much
    newer an observation must have come for that; ``idle_s``: or how long none; ``lateness_s``: what is older than the
    newest by more is late, what comes after its window closed counts in the oldest that is open; ``most_series``: of a
    shard."""

    false_alarms_per_day: float = 1.0
    window_s: float = 10.0
    grace_s: float = 10.0
    idle_s: float = 60.0
    lateness_s: float = 600.0
    most_series: int = 1_000
    warm_up: int = WARM_UP
    alerts: AlertTerms = field(default_factory=AlertTerms)


class DetectFold:
    """The fold of stage 2. Between batches it holds copies of series, which are used only where the state is the one
    they belong to."""

    def __init__(self, settings: DetectSettings | None = None) -> None:
        self._settings = settings or DetectSettings()
        self._held: Held = OrderedDict()

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
        """Take a batch of entries; see ``flywheel.stream.Fold``."""
        check_form(state, FORM, stage="detector-detect", shard=shard)
        batch = _Batch(shard, state, self._held, self._settings)
        verdicts: dict[int, Skip | Reject] = {}
        for index, event in enumerate(events):
            verdict = batch.take(event)
            if verdict is not None:
                verdicts[index] = verdict
        batch.write()
        return FoldResult(batch.outputs, verdicts)


class _Batch:
    def __init__(self, shard: int, state: StateView, held: Held, settings: DetectSettings) -> None:
        self._state, self._settings = state, settings
        self.outputs: list[Output] = []
        self._window_us = round(settings.window_s * 1e6)
        self._shelf = Shelf(shard, state, held, most=settings.most_series, warm_up=settings.warm_up)
        self._windows = OpenWindows(state)
        self._books: dict[str, Book] = {}
        self._stored: dict[str, bytes] = {}
        found = state.get_many("clock", ("now", "day", "since", "today", "before"))
        self._clock = {name: int(text) for name, text in found.items()}

    def take(self, event: Event) -> Skip | Reject | None:
        if event.event != "detection_entry":
            return Skip("not_an_input")
        value, now_us = event.value, max(self._clock.get("now", 0), event.raw.timestamp_ms * 1000)
        body = body_of(value)
        if isinstance(body, Reject):
            return body
        self._clock["now"] = now_us
        if value["kind"] == "tick":
            return self._tick(body, now_us)
        if value["kind"] == "charter":
            return self._charter(value, body)
        if value["kind"] == "observations":
            return self._observe(value, body, now_us)
        return Reject("unknown_kind", "kind", f"{value['kind']!r} is none of observations, charter, tick")

    # -- facts --------------------------------------------------------------------------------------------------------

    def _observe(self, value: Mapping[str, Any], body: Mapping[str, Any], now_us: int) -> Skip | Reject | None:
        observations = observations_in(body)
        if isinstance(observations, Reject):
            return observations
        book, taken = self._book(value), 0
        for each in observations:
            # A call is dated when it began and told when it ended: slow ones, and timeouts above all, come when
            # their window has closed, and must count.
            start_us = max(each.at_us // self._window_us * self._window_us, book.closed_us)
            # A clock that runs ahead must not close the windows of those that are right.
            newest_us = max(book.newest_us, min(each.at_us, now_us))
            if each.at_us < newest_us - self._settings.lateness_s * 1e6:
                book.late += 1
                continue
            taken += 1
            key, place = book.place_of(each.cell)
            book.newest_us, book.arrived_us, place.arrived_us = newest_us, now_us, now_us
            if not all(name.startswith((SCORE, ARM_SHARE, GOLDEN)) for name in each.measured):
                book.called_us = now_us
            place.note(each)
            self._windows.window(book.key, start_us, key).add(each)
        return None if taken else Skip("late")

    def _charter(self, value: Mapping[str, Any], body: Mapping[str, Any]) -> Skip | Reject | None:
        revision, at_us = body.get("revision"), body.get("at_us")
        if not is_whole(revision, LATEST_US) or not is_whole(at_us, LATEST_US):
            return Reject("entry_invalid", "body", "revision and at_us: whole numbers of 1 or more")
        try:
            rails = guardrails_of(body.get("bounds", {}))
        except (ValueError, AttributeError) as error:
            return Reject("entry_invalid", "body", str(error)[:300])
        book = self._book(value)
        if book.charters and revision <= book.charters[-1]["revision"]:
            return Skip("older")
        book.charters = [*book.charters, {"revision": revision, "at_us": at_us}][-MAX_CHARTERS:]
        book.bounds = {rail.name: body["bounds"][rail.name] for rail in rails}
        return None

    # -- the time -----------------------------------------------------------------------------------------------------

    def _tick(self, body: Mapping[str, Any], now_us: int) -> Reject | None:
        partitions = body.get("partitions")
        if not is_whole(partitions, MOST_PARTITIONS):
            return Reject("entry_invalid", "body", f"partitions: a whole number of 1 to {MOST_PARTITIONS}")
        run_length = self._run_length(partitions, now_us)
        silences = (1.0 - LEVEL_SHARE) * self._settings.false_alarms_per_day / partitions
        for key, stored in list(self._state.scan("books")):
            if key not in self._books:
                self._books[key], self._stored[key] = Book.decode(stored), stored
        for key in sorted(self._books):
            book = self._books[key]
            alerting = Alerting(
                book, self._shelf, self._state, self._settings.alerts, window_us=self._window_us, outputs=self.outputs
            )
            rails = {rail.label: rail for rail in guardrails_of(book.bounds)}
            guarding = Guarding(
                book, self._shelf, self._settings.alerts, rails, window_us=self._window_us, outputs=self.outputs
            )
            volume = Volume(
                book, self._settings.alerts, window_us=self._window_us, run_length=run_length, outputs=self.outputs
            )
            book.silence.per_day = round(silences / len(self._books), 9)
            calls = self._close(book, alerting, guarding, now_us, run_length)
            self._spend(sum(volume.take(start_us, count, now_us) for start_us, count in calls))
            alerting.look(now_us)
            guarding.look(now_us)
            volume.look(now_us)
            alerting.silent(now_us, round(self._settings.idle_s * 1e6))
        if self._shelf.count > self._settings.most_series:
            self._evict()
        return None

    def _run_length(self, partitions: int, now_us: int) -> float:
        """The run length to a false alarm of each detector that keeps to the budget: an e-detector alarms in n
        observations n / A times on average (Shin, Ramdas & Rinaldo 2023), so all together as often as the sum of each
        one's observations / A. Of a day's sum yesterday's is known, or today's so far; on a day after one without any,
        what the rate so far comes to in a day."""
        day, clock = now_us // DAY_US, self._clock
        if day != clock.get("day", 0):
            clock["before"] = clock.get("today", 0) if day == clock.get("day", 0) + 1 else 0
            clock["day"], clock["since"], clock["today"] = day, now_us, 0
        today = clock["today"]
        if not clock["before"]:
            today = today * DAY_US // max(now_us - clock["since"], HOUR_US)
        a_day = max(today, clock["before"])
        return max(LEAST_RUN, a_day * partitions / (LEVEL_SHARE * self._settings.false_alarms_per_day))

    def _close(
        self, book: Book, alerting: Alerting, guarding: Guarding, now_us: int, run_length: float
    ) -> list[tuple[int, int]]:
        """Feed what the windows hold that close now to their series; start and calls of those with calls, in order."""
        idle = now_us - book.arrived_us >= self._settings.idle_s * 1e6
        done_us = book.newest_us - round(self._settings.grace_s * 1e6) - self._window_us + 1
        before_us = max(now_us, book.closed_us) + 1 if idle else done_us
        called: dict[int, int] = {}
        calls: dict[int, int] = {}
        for start_us, key, window in self._windows.take(book.key, before_us):
            book.closed_us = max(book.closed_us, start_us + self._window_us)
            place = book.places.get(key)
            if place is None:
                continue
            if "error_rate" in window.measured:
                place.count(start_us, window.measured["error_rate"].taken)
                calls[start_us] = calls.get(start_us, 0) + window.measured["error_rate"].taken
                newest_us = window.sample("error_rate")[-1].at_us
                called[start_us] = max(called.get(start_us, 0), newest_us)
            for name in sorted(window.measured):
                series = self._series(book, key, name)
                seen, rails = window.sample(name), guarding.rails_of(name)
                self._spend(len(seen) * (DETECTORS + len(rails)))
                if series.watch(self._state, start_us, seen, run_length) is not None:
                    alerting.found(key, series, now_us)
                for label in series.hold_to(rails, start_us, seen, run_length):
                    guarding.found(key, series, label, now_us)
            if self._shelf.count > SURPLUS * self._settings.most_series:
                self._evict()  # a flood of names must not fill the memory before the others had their turn
        for start_us in sorted(called):
            book.silence.update(called[start_us])
        return sorted(calls.items())

    def _spend(self, judged: int) -> None:
        """Count what was judged today, of which the run length is made."""
        self._clock["today"] = self._clock.get("today", 0) + judged

    def _series(self, book: Book, key: str, name: str) -> Series:
        place = book.places[key]
        if name not in place.measures:
            place.measures = sorted([*place.measures, name])
        return self._shelf.series(book.key, key, name)

    def _evict(self) -> None:
        """Forget the series not heard of for longest; their feature remembers how many there were, and how much they
        had seen."""
        self._shelf.write()
        names = {
            series_key(book.key, place, name): (book, place, name)
            for book in self._books.values() for place, held in book.places.items() for name in held.measures
        }  # fmt: skip
        for key, taken in self._shelf.evict():
            if key not in names:
                continue
            book, place, name = names[key]
            book.evicted = [book.evicted[0] + 1, book.evicted[1] + taken]
            book.places[place].measures.remove(name)
            if not book.places[place].measures:
                del book.places[place]

    # -- state --------------------------------------------------------------------------------------------------------

    def _book(self, value: Mapping[str, Any]) -> Book:
        book = Book(value["project"], value["feature"])
        if book.key not in self._books:
            stored = self._state.get("books", book.key)
            self._books[book.key] = book if stored is None else Book.decode(stored)
            self._stored[book.key] = stored or b""
        return self._books[book.key]

    def write(self) -> None:
        """Put what changed into the state."""
        self._shelf.write()
        for key, book in sorted(self._books.items()):
            if not book.places and not book.charters and not book.alerts and book.closed_us:
                self._state.delete("books", key)
                self._windows.take(key, LATEST_US)
                continue
            encoded = book.encode()
            if encoded != self._stored[key]:
                self._state.put("books", key, encoded)
        self._windows.write()
        for name, number in sorted(self._clock.items()):
            self._state.put("clock", name, str(number).encode())
