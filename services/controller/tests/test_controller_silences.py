"""Alerts that a person expects: not answered before the silence is over, unless a rule says so."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.control import Silence, parse_rules
from flywheel.control.shipped import default_rules_text
from flywheel.stream import Reject, Skip

_spec = importlib.util.spec_from_file_location("controller_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)
BAD = {"value": 0.08, "threshold": 0.01}


def silence(world, from_s, until_s, *, revision=1, lifted=False, name="w", **only):
    times = [parts.T0 + round(at_s * 1e6) for at_s in (world.now_s, from_s, until_s)]
    said = Silence("acme", name, revision, *times, "ana", "moving", lifted, **only)
    world._pass_on("silences", "silence", said.event())


def test_an_alert_waits_for_the_end_of_its_silence_and_is_answered_then(world):
    silence(world, 0, 9_000, features=("support",))
    world.alert("e", "error_rate", at_s=8_000, **BAD)
    world.ticks(8_900)
    assert world.controls() == [] and world.told() == []
    ((kind, reason),) = world.steps("refused")
    assert kind == "rollback" and reason == "silenced: ana expects it: moving (silence w)"
    world.ticks(9_100)
    assert world.controls() == [("disable", ("strong",))]


def test_what_ends_within_its_silence_is_never_answered(world):
    silence(world, 0, 9_000, features=("support",))
    world.alert("e", "error_rate", at_s=8_000, **BAD)
    world.resolve("e", "error_rate", at_s=8_500)
    world.ticks(12_000, 300)
    assert [state for _, state in world.steps()] == ["refused"] and world.told() == []


def test_a_silence_that_is_lifted_ends_at_once(world):
    silence(world, 0, 90_000, kinds=("error_rate",))
    world.alert("e", "error_rate", at_s=8_000, **BAD)
    assert world.controls() == []
    world.tick(8_100)
    silence(world, 0, 90_000, kinds=("error_rate",), revision=2, lifted=True)
    assert world.controls() == [("disable", ("strong",))]
    silence(world, 0, 90_000, kinds=("error_rate",), revision=1)  # an older word comes late
    assert isinstance(world.verdicts[-1], Skip)


def test_other_alerts_are_answered_as_ever(world):
    silence(world, 0, 90_000, kinds=("latency",))
    silence(world, 0, 90_000, name="other", features=("answers",))
    silence(world, 20_000, 90_000, name="later")
    world.alert("e", "error_rate", at_s=8_000, **BAD)
    assert world.controls() == [("disable", ("strong",))]


def test_a_rule_may_act_in_a_silence():
    acting = default_rules_text().replace("  - name: errors\n", "  - name: errors\n    in_silence: act\n")
    world = parts.World(parse_rules(acting))
    world.charter(1, at_s=0)
    world.policy(1, {"strong": 0.8, "cheap": 0.7, "other": 0.3})
    silence(world, 0, 90_000)
    world.alert("e", "error_rate", at_s=8_000, **BAD)
    assert world.controls() == [("disable", ("strong",))]


def test_what_is_in_force_is_judged_and_returns_in_a_silence_too(world):
    world.alert("e", "error_rate", at_s=8_000, **BAD)
    silence(world, 0, 90_000)
    world.resolve("e", "error_rate", at_s=8_100)
    world.ticks(8_100 + 1_200)
    assert [state for _, state in world.steps()] == ["applied", "verified", "returned"]


def test_what_a_person_has_seen_changes_nothing_and_what_is_no_silence_is_refused(world):
    world.alert("e", "error_rate", at_s=8_000, **BAD)
    before = len(world.ledger)
    world.alert("e", "error_rate", state="acknowledged", at_s=8_050, attributes={"by": "ana"})
    assert len(world.ledger) == before and world.verdicts[-1] == Skip("acknowledged")
    silence(world, 100, 100)
    assert isinstance(world.verdicts[-1], Reject) and world.verdicts[-1].field == "ends_at"


def test_silences_are_part_of_what_is_read_again(world):
    silence(world, 0, 9_000, features=("support",))
    world.alert("e", "error_rate", at_s=8_000, **BAD)
    world.ticks(9_200)
    outputs, state = world.replayed([1, 2, 4])
    assert outputs == [parts.canonical(output) for output in world.said] and state == world.state.dump()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("error_rate", "cost_per_call", "quality")), st.booleans(), st.integers(5, 900),
        st.sampled_from((None, None, "begin", "lift")),
    ),
    min_size=1, max_size=25,
)  # fmt: skip


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_nothing_is_put_in_force_while_a_silence_of_it_holds(steps):
    world = parts.World()
    world.charter(1, at_s=0)
    world.policy(1, {"strong": 0.8, "cheap": 0.7, "other": 0.3})
    held, since_s = [], None
    for number, (kind, firing, later_s, word) in enumerate(steps, start=1):
        if word == "begin" and since_s is None:
            silence(world, world.now_s, 10**6, revision=number)
            since_s = world.now_s
        elif word == "lift" and since_s is not None:
            silence(world, since_s, 10**6, revision=number, lifted=True)
            held.append((since_s, world.now_s))
            since_s = None
        world.alert(kind, kind, state="firing" if firing else "resolved", value=0.3, threshold=0.01)
        world.ticks(world.now_s + later_s, 60)
    held += [] if since_s is None else [(since_s, world.now_s + 1)]
    applied = [(a["occurred_at"] - parts.T0) / 1e6 for a in world.actions() if a["state"] == "applied"]
    assert not [at_s for at_s in applied if any(start_s < at_s < end_s for start_s, end_s in held)]
