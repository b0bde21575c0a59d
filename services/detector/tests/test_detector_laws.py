"""Laws: the same ledger gives the same alerts and state however it is cut; what is stored goes on as it was."""

from __future__ import annotations

import importlib.util
import json
import random
from functools import lru_cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.detect import LevelDetector
from flywheel.stream import Reject, Skip
from flywheel.testkit.dict_state import DictState
from flywheel_detector.core import DetectFold, IntakeFold
from flywheel_detector.core.ledger import Cell, Observation
from flywheel_detector.core.measures import measure_of
from flywheel_detector.core.series import Seen, Series, read_series
from flywheel_detector.core.windows import SAMPLE, Window

_spec = importlib.util.spec_from_file_location("detector_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)


FEW = parts.DetectSettings(
    warm_up=64, most_series=40, alerts=parts.AlertTerms(resolve_us=40_000_000, repeat_us=20_000_000)
)


@lru_cache(maxsize=1)
def busy():
    """A ledger with a change, a bound that is broken, alerts that fire and end, and series that are evicted."""
    world = parts.World(FEW)
    world.read([parts.charter(1, 0, more="constraints: {error_rate: 0.1, p95_latency_ms: 3000}\n")], 0)
    world.play(0, 200, lambda n, at_s: [*parts.failing(0.02, 1)(n, at_s), parts.score(n, at_s, n % 7 / 7)])
    world.play(200, 260, parts.failing(0.9, 2))
    world.play(260, 420, parts.failing(0.02, 3))
    world.play(420, 470, lambda n, at_s: [parts.call(n, at_s, request_model=f"m{n}")])
    for kind in ("error_rate", "guardrail"):
        assert {alert["state"] for alert in world.said(kind)} == {"firing", "resolved"}
    return world


@settings(max_examples=8, deadline=None)
@given(st.randoms(use_true_random=False), st.booleans())
def test_any_cut_into_batches_gives_the_same_alerts_and_state(dice: random.Random, forgetful: bool):
    """``forgetful``: every batch by a fold that holds nothing, as after ``kill -9``."""
    fold, state, found, place = DetectFold(FEW), DictState(), [], 0
    while place < len(busy().ledger):
        upto = place + dice.randint(1, 60)
        fold = DetectFold(FEW) if forgetful else fold
        found += [parts.said(output) for output in fold.fold(0, busy().ledger[place:upto], state).outputs]
        place = upto
    assert found == busy().alerts
    assert state.dump() == busy().state.dump()


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10**6))
def test_a_batch_that_failed_leaves_no_trace_in_what_is_held(seed: int):
    dice = random.Random(seed)
    fold, state, found, place = DetectFold(FEW), DictState(), [], 0
    while place < len(busy().ledger):
        upto = place + dice.randint(1, 60)
        if dice.random() < 0.5:
            lost = DictState()
            lost.tables = {name: dict(rows) for name, rows in state.tables.items()}
            fold.fold(0, busy().ledger[place : place + dice.randint(1, 90)], lost)
        found += [parts.said(output) for output in fold.fold(0, busy().ledger[place:upto], state).outputs]
        place = upto
    assert found == busy().alerts and state.dump() == busy().state.dump()


def test_the_number_of_series_is_bounded():
    assert 0 < len(busy().state.tables["heads"]) <= FEW.most_series
    tables = busy().state.tables
    assert all(key[:48] in tables["heads"] for name in ("tails", "marks") for key in tables[name])
    (book,) = tables["books"].values()
    assert b'"evicted":[0,0]' not in book


def test_no_window_stays_open_when_nothing_comes_any_more():
    """Not that of a score which came when its own had closed, nor that of a clock that was ahead."""
    world = parts.World(FEW)
    world.play(0, 100, parts.failing(0.02, 1))
    world.tick(300)
    world.read([parts.score(95, 95, 0.5), parts.call(10**6, 500)], 310)
    assert len(world.state.tables["open"]) == 2
    world.tick(400)
    world.tick(600)
    assert not world.state.tables["open"]


def test_no_more_series_are_held_while_windows_close():
    """A flood of names in one window: the least known go while it is being worked off, not after it."""

    class Watched(DictState):
        most = 0

        def put(self, table: str, key: str, value: bytes) -> None:
            super().put(table, key, value)
            self.most = max(self.most, len(self.tables.get("heads", ())))

    world = parts.World(FEW)
    world.state = Watched()
    world.read([parts.call(n, n / 100, request_model=f"m{n}") for n in range(300)], 3)
    world.tick(100)
    assert FEW.most_series < world.state.most <= 2 * FEW.most_series + 6
    assert len(world.state.tables["heads"]) <= FEW.most_series


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.just(10**400),
        st.just("latency_ms"),
        st.just("score:a"),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=6), st.dictionaries(st.sampled_from(["latency_ms", "score:a", "a"]), inner)
    ),
    max_leaves=8,
)
CELL = st.fixed_dictionaries(
    {"arm": JSON | st.just("a"), "model": JSON | st.just("m"), "seen": JSON | st.just({})},
    optional={"classes": JSON | st.just({"language": "de"}) | st.just({"text": "x" * 65})},
)
OBSERVATION = st.tuples(
    JSON | st.just(0), JSON | st.just(parts.T0), JSON | st.just("0f"), JSON | st.just("r1"), JSON
    | st.just({"latency_ms": 1.0}),
)  # fmt: skip
BODIES = st.one_of(
    JSON,
    st.fixed_dictionaries({"cells": st.lists(CELL, max_size=2), "observations": st.lists(OBSERVATION, max_size=3)}),
    st.fixed_dictionaries({"revision": JSON, "at_us": JSON}),
    st.fixed_dictionaries({"revision": st.just(1), "at_us": st.just(parts.T0), "bounds": JSON}),
    st.fixed_dictionaries(
        {
            "revision": st.just(1),
            "at_us": st.just(parts.T0),
            "bounds": st.dictionaries(st.text(), st.tuples(JSON, JSON)),
        }
    ),
    st.fixed_dictionaries({"partitions": JSON}),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["observations", "charter", "tick", "other"]), BODIES)
def test_no_entry_of_the_ledger_ends_the_service(kind: str, body: object):
    """What comes back from the ledger is input like any other: taken, skipped or refused; and the time goes on."""
    value = {"event_id": "e", "project": "p", "occurred_at": parts.T0, "kind": kind, "feature": "f"}
    entry = parts.event_of("detection-ledger", "detection_entry", {**value, "body": json.dumps(body)}, parts.T0)
    fold, state = DetectFold(FEW), DictState()
    result = fold.fold(0, [entry], state)
    assert all(isinstance(verdict, Reject | Skip) for verdict in result.verdicts.values())
    for at_s in (100, 200):
        tick = {**value, "kind": "tick", "body": '{"partitions":1}'}
        later = parts.event_of("detection-ledger", "detection_entry", tick, parts.at(at_s))
        assert not fold.fold(0, [later], state).verdicts


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=400), st.integers(1, 30), st.integers(0, 400))
def test_a_stored_series_goes_on_as_it_was(values: list[float], size: int, stop: int):
    """Written and read after any window it says the same ever after; few or many values, alarms among them."""
    state, copied = DictState(), DictState()
    series = Series("k" * 48, measure_of("latency_ms"), LevelDetector(warm_up=64, salt="s"))
    other: Series | None = None
    for start in range(0, len(values), size):
        seen = [Seen(start * 1000 + n, value, f"r{n}") for n, value in enumerate(values[start : start + size])]
        alarm = series.watch(state, start, seen, 1e3)
        if other is not None:
            assert other.watch(copied, start, seen, 1e3) == alarm
        elif start >= stop:
            series.write(state)
            copied.tables = {name: dict(rows) for name, rows in state.tables.items()}
            stored = copied.get("heads", series.key) or b""
            fresh = LevelDetector(warm_up=64, salt="s")
            other = read_series(copied, series.key, stored, fresh, series.measure)
    if other is not None:
        assert other.levels.to_json() == series.levels.to_json()
        assert (other.seq, other.off, other.recent, other.marks) == (
            series.seq,
            series.off,
            series.recent,
            series.marks,
        )


@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0, 1)), max_size=60), st.randoms(use_true_random=False))
def test_a_windows_sample_does_not_depend_on_the_order(facts: list[tuple[int, float]], dice: random.Random):
    values = dict(facts)
    made = [parts_observation(number, value) for number, value in values.items()]
    first, second = Window(), Window()
    for each in made:
        first.add(each)
    dice.shuffle(made)
    for each in [*made, *made[:5]]:
        second.add(each)
    if made:
        assert first.sample("error_rate") == second.sample("error_rate")
        assert len(first.sample("error_rate")) == min(len(values), SAMPLE)


def parts_observation(number: int, value: float):
    return Observation(
        Cell("a", "m"), number, f"{number * 7919 % 1000:016x}", f"r{number}", {"error_rate": value}, {}, {}
    )


def facts_of_requests():
    """Facts of a few requests that wait for one another, with a repeat."""
    made = []
    for n in range(12):
        made += [
            parts.decision(n, n * 1.0, "cheap", context={"language": "de" if n % 2 else "en"}),
            parts.call(n, n + 0.5, variant=None, decision_id=f"decision-{n}"),
            parts.score(n, n + 0.7, n / 12),
        ]
    return [*made, *made[:6]]


@given(st.permutations(range(len(facts_of_requests()))), st.integers(1, 7))
def test_observations_do_not_depend_on_the_order_or_repeats_of_facts(order: list[int], size: int):
    facts = facts_of_requests()
    shuffled = [facts[place] for place in order]
    ends = []
    for events, cut in ((facts, len(facts)), (shuffled, size)):
        fold, state, found = IntakeFold(), DictState(), []
        for start in range(0, len(events), cut):
            for output in fold.fold(0, events[start : start + cut], state).outputs:
                found += parts_of(output)
        ends.append((sorted(found), state.dump()))
    assert ends[0] == ends[1]
    assert len(ends[0][0]) == 36 and all('"arm":"cheap"' in text or "arm_share" in text for text in ends[0][0])


def parts_of(output):
    """The observations of an entry, each with its cell, as text."""
    body = json.loads(output.value["body"])
    cells = [json.dumps(cell, separators=(",", ":"), sort_keys=True) for cell in body["cells"]]
    return [f"{cells[place]} {json.dumps([at, mark, values])}" for place, at, mark, _, values in body["observations"]]
