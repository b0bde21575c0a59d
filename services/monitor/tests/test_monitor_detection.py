"""Facts minute by minute through windows, rules and alerts: when a page comes, and when it is over."""

from __future__ import annotations

from copy import deepcopy
from fractions import Fraction

import pytest

from flywheel_monitor.core.alerting import Standing, Terms, step
from flywheel_monitor.core.burning import RULES
from flywheel_monitor.core.fold import Place, fold
from flywheel_monitor.core.looking import burns_of, windows_of
from flywheel_monitor.core.objectives import Objective
from flywheel_monitor.core.readings import Reading, call_reading
from flywheel_monitor.core.series import Roster, Series
from flywheel_monitor.core.spans import DAY_US, HOUR_US, MINUTE_US

from .conftest import NOW_US, DictTables, make_call

A_MINUTE = 10
OBJECTIVE = Objective(Series("acme", "answers"), "error_rate", "error_rate", Fraction("0.01"), 30 * DAY_US)


class Traffic:
    """Ten calls a minute, of which a share fails, into windows and past the paging rules."""

    def __init__(self) -> None:
        self.tables, self.roster = DictTables(partitions=2), Roster()
        self.now_us, self.calls, self.owed = NOW_US, 0, Fraction(0)
        self.page: Standing | None = None

    def minute(self, failing: Fraction) -> bool:
        """A minute of it; returns whether it pages at the end."""
        placed: list[tuple[Place, Reading]] = []
        for n in range(A_MINUTE):
            self.owed += failing
            status = "ERROR" if self.owed >= 1 else "OK"
            self.owed -= self.owed >= 1
            at_us = self.now_us + n * MINUTE_US // A_MINUTE
            reading = call_reading(make_call(occurred_at=at_us, status=status), at_us, {})
            assert isinstance(reading, Reading)
            placed.append((Place("llm-calls", self.calls % 2, self.calls), reading))
            self.calls += 1
        self.now_us += MINUTE_US
        at_us = self.now_us - 1
        fold(placed, self.roster, self.tables, at_us)
        burns = [
            each
            for each in burns_of(windows_of(self.tables, self.tables.partitions, at_us), OBJECTIVE)
            if each.rule.severity == "page"
        ]
        self.page = step(OBJECTIVE, "page", burns, self.page, now_us=at_us, terms=Terms())
        return self.page is not None and self.page.firing

    def until(self, failing: Fraction, pages: bool) -> int:
        """How many minutes pass until it pages, or no longer does."""
        for minute in range(1, 600):
            if self.minute(failing) == pages:
                return minute
        raise AssertionError("not within ten hours")


@pytest.fixture(scope="module")
def six_hours() -> Traffic:
    """Six hours without an error; played once."""
    traffic = Traffic()
    assert not any([traffic.minute(Fraction(0)) for _ in range(360)])
    return traffic


@pytest.fixture
def traffic(six_hours: Traffic) -> Traffic:
    """What comes after six hours without an error."""
    return deepcopy(six_hours)


@pytest.mark.parametrize("failing", ["1", "0.5", "0.2", "0.07"])
def test_a_page_comes_when_the_workbook_says(traffic, failing):
    times = [rule.detection_us(OBJECTIVE.budget, Fraction(failing)) for rule in RULES if rule.severity == "page"]
    expected = min(time for time in times if time is not None) / MINUTE_US
    # Windows are in whole minutes (six hours: five), so up to a bucket shorter than their names.
    assert traffic.until(Fraction(failing), pages=True) == pytest.approx(float(expected), abs=2, rel=0.02)


def test_what_stays_below_six_times_the_budget_pages_nobody():
    traffic = Traffic()
    assert not any(traffic.minute(Fraction("0.055")) for _ in range(420))


def test_a_page_is_over_soon_after_its_cause(traffic):
    assert traffic.until(Fraction(1), pages=True) <= 10
    # 10 bad of 360 minutes are 2.8 %: only the fast rule holds, until its short window is good again (5 minutes), and
    # then it has to be quiet for two.
    assert traffic.until(Fraction(0), pages=False) <= 8


def test_the_slow_rule_keeps_a_page_until_its_short_window_is_good(traffic):
    for _ in range(60):
        traffic.minute(Fraction(1))
    over = traffic.until(Fraction(0), pages=False)
    assert HOUR_US // MINUTE_US / 2 - 5 <= over <= HOUR_US // MINUTE_US / 2 + 5
