"""What is in force: whose word, until when, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from flywheel.control import ControlBoard, ControlInvalid, Item, Record, in_force
from flywheel.events import Codec, LocalRegistry
from flywheel.events.examples import examples
from flywheel.policy import compile_policy

T = 1_795_219_200_000_000
CODEC = Codec(LocalRegistry.load())
OURS = Record("acme", "f", "controller", 5, T, (Item("a", "disable", ("strong",), T + 100),))
ITEM = OURS.event()["items"][0]
THEIRS = Record("acme", "f", "person", 2, T, (Item("m", "pin", ("strong",)),), T + 50, by="ana")


def policy(version=1):
    arms = [
        {"name": name, "model": "m", "prompt_name": None, "prompt_version": None, "params": {}, "eligible_when": [],
         "enabled": True, "weight": 9.0, "mean": 0.5, "variance": 0.1, "alpha": 5.0, "beta": 5.0, "score": 0.0}
        for name in ("strong", "cheap")
    ]  # fmt: skip
    return compile_policy({
        "project": "acme", "feature": "f", "occurred_at": T, "policy_version": version, "kind": "thompson_beta",
        "default_arm": "strong", "explore_floor": 0.0, "epsilon": 0.0, "stale_after_s": 0.0, "arms": arms,
        "context": [],
    })  # fmt: skip


def test_a_record_is_the_event_and_back():
    for record in (OURS, THEIRS, replace(THEIRS, lifted=True, items=())):
        wired = CODEC.decode(CODEC.encode("control", record.event())).value
        assert Record.from_event(wired) == record
    for value in examples("control").values():
        wired = CODEC.decode(CODEC.encode("control", value)).value
        assert Record.from_event(wired).event() | {"event_id": wired["event_id"]} == wired


def test_a_persons_word_holds_until_it_ends_then_the_controllers():
    assert in_force(THEIRS, OURS, T) == THEIRS.items
    assert in_force(THEIRS, OURS, T + 50) == OURS.items
    assert in_force(THEIRS, OURS, T + 100) == ()
    assert in_force(replace(THEIRS, items=()), OURS, T) == ()  # hands off
    assert in_force(replace(THEIRS, lifted=True), OURS, T) == OURS.items
    assert in_force(None, None, T) == ()


def test_the_newest_revision_wins_in_whatever_order_it_comes():
    newer = replace(OURS, revision=6, items=())
    for order in permutations([OURS, newer, THEIRS]):
        board = ControlBoard()
        for record in order:
            board.update(record.event())
        assert board.items("acme", "f", T) == THEIRS.items
        assert board.items("acme", "f", T + 60) == ()
    assert not board.update(newer.event()) and not board.update(None)


def test_a_board_constrains_what_is_decided_and_only_while_it_holds():
    board, compiled = ControlBoard(), policy()
    assert board.apply(compiled, T) is compiled and board.apply(None, T) is None
    board.update(OURS.event())
    under = board.apply(compiled, T)
    assert under.control == "a" and under.full_mask == 0b10
    assert board.apply(compiled, T + 1) is under  # made once
    assert board.apply(compiled, T + 100) is compiled
    assert board.apply(policy(2), T).version == 2
    tag, events = board.snapshot("acme")
    assert events == [OURS.event()] and board.snapshot("other") == ("", [])
    board.update(THEIRS.event())
    assert board.snapshot()[0] != tag and board.apply(compiled, T).control == "m"


@pytest.mark.parametrize(("change", "field"), [
    ({"feature": ""}, "feature"),
    ({"owner": "cat"}, "owner"),
    ({"revision": 0}, "revision"),
    ({"items": [ITEM | {"kind": "burn"}]}, "items.0.kind"),
    ({"items": [ITEM | {"arms": []}]}, "items.0.arms"),
    ({"items": [ITEM | {"control_id": ""}]}, "items.0.control_id"),
    ({"items": [ITEM] * 65}, "items"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_field(change, field):
    board = ControlBoard()
    with pytest.raises(ControlInvalid) as error:
        board.update(OURS.event() | change)
    assert error.value.field == field
    assert board.items("acme", "f", T) == ()
