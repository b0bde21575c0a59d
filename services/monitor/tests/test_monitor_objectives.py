"""Objectives, burn rates against the published figures, and when alerts begin and end."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.events import Codec, LocalRegistry
from flywheel_monitor.core.alerting import Standing, Terms, alert_output, ended, step
from flywheel_monitor.core.burning import RULES, Burning, Rule, budget_left, burn_rate, rules_for, span_text
from flywheel_monitor.core.objectives import Charters, Objective, Tally
from flywheel_monitor.core.series import Series
from flywheel_monitor.core.spans import DAY_US, HOUR_US, MINUTE_US
from flywheel_monitor.core.windows import Window

from .conftest import NOW_US

MONTH_US = 30 * DAY_US
THREE_NINES = Fraction("0.001")
TALLIES = st.tuples(st.integers(0, 1000), st.integers(0, 1000)).map(lambda pair: Tally(pair[0], sum(pair)))


def objective(budget: str = "0.001", period_us: int = MONTH_US, metric: str = "error_rate") -> Objective:
    return Objective(Series("acme", "answers"), metric, metric, Fraction(budget), period_us)


def charter(slo: str, revision: int = 1, feature: str = "answers") -> dict[str, Any]:
    text = f"project: acme\nfeature: {feature}\narms: [{{name: a, model: m/a}}]\nslo: {slo}\n"
    return {"project": "acme", "feature": feature, "revision": revision, "charter_yaml": text}


# The Site Reliability Workbook, chapter 5.


@pytest.mark.parametrize(
    ("rule", "consumed"),
    [("14.4x over 1h and 5m", "0.02"), ("6x over 6h and 30m", "0.05"), ("3x over 1d and 2h", "0.1"),
     ("1x over 3d and 6h", "0.1")],
)  # fmt: skip
def test_rules_hold_when_the_published_share_of_a_months_budget_is_used(rule, consumed):
    (found,) = [each for each in RULES if each.text == rule]
    assert found.consumed(MONTH_US) == Fraction(consumed)


def test_each_short_window_is_a_twelfth_of_the_long_one():
    assert {rule.long_us / rule.short_us for rule in RULES} == {12}


@pytest.mark.parametrize(("rate", "days"), [(1, 30), (2, 15), (10, 3), (1000, 0.03)])
def test_a_budget_is_gone_after_its_period_divided_by_the_burn_rate(rate, days):
    burning = Rule("page", Fraction(rate), round(days * DAY_US), 0)
    assert burning.consumed(MONTH_US) == 1


@pytest.mark.parametrize(
    ("rate", "window_us", "seconds"),
    [
        (1, 10 * MINUTE_US, 0.6),  # approach 1: target error rate over ten minutes
        (1, 36 * HOUR_US, 129.6),  # approach 2: the window made longer
        (36, HOUR_US, 129.6),  # approach 4: on burn rate
        ("14.4", HOUR_US, 51.84),  # approach 5, its fastest
    ],
)
def test_a_complete_outage_is_detected_after_the_published_time(rate, window_us, seconds):
    rule = Rule("page", Fraction(rate), window_us, window_us // 12)
    assert float(rule.detection_us(THREE_NINES, Fraction(1)) or 0) == pytest.approx(seconds * 1e6)


def test_what_burns_slower_than_a_rule_asks_is_never_detected_by_it():
    assert RULES[0].detection_us(THREE_NINES, Fraction("0.0143")) is None
    assert RULES[0].detection_us(THREE_NINES, Fraction("0.0144")) == HOUR_US


def test_rules_that_cannot_hold_are_not_watched():
    assert rules_for(objective()) == list(RULES)
    assert rules_for(objective("0.1")) == list(RULES[1:])  # 14.4 x 10 % is more than everything
    assert rules_for(objective(period_us=HOUR_US)) == [RULES[0]]


@given(TALLIES, st.fractions(Fraction(1, 10_000), Fraction(1, 2)))
def test_burn_rate_and_budget_left_say_the_same(tally, budget):
    rate, left = burn_rate(tally, budget), budget_left(tally, budget)
    if tally.total == 0:
        assert rate is None and left is None
    else:
        assert rate is not None and left == 1 - rate
        assert (left < 0) == (Fraction(tally.bad, tally.total) > budget)


@pytest.mark.parametrize(
    ("us", "text"), [(5 * MINUTE_US, "5m"), (90 * MINUTE_US, "90m"), (DAY_US, "1d"), (1500000, "1.5s")]
)
def test_spans_read_as_one_writes_them(us, text):
    assert span_text(us) == text


# Objectives of charters.


def test_a_charter_declares_what_is_good():
    charters = Charters()
    assert charters.update("acme/answers", charter(
        "[{metric: error_rate, max: 0.01, window: 30d}, {metric: latency_ms, below: 300, share: 0.9, window: 7d},"
        " {metric: fallback_rate, max: 0.05, window: 1d}, {metric: refusal_rate, max: 0.02, window: 1d}]"
    ))  # fmt: skip
    assert charters.thresholds("acme", "answers") == {"latency_ms<300": ("latency_ms", 300.0)}
    window = Window(
        {"calls": 12, "failed": 1, "refused": 3, "cancelled": 1, "unknown": 1, "decisions": 8, "fallbacks": 2},
        within={"latency_ms<300": (7, 9)},
    )
    assert [each.tally(window) for each in charters.objectives] == [
        Tally(1, 10), Tally(2, 9), Tally(2, 8), Tally(3, 10),
    ]  # fmt: skip


def test_the_newest_revision_of_a_charter_holds():
    charters = Charters()
    first, second = "[{metric: error_rate, max: 0.01, window: 30d}]", "[{metric: success_rate, min: 0.9, window: 30d}]"
    charters.update("acme/answers", charter(second, revision=2))
    assert not charters.update("acme/answers", charter(first, revision=1))
    assert not charters.update("acme/answers", charter("[{metric: luck, max: 1, window: 1d}]", revision=3))
    assert not charters.update("acme/answers", charter(first, revision=4) | {"feature": "other"})
    assert [each.label for each in charters.objectives] == ["success_rate"]
    assert charters.features == {("acme", "answers")}
    assert charters.update("acme/answers", None)
    assert (charters.objectives, charters.thresholds("acme", "answers")) == ([], {})


# Alerts.


def burns(long: str, short: str, bad: int = 100, rule: Rule = RULES[0]) -> list[Burning]:
    """The fastest rule, burning so many times as fast as it may."""
    return [Burning(rule, Fraction(long), Fraction(short), Tally(bad, 10_000))]


def told(steps: list[tuple[int, list[Burning]]], terms: Terms | None = None) -> list[tuple[int, str]]:
    """The second at which each report is made, and its state."""
    standing, found = None, []
    for second, burning in steps:
        after = step(
            objective(), "page", burning, standing, now_us=NOW_US + second * 1_000_000, terms=terms or Terms()
        )  # fmt: skip
        if after is not None and after.said is not None and not after.told:
            found.append((second, after.said["state"]))
            after = after.marked_told()
        standing = after
    return found


def test_an_alert_needs_both_windows_and_more_than_a_handful():
    assert told([(0, burns("20", "14"))]) == []
    assert told([(0, burns("14", "20"))]) == []
    assert told([(0, burns("20", "20", bad=4))]) == []
    assert told([(0, [Burning(RULES[0], None, None, Tally(0, 0))])]) == []
    assert told([(0, burns("14.4", "14.4", bad=5))]) == [(0, "firing")]


def test_an_alert_is_over_when_it_has_been_quiet_for_a_while():
    hot, calm = burns("20", "20"), burns("20", "1")
    assert told([(0, hot), (60, calm), (120, calm), (179, calm), (180, calm), (300, calm)]) == [
        (0, "firing"), (180, "resolved"),
    ]  # fmt: skip
    assert told([(0, hot), (60, calm), (120, hot), (200, calm), (319, calm), (320, calm)])[-1] == (320, "resolved")


def test_a_rate_that_hovers_at_the_rule_does_not_flap():
    steps = [(60 * n, burns("14.5", "14.5") if n % 2 else burns("13.5", "13.5")) for n in range(60)]
    assert told(steps) == [(60, "firing")]


def test_an_alert_fires_again_under_its_own_id():
    hot, calm = burns("20", "20"), burns("20", "1")
    quick = Terms(quiet_us=0)
    first = step(objective(), "page", hot, None, now_us=NOW_US, terms=quick)
    over = step(objective(), "page", calm, first, now_us=NOW_US + 1, terms=quick)
    second = step(objective(), "page", hot, over, now_us=NOW_US + 2, terms=quick)
    said = [alert_output(each).value for each in (first, over, second) if each is not None]
    assert len({value["alert_id"] for value in said}) == 1
    assert len({value["event_id"] for value in said}) == 3
    repeated = step(objective(), "page", hot, None, now_us=NOW_US, terms=quick)
    assert repeated is not None and alert_output(repeated).value == said[0]


def test_an_alert_is_an_event_that_says_what_was_seen():
    standing = step(objective(), "ticket", burns("3.5", "4", rule=RULES[2]), None, now_us=NOW_US, terms=Terms())
    assert standing is not None
    assert Standing.of(standing.record()) == standing
    output = alert_output(standing)
    codec = Codec(LocalRegistry.load())
    value = codec.decode(codec.encode(output.event, output.value)).value
    assert (value["kind"], value["severity"], value["state"]) == ("slo_burn", "warning", "firing")
    assert (value["value"], value["threshold"]) == (10.0, 3.0)
    assert value["window_start"] == NOW_US - DAY_US
    assert value["attributes"]["observed"] == "0.01"
    assert value["title"] == "answers: error_rate: the error budget burns 10 times as fast as it may"
    assert value["detail"].startswith("100 of 10000 bad in 1d, where 0.001 may be: burn rate 10")


def test_an_objective_that_is_no_longer_declared_ends_its_alert():
    firing = step(objective(), "page", burns("20", "20"), None, now_us=NOW_US, terms=Terms())
    assert firing is not None and firing.said is not None
    over = ended(firing, NOW_US + 5)
    assert over is not None and over.said is not None
    assert (over.said["state"], over.said["alert_id"]) == ("resolved", firing.said["alert_id"])
    assert over.said["event_id"] != firing.said["event_id"]
    assert ended(over, NOW_US + 6) is None


@given(st.lists(st.tuples(st.sampled_from(["0", "13", "14", "15", "100"]), st.sampled_from(["0", "13", "14", "15"]))))
def test_reports_alternate_and_each_is_caused(rates):
    steps = [(90 * n, burns(long, short)) for n, (long, short) in enumerate(rates)]
    found = told(steps)
    assert [state for _, state in found] == ["firing", "resolved"] * (len(found) // 2) + ["firing"] * (len(found) % 2)
    for second, state in found:
        long, short = rates[second // 90]
        assert (min(int(long), int(short)) >= 14.4) if state == "firing" else (min(int(long), int(short)) < 13)
