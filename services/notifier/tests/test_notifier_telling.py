"""Who is told what, once, and again when it matters: examples, then laws over any order of events and outages."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from flywheel.control import Silence
from flywheel.stream import Reject, Skip
from flywheel_notifier.core.destinations import Destination
from flywheel_notifier.core.keeping import gone
from flywheel_notifier.core.standing import Ack, Standing, acknowledged, key_of, problem_of, taken
from flywheel_notifier.core.telling import MOST_TOGETHER, Message, Terms, Told, View, messages, told_by

_spec = importlib.util.spec_from_file_location("notifier_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)
S, T0, report = parts.S, parts.T0, parts.report
TERMS = Terms(wait_us=10 * S, settle_us=60 * S, since_us=T0)
HOOK = Destination(name="hook", kind="webhook", url=SecretStr("http://x"), repeat_us=3600 * S)


class World:
    """The core alone, as the notebook and a poster use it; times in seconds after `T0`."""

    def __init__(self, destination: Destination = HOOK, terms: Terms = TERMS, most: int = 100) -> None:
        self.destination, self.terms, self.most = destination, terms, most
        self.alerts: dict[str, Standing] = {}
        self.acks: dict[str, Ack] = {}
        self.told: dict[str, Told] = {}
        self.silences: list[Silence] = []
        self.waiting: list[Message] = []
        self.sent: list[Message] = []

    def hear(self, alert_id: str, at_s: float, state: str = "firing", **more: Any) -> Skip | None:
        value = report(alert_id, at_s, state, **more)
        assert problem_of(value) is None
        if state == "acknowledged":
            self.acks[key_of(value)] = acknowledged(value)
            return None
        found = taken(self.alerts.get(key_of(value)), value, T0 + round(at_s * S), self.terms.settle_us)
        if isinstance(found, Skip):
            return found
        self.alerts[found.key] = found
        return None

    def look(self, at_s: float, *, up: bool = True) -> list[tuple[str, str]]:
        """Make what is due; where the destination is up, send what waits. Reasons and ids of what was sent."""
        groups = frozenset(message.group for message in self.waiting)
        view = View(self.alerts, self.acks, self.told, self.silences, groups)
        made = messages(view, self.destination, self.terms, T0 + round(at_s * S), self.most - len(self.waiting))
        for message in made:
            self.told |= told_by(message, self.told)
        self.waiting += made
        sent = self.waiting if up else []
        self.sent += sent
        self.waiting = [] if up else self.waiting
        return [(note.reason, note.alert.alert_id) for message in sent for note in message.notes]


def test_an_alert_is_told_once_again_after_the_repeat_and_when_it_is_over() -> None:
    world = World()
    world.hear("a", 0)
    assert world.look(9) == [] and world.look(10) == [("firing", "a")]
    world.hear("a", 100, value=0.7)
    assert world.look(101) == [] and world.look(3609) == []
    assert world.look(3610) == world.look(7210) == [("again", "a")]
    world.hear("a", 8000, "resolved")
    assert world.look(8059) == [] and world.look(8060) == [("resolved", "a")]
    assert world.look(90_000) == []
    assert len({message.message_id for message in world.sent}) == 4
    assert len({message.notes[0].note_id for message in world.sent}) == 4


def test_worse_is_told_at_once_and_less_severe_is_not() -> None:
    world = World()
    world.hear("a", 0)
    world.look(10)
    world.hear("a", 20, severity="critical")
    assert world.look(20) == [("worse", "a")]
    world.hear("a", 30, severity="warning")
    assert world.look(31) == []
    world.hear("a", 40, severity="critical")
    assert world.look(41) == [], "that severe it was told already"


def test_one_that_comes_and_goes_is_one_alert() -> None:
    world = World()
    world.hear("a", 0)
    world.look(10)
    for at_s in range(100, 700, 50):
        world.hear("a", at_s, "resolved" if at_s % 100 == 0 else "firing")
        assert world.look(at_s + 20) == []
    world.hear("a", 700, "resolved")
    assert world.look(760) == [("resolved", "a")]
    world.hear("a", 800)
    assert world.look(810) == [("firing", "a")]
    first, second = world.sent[0].notes[0].alert, world.sent[-1].notes[0].alert
    assert first.episode != second.episode and second.started_us == T0 + 800 * S


def test_alerts_of_a_feature_go_together() -> None:
    world = World()
    world.hear("a", 0)
    world.hear("b", 8, severity="critical")
    world.hear("c", 8, scope={"feature": "other"})
    assert world.look(10) == [("firing", "b"), ("firing", "a")], "the worst first; b need not wait any longer"
    assert world.look(18) == [("firing", "c")]


def test_of_many_in_a_group_the_rest_comes_with_the_next_message() -> None:
    world = World()
    for number in range(MOST_TOGETHER + 5):
        world.hear(f"a{number:03}", 0)
    assert [len(world.look(at_s)) for at_s in (10, 11, 12)] == [MOST_TOGETHER, 5, 0]


def test_what_a_person_has_seen_is_not_told_again_until_it_is_worse_or_over() -> None:
    world = World()
    world.hear("a", 0)
    world.look(10)
    world.hear("a", 20, "acknowledged", attributes={"by": "ana"})
    assert world.look(7300) == []
    world.hear("a", 7400, severity="critical")
    assert world.look(7401) == [("worse", "a")]
    world.hear("a", 7410, "acknowledged", severity="critical", attributes={"until": "2026-11-21T03:00:00Z"})
    assert world.look(10_799) == []
    assert world.look(11_002) == [("again", "a")], "the word held until 03:00"
    world.hear("a", 11_010, "acknowledged", severity="critical")
    world.hear("a", 11_020, "resolved")
    assert world.look(11_100) == [("resolved", "a")]
    world.hear("a", 11_200)
    assert world.look(11_210) == [("firing", "a")], "the word was about the time before"


def test_a_word_that_is_read_before_the_report_it_is_about_holds() -> None:
    world = World()
    world.hear("a", 5, "acknowledged")
    world.hear("a", 0)
    assert world.look(60) == []


def test_in_a_silence_nothing_is_told_and_after_it_what_still_stands() -> None:
    window = Silence("acme", "w", 1, T0, T0 + 100 * S, T0 + 500 * S, kinds=("error_rate",))
    world = World()
    world.silences.append(window)
    world.hear("before", 0)
    assert world.look(10) == [("firing", "before")]
    world.hear("before", 150, "resolved")
    world.hear("within", 200, scope={"feature": "b"})
    world.hear("within", 300, "resolved", scope={"feature": "b"})
    world.hear("longer", 400, scope={"feature": "c"})
    world.hear("other", 400, kind="latency", scope={"feature": "d"})
    assert world.look(450) == [("firing", "other")]
    assert sorted(world.look(500)) == [("firing", "longer"), ("resolved", "before")]
    assert world.look(1000) == []


def test_a_silence_that_is_lifted_ends_at_once() -> None:
    world = World()
    world.silences.append(Silence("acme", "w", 1, T0, T0, T0 + 500 * S))
    world.hear("a", 10)
    assert world.look(50) == []
    world.silences[0] = replace(world.silences[0], lifted=True, said_us=T0 + 60 * S)
    assert world.look(60) == [("firing", "a")]


def test_what_was_over_before_the_notebook_began_is_old_news() -> None:
    world = World(terms=replace(TERMS, since_us=T0 + 1000 * S))
    world.hear("old", 0)
    world.hear("old", 500, "resolved")
    world.hear("still", 0, scope={"feature": "b"})
    world.hear("unseen", 900, scope={"feature": "c"})
    world.hear("unseen", 1100, "resolved", scope={"feature": "c"})
    assert sorted(world.look(2000)) == [("firing", "still"), ("resolved", "unseen")]


def test_an_alert_about_a_window_is_not_repeated_after_it() -> None:
    world = World()
    world.hear("a", 0, window_end=T0 + 4000 * S)
    assert [world.look(at_s) for at_s in (10, 3700, 7400)] == [[("firing", "a")], [("again", "a")], []]


def test_an_alertmanager_hears_of_what_fires_as_long_as_it_does() -> None:
    world = World(HOOK.model_copy(update={"kind": "alertmanager", "repeat_us": 60 * S}))
    world.hear("a", 0)
    world.hear("a", 5, "acknowledged")
    assert [len(world.look(at_s)) for at_s in (10, 69, 70, 130)] == [1, 0, 1, 1]


def test_a_destination_hears_what_it_wants_to_hear() -> None:
    world = World(HOOK.model_copy(update={"least": "critical", "features": ("answers",), "kinds": ("error_rate",)}))
    world.hear("mild", 0)
    world.hear("elsewhere", 0, severity="critical", scope={"feature": "x"})
    world.hear("slow", 0, severity="critical", kind="latency")
    world.hear("bad", 0, severity="critical")
    assert world.look(100) == [("firing", "bad")]


def test_what_never_fired_is_not_told_and_what_makes_no_sense_is_refused() -> None:
    world = World()
    assert world.hear("a", 0, "resolved") == Skip("not_firing")
    for field, value in (("alert_id", ""), ("state", "odd"), ("scope", {"x" * 600: "y"}), ("project", "p" * 600)):
        refused = problem_of(report("a", 0) | {field: value})
        assert isinstance(refused, Reject) and refused.field == field


def test_what_is_old_is_forgotten_and_of_too_many_first_what_is_over() -> None:
    world = World()
    for number in range(6):
        world.hear(f"a{number}", number)
    world.hear("a5", 6, "resolved")
    old = Silence("acme", "w", 1, T0, T0, T0 + 1)
    kept = replace(old, silence_id="k", ends_us=T0 + 20 * S)
    silences = {each.key: each for each in (old, kept)}
    found = gone(world.alerts, silences, T0 + 20 * S, forget_us=19 * S, most=3)
    assert found == (["acme/a0", "acme/a1", "acme/a5"], ["acme/w"])


# -- laws --------------------------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(("firing", "firing", "resolved", "acknowledged", "look", "outage")),
        st.sampled_from(("info", "warning", "critical")),
        st.integers(1, 2000),
    ),
    max_size=40,
)


def play(steps: list[tuple[str, str, str, int]], *, acks: bool) -> tuple[World, float, Mapping[str, set[str]]]:
    """Play steps, seconds apart, then wait until nothing is due; which episodes each alert had."""
    world, now_s = World(), 0.0
    episodes: dict[str, set[str]] = {}
    for name, what, severity, later_s in steps:
        now_s += later_s
        if what in ("look", "outage"):
            world.look(now_s, up=what == "look")
        elif what != "acknowledged" or acks:
            world.hear(name, now_s, what, severity=severity, scope={"feature": name if name == "c" else "shared"})
            if f"acme/{name}" in world.alerts:
                episodes.setdefault(name, set()).add(world.alerts[f"acme/{name}"].episode)
        groups = [message.group for message in world.waiting]
        assert len(groups) == len(set(groups)), "two messages of a group wait"
    for _ in range(4):
        now_s += 100
        world.look(now_s)
    return world, now_s, episodes


@settings(max_examples=60)
@given(STEPS)
def test_in_the_end_everybody_knows_how_every_alert_stands(steps: list[tuple[str, str, str, int]]) -> None:
    world, _, _ = play(steps, acks=False)
    for key, alert in world.alerts.items():
        told = world.told[key]
        assert (told.episode, told.firing) == (alert.episode, alert.firing)
        assert parts_of(told.severity) >= parts_of(alert.severity) or not alert.firing


@settings(max_examples=60)
@given(STEPS)
def test_no_message_and_no_note_has_the_key_of_another(steps: list[tuple[str, str, str, int]]) -> None:
    world, _, _ = play(steps, acks=True)
    ids = [message.message_id for message in world.sent]
    notes = [note.note_id for message in world.sent for note in message.notes]
    assert len(set(ids)) == len(ids) and len(set(notes)) == len(notes)


@settings(max_examples=60)
@given(STEPS)
def test_of_each_episode_nothing_follows_its_end_and_its_end_is_told_once(steps: list[Any]) -> None:
    world, _, _ = play(steps, acks=True)
    told: dict[tuple[str, str], list[str]] = {}
    for message in world.sent:
        for note in message.notes:
            told.setdefault((note.alert.key, note.alert.episode), []).append(note.reason)
    for reasons in told.values():
        assert reasons.count("resolved") <= 1 or "firing" in reasons[reasons.index("resolved") :]
        assert reasons[0] in ("firing", "resolved")


@pytest.mark.parametrize("most", [0, 1, 2])
def test_no_more_waits_than_there_is_room_for_and_the_rest_comes_when_there_is(most: int) -> None:
    world = World(most=most)
    for name in NAMES:
        world.hear(name, 0, scope={"feature": name})
    world.look(20, up=False)
    assert len(world.waiting) == most
    sent = [each for at_s in (30, 31, 32, 33, 34) for each in world.look(at_s)]
    assert len(sent) == (3 if most else 0)


def parts_of(severity: str) -> int:
    return ("info", "warning", "critical").index(severity)
