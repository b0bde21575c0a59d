"""Which alerts are one incident: examples, and laws that hold for any alerts and actions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.incident import Episode, Incident, Step, Terms, group

MINUTE = 60_000_000
DAY = 1_440 * MINUTE
TERMS = Terms(gap_us=15 * MINUTE, lasting_us=DAY)


def episode(alert_id: str, start: float, stop: float | None = None, **more: Any) -> Episode:
    """An alert about the feature ``answers`` that fires from minute ``start`` to minute ``stop``."""
    end_us = None if stop is None else int(stop * MINUTE)
    start_us = int(start * MINUTE)
    told: dict[str, Any] = {
        "project": "acme", "kind": "error_rate", "severity": "warning", "scope": {"feature": "answers"},
        "last_us": start_us if end_us is None else end_us,
    }  # fmt: skip
    return Episode(alert_id=alert_id, started_us=start_us, ended_us=end_us, **{**told, **more})


def step(action_id: str, at: float, *cause: str, state: str = "applied") -> Step:
    return Step(f"{action_id} {state}", action_id, "acme", "answers", int(at * MINUTE), state, "disable", cause=cause)


def names(found: tuple[Incident, ...]) -> list[list[str]]:
    return [[each.alert_id for each in incident.episodes] for incident in found]


def test_alerts_of_a_feature_that_overlap_or_follow_soon_are_one_incident() -> None:
    quality, cost = episode("quality", 5, 40), episode("cost", 50, 60)  # ten minutes after the last was over
    again = episode("quality", 80, 90)
    assert names(group([episode("errors", 0, 30), quality, cost, again], (), TERMS)) == [
        ["errors", "quality", "cost"], ["quality"],
    ]  # fmt: skip
    titles = episode("titles", 5, 40, scope={"feature": "titles"})
    assert names(group([quality, titles, replace(quality, project="other")], (), TERMS)) == [
        ["quality"], ["titles"], ["quality"],
    ]  # fmt: skip


def test_a_short_alert_within_a_long_one_does_not_end_what_the_long_one_reaches() -> None:
    assert names(group([episode("long", 0, 100), episode("short", 1, 2), episode("late", 110, 111)], (), TERMS)) == [
        ["long", "short", "late"]
    ]


def test_without_a_feature_the_subject_tells_what_belongs_together() -> None:
    one = episode("a", 0, 10, scope={"team": "cx"}, subject="acme/cx-day")
    other = replace(one, alert_id="b", subject="acme/dev-day")
    same = replace(one, alert_id="c")
    assert names(group([one, other, same], (), TERMS)) == [["a", "c"], ["b"]]


def test_an_alert_nobody_resolved_goes_on_for_a_day_and_one_about_a_window_is_a_moment() -> None:
    forgotten = episode("circuit", 0)
    assert names(group([forgotten, episode("soon", 1_440 + 14, 1_500)], (), TERMS)) == [["circuit", "soon"]]
    assert names(group([forgotten, episode("late", 1_440 + 16, 1_500)], (), TERMS)) == [["circuit"], ["late"]]
    half = episode("half", 0, window_end_us=30 * DAY)
    assert names(group([half, episode("late", 16, 20)], (), TERMS)) == [["half"], ["late"]]
    (alone,) = group([half], (), TERMS)
    assert (alone.state(DAY, TERMS), alone.ended_us(DAY, TERMS)) == ("open", None)
    assert (alone.state(31 * DAY, TERMS), alone.ended_us(31 * DAY, TERMS)) == ("closed", 30 * DAY)


def test_who_answers_whom_ties_alerts_wherever_they_are() -> None:
    own = episode("failed", 300, kind="action_failed", scope={}, attributes={"cause": "model"})
    model = episode("model", 0, 60, scope={"model": "gpt-4o"}, subject="acme")
    errors = episode("errors", 30, 60)
    assert names(group([own, model, errors], (), TERMS)) == [["model", "failed"], ["errors"]]
    (found,) = group([own, model, errors], [step("off", 31, "model", "errors")], TERMS)
    assert [each.alert_id for each in found.episodes] == ["model", "errors", "failed"]
    assert [each.alert_id for each in found.causes] == ["model", "errors"]
    assert found.ended_us(DAY, TERMS) == 60 * MINUTE  # the alert about the alert is never resolved
    assert found.state(DAY, TERMS) == "closed"


def test_an_action_answers_the_time_that_the_alert_fired_before_it() -> None:
    first, second = episode("errors", 0, 10), episode("errors", 100, 110)
    steps = [step("b", 101, "errors"), step("a", 1, "errors"), step("a", 9, "errors", state="verified")]
    found = group([second, first], [*steps, step("stray", 5, "unheard of"), step("person", 5)], TERMS)
    assert [[each.event_id for each in one.steps] for one in found] == [["a applied", "a verified"], ["b applied"]]
    # The controller's clock may be a little behind the detector's.
    (early,) = group([second], [step("b", 100 - 1 / 60, "errors")], TERMS)
    assert len(early.steps) == 1


def test_an_alert_that_says_it_is_its_own_cause_is_still_one() -> None:
    odd = episode("odd", 0, 10, attributes={"cause": "odd"})
    (found,) = group([odd], (), TERMS)
    assert found.causes == (odd,) and found.lead == odd


def test_severity_and_name_are_those_of_the_worst() -> None:
    (found,) = group([
        episode("a", 0, 10, severity="info"), episode("b", 2, 10, severity="critical", kind="quality"),
        episode("c", 1, 9, severity="unheard of"), episode("d", 3, 9, severity="critical"),
    ], (), TERMS)  # fmt: skip
    assert (found.severity, found.lead.alert_id, found.kinds) == ("critical", "b", ("error_rate", "quality"))
    (odd,) = group([episode("c", 1, 9, severity="unheard of")], (), TERMS)
    assert odd.severity == "unheard of"


@pytest.mark.parametrize(
    ("attributes", "began"),
    [
        ({"since": "1970-01-08T00:00:10Z"}, 604_810_000_000),
        ({"since": "1970-01-08T00:00:10"}, 604_810_000_000),
        ({"since": "1970-01-08T01:00:00+02:00"}, 604_800_000_000 - 3_600_000_000),
        ({"since": "1970-01-09T00:00:10Z"}, None),  # after the alert
        ({"since": "0001-01-01"}, None),  # not believed
        ({"since": "0001-01-01T00:00:00+23:59"}, None),
        ({"since": "lately"}, None),
        ({}, None),
    ],
)
def test_when_it_began_is_what_the_alert_says_if_that_can_be(attributes: dict[str, str], began: int | None) -> None:
    assert episode("a", 7 * 1_440 + 1, attributes=attributes).began_us == began


def test_figures_are_those_of_the_attributes_else_of_the_alert() -> None:
    told = episode("a", 0, value=3.0, threshold=2.0, attributes={"observed": "0.5", "expected": "nan"})
    assert (told.observed, told.expected) == (0.5, 2.0)


EPISODES = st.lists(
    st.builds(
        lambda name, start, length, feature, severity, cause, window: episode(
            name, start, None if length is None else start + length, severity=severity,
            scope={"feature": feature} if feature else {}, subject=f"s{name}",
            attributes={"cause": cause} if cause else {},
            window_end_us=None if window is None else (start + window) * MINUTE,
        ),
        st.sampled_from("abcdef"), st.integers(0, 3_000), st.none() | st.integers(0, 60),
        st.sampled_from(["", "f", "g"]),
        st.sampled_from(["info", "warning", "critical"]), st.sampled_from(["", "a", "b", "z"]),
        st.none() | st.integers(-5, 500),
    ),
    max_size=12, unique_by=lambda each: (each.alert_id, each.started_us),
)  # fmt: skip
STEPS = st.lists(
    st.builds(
        lambda name, at, cause: step(name, at, *cause, state=f"at {at}"),
        st.sampled_from("xyz"), st.integers(0, 3_100), st.lists(st.sampled_from("abcdez"), max_size=3),
    ),
    max_size=8, unique_by=lambda each: each.event_id,
)  # fmt: skip


@given(EPISODES, STEPS, st.randoms(use_true_random=False))
def test_the_order_does_not_matter_and_every_alert_is_in_exactly_one(
    episodes: list[Episode], steps: list[Step], chance: Any
) -> None:
    found = group(episodes, steps, TERMS)
    held = [(each.alert_id, each.started_us) for one in found for each in one.episodes]
    assert sorted(held) == sorted((each.alert_id, each.started_us) for each in episodes)
    told = [each.event_id for one in found for each in one.steps]
    known = {each.alert_id for each in episodes}
    assert sorted(told) == sorted(each.event_id for each in steps if known & set(each.cause))
    assert len({one.incident_id for one in found}) == len(found)
    chance.shuffle(episodes)
    chance.shuffle(steps)
    assert group(episodes, steps, TERMS) == found
    for one in found:
        starts = [each.started_us for each in one.episodes]
        assert starts == sorted(starts) and one.started_us == min(starts) <= one.last_us
        assert one.lead in one.causes
        assert RANKS.index(one.severity) == max(RANKS.index(each.severity) for each in one.episodes)


RANKS = ["info", "warning", "critical"]


@given(EPISODES, st.integers(1, 60))
def test_a_wider_gap_only_joins_incidents(episodes: list[Episode], wider: int) -> None:
    narrow = group(episodes, (), TERMS)
    wide = group(episodes, (), replace(TERMS, gap_us=TERMS.gap_us + wider * MINUTE))
    for one in narrow:
        inside = {(each.alert_id, each.started_us) for each in one.episodes}
        assert any(inside <= {(each.alert_id, each.started_us) for each in other.episodes} for other in wide)


@given(EPISODES, st.integers(0, 2_000))
def test_what_comes_later_does_not_change_an_incidents_id(episodes: list[Episode], later: int) -> None:
    before = {one.incident_id for one in group(episodes, (), TERMS)}
    start = max((each.started_us for each in episodes), default=0) / MINUTE + later + 1
    for one in group([*episodes, episode("new", start, start + 1)], (), TERMS):
        assert one.incident_id in before or [each.alert_id for each in one.episodes] == ["new"]


@given(EPISODES, st.integers(0, 10_000))
def test_open_closed_and_stale_are_told_from_the_alerts_alone(episodes: list[Episode], now: int) -> None:
    now_us = now * MINUTE
    for one in group(episodes, (), TERMS):
        state, ended_us = one.state(now_us, TERMS), one.ended_us(now_us, TERMS)
        assert (state == "open") == (ended_us is None)
        if state == "closed":
            assert all(each.over_us is not None for each in one.causes)
        if state == "stale":
            assert any(each.over_us is None and each.last_us + TERMS.lasting_us < now_us for each in one.causes)
