"""What holds whatever comes in whatever order: the laws of acting and taking back."""

from __future__ import annotations

import importlib.util
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.control import Item, Record, in_force, parse_rules

_spec = importlib.util.spec_from_file_location("controller_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)

FEATURES = ("support", "search")
ENDS = {"undone", "expired", "returned", "superseded", "overridden"}
PER_HOUR, PER_FEATURE = 5, 3
TREE = parse_rules("""version: 3
limits: {per_hour: 5, per_feature_per_hour: 3, forget_after: 2h}
rules:
  - name: errors
    priority: 9
    when: {kind: error_rate}
    do: [{action: rollback, changed_within: 30m}, {action: disable}, {action: pin, arm: cheap}]
    verify: {within: 2m}
    expires_after: 20m
    return_after: 1m
    cooldown: 1m
    flaps: {most: 4, within: 3h}
  - name: cost
    priority: 5
    when: {kind: cost_per_call, change: {above: 1.5}}
    do: [{action: cheapest}]
    verify: {within: 3m}
    expires_after: 10m
    return_after: 30s
    cooldown: 30s
  - name: quality
    priority: 1
    when: {kind: quality}
    do: [{action: pause}]
    verify: {within: 1m}
    expires_after: 15m
  - name: rest
    when: {kind: drift}
    do: [{action: propose}]
""")

SEEDS = range(8)
STATES = ENDS - {"expired"} | {"applied", "verified", "refused", "proposed"}


def history_of(seed: int, length: int = 80):
    """A busy project: alerts that come, get better or worse and go, now and then a person, a charter, some time."""
    random, firing = Random(seed), []
    for _ in range(length):
        what = random.choices(["alert", "wait", "charter", "person"], [60, 30, 5, 5])[0]
        feature = random.choice(FEATURES)
        if what == "alert" and firing and random.random() < 0.6:
            known = firing.pop(random.randrange(len(firing)))
            goes_on = random.random() < 0.4
            firing += [known] if goes_on else []
            yield what, *known, goes_on, 1.2
        elif what == "alert":
            kind = random.choices(["error_rate", "cost_per_call", "quality", "drift"], [6, 3, 2, 1])[0]
            known = kind, feature, random.choices([None, "strong", "cheap", "other"], [1, 6, 2, 1])[0]
            firing.append(known)
            yield what, *known, True, random.choice([2.0, 8.0])
        elif what == "wait":
            yield what, random.choice([5, 20, 70, 200, 900])
        elif what == "charter":
            yield what, feature, random.randint(1, 4)
        else:
            yield what, feature, random.choice(["pin", "nothing", "lift"]), random.choice([60, 300])


@lru_cache(maxsize=64)
def played(seed: int):
    return play(history_of(seed))


def play(history):
    world = parts.World(TREE)
    for feature in FEATURES:
        world.charter(1, feature=feature)
    world.policy(1, {"strong": 0.8, "cheap": 0.75, "other": 0.3})
    for n, (what, *about) in enumerate(history, start=1):
        world.now_s += 1
        if what == "alert":
            kind, feature, arm, firing, ratio = about
            scope = {"feature": feature} | ({"arm": arm} if arm else {})
            state = "firing" if firing else "resolved"
            figures = {"attributes": {"observed": str(ratio), "expected": "1"}}
            world.alert(f"{kind}/{feature}/{arm}", kind, state=state, scope=scope, **figures)
        elif what == "charter":
            world.charter(about[1], feature=about[0])
        elif what == "person":
            feature, kind, for_s = about
            items = (Item(f"m{n}", "pin", ("cheap",)),) if kind == "pin" else ()
            expires_s = None if for_s is None else world.now_s + for_s
            world.person(n, *items, lifted=kind == "lift", expires_s=expires_s, feature=feature)
        else:
            world.ticks(world.now_s + about[0], 20)
    return world


def lives(world):
    found = defaultdict(list)
    for action in world.actions():
        found[action["action_id"]].append(action)
    return found


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.sampled_from(SEEDS), cuts=st.lists(st.integers(0, 400), max_size=6))
def test_the_same_ledger_gives_the_same_bytes_however_it_is_cut(seed, cuts):
    world = played(seed)
    outputs, state = world.replayed([cut for cut in cuts if cut < len(world.ledger)])
    assert outputs == [parts.canonical(output) for output in world.said]
    assert state == world.state.dump()


@pytest.mark.parametrize("seed", SEEDS)
def test_every_action_is_made_once_and_ends_once(seed):
    world = play(history_of(seed))
    for feature in FEATURES:  # a day later, nobody holding anything, everything is as it was
        world.person(10_000, lifted=True, feature=feature)
    world.ticks(world.now_s + 12_000, 60)
    world.ticks(world.now_s + 90_000, 1800)
    ids = [action["event_id"] for action in world.actions()]
    assert len(ids) == len(set(ids))
    for steps in lives(world).values():
        states = [step["state"] for step in steps]
        if steps[0]["by"] != "controller" or states[0] in ("proposed", "refused"):
            continue
        assert states[0] == "applied" and Counter(states).most_common(1)[0][1] == 1
        ended = ENDS & set(states)
        if steps[0]["kind"] == "rollback":  # verified, it stays
            assert len(ended) == 1 or states == ["applied", "verified"]
        else:
            assert len(ended) == 1 and states[-1] in ended
    assert world.controls("support") == world.controls("search") == []


@pytest.mark.parametrize("seed", SEEDS)
def test_limits_hold_in_every_hour(seed):
    world = played(seed)
    made = [a for a in world.actions() if a["state"] == "applied" and a["by"] == "controller"]
    for action in made:
        window = [m for m in made if 0 <= action["occurred_at"] - m["occurred_at"] < 3_600_000_000]
        assert len(window) <= PER_HOUR
        assert sum(m["feature"] == action["feature"] for m in window) <= PER_FEATURE


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_published_is_what_is_open_and_a_person_wins(seed):
    world = played(seed)
    newest, person, open_now = {}, {}, defaultdict(dict)
    for at, event in enumerate(world.ledger):
        outputs = world.act_one(event, at)
        now_us = event.raw.timestamp_ms * 1000
        if event.value["kind"] == "control":
            record = Record.from_event(parts.json.loads(event.value["body"]))
            person[record.feature] = record
        for output in outputs:
            value = output.value
            if output.topic == "controls":
                record = Record.from_event(parts.full("control", dict(value)))
                known = newest.get(record.feature)
                assert known is None or record.revision > known.revision
                newest[record.feature] = record
            elif output.topic == "actions" and value["kind"] in ("disable", "pin", "pause") and "by" in value:
                if value["state"] == "applied":
                    open_now[value["feature"]][value["action_id"]] = value
                elif value["state"] in ENDS:
                    del open_now[value["feature"]][value["action_id"]]
        for feature in FEATURES:
            published = newest.get(feature)
            items = {item.control_id for item in published.items} if published else set()
            assert items == set(open_now[feature])
            held = person.get(feature)
            if held is not None and held.live(now_us):
                assert items == set()
                assert in_force(held, published, now_us) == held.items
            kinds = [value["kind"] for value in open_now[feature].values()]
            assert len(kinds) <= 1 or set(kinds) == {"disable"}
            gone = {arm for value in open_now[feature].values() if value["kind"] == "disable" for arm in value["arms"]}
            assert len(gone) < 3


def test_the_histories_meet_every_state_and_come_to_the_limits():
    steps = [action for seed in SEEDS for action in played(seed).actions()]
    assert {action["state"] for action in steps if action["by"] == "controller"} >= STATES
    assert {action["state"] for action in steps if action["by"] == "ana"} >= {
        "applied",
        "superseded",
        "lifted",
        "expired",
    }
    assert {action["kind"] for action in steps} >= {"rollback", "disable", "pin", "pause", "propose", "override"}
    assert {action["reason"].split(":")[0] for action in steps if action["state"] == "refused"} >= {
        "limit", "priority", "cooldown", "override",
    }  # fmt: skip
