"""An experiment's winner on ``alerts``: declared with its evidence, revoked when its rewards fall."""

from __future__ import annotations

import random

import orjson
import pytest

from flywheel.events import Codec, LocalRegistry
from flywheel.stream import Event, RawRecord
from flywheel_bandit.core import OutcomeFold, PolicyFold

CHARTER = """
feature: answers
quality: {judge: 1.0}
arms: [{name: strong, model: openai/gpt-4o}, {name: cheap, model: openai/gpt-4o-mini}]
policy: {kind: experiment, explore_floor: 0.02}
attribution_window: 60s
"""


def requests(facts, n, *, good, first=0, seed=1):
    """Batches of one request each, arms in turn, judged good as often as ``good`` says."""
    chance = random.Random(seed)
    for number in range(first, first + n):
        arm, r = ("strong", "cheap")[number % 2], f"r{number}"
        judged = facts.judged(r, number / 10, float(chance.random() < good[arm]))
        yield [facts.decision(r, number / 10, arm), facts.call(r, number / 10, cost="0", ms=0.0), judged]


def played(facts, batches, charter, *, size=20):
    """Return what stage 2 said of ``size`` requests at a time, from two shards, and its state."""
    book = facts.book(charter)
    join, learn = OutcomeFold(lambda: book), PolicyFold()
    states, state = [facts.State(), facts.State()], facts.State()
    said = list(learn.fold(0, [charter], state).outputs)
    made = list(batches)
    for first in range(0, len(made), size):
        for shard in (0, 1):
            events = [event for batch in made[first + shard : first + size : 2] for event in batch]
            summary = join.fold(shard, events, states[shard]).outputs[-1]
            event = Event(RawRecord("arm-summaries", 0, 0, 0, b"", b""), "arm_summary", 1, dict(summary.value))
            said += learn.fold(0, [event], state).outputs
    return said, state


def alerts(said):
    return [output.value for output in said if output.topic == "alerts"]


def test_a_winner_is_declared_once_with_its_evidence_and_serves(facts):
    said, _ = played(facts, requests(facts, 160, good={"strong": 0.9, "cheap": 0.5}), facts.charter(CHARTER))
    (declared,) = alerts(said)
    assert (declared["kind"], declared["state"]) == ("experiment_winner", "firing")
    assert declared["scope"] == {"feature": "answers", "arm": "strong"}
    assert declared["value"] >= declared["threshold"] and "out, evidence" in declared["detail"]
    assert float(declared["attributes"]["mean:strong"]) > float(declared["attributes"]["mean:cheap"])
    newest = [output.value for output in said if output.topic == "policies"][-1]
    assert [arm["propensity"] for arm in newest["arms"]] == pytest.approx([0.98, 0.02])
    codec = Codec(LocalRegistry.load())
    assert codec.decode(codec.encode("alert", declared)).value["scope"] == declared["scope"]


def test_a_winner_whose_rewards_fall_is_revoked_and_the_arms_share_again(facts):
    well = list(requests(facts, 160, good={"strong": 0.9, "cheap": 0.5}))
    badly = list(requests(facts, 60, good={"strong": 0.2, "cheap": 0.5}, first=160))
    said, _ = played(facts, [*well, *badly], facts.charter(CHARTER))
    declared, revoked = alerts(said)
    assert (revoked["state"], revoked["alert_id"]) == ("resolved", declared["alert_id"])
    assert "no longer proven" in revoked["title"] and "strong" in revoked["detail"]
    newest = [output.value for output in said if output.topic == "policies"][-1]
    assert [arm["propensity"] for arm in newest["arms"]] == pytest.approx([0.5, 0.5])


def test_a_charter_without_the_experiment_ends_it(facts):
    _, state = played(facts, requests(facts, 160, good={"strong": 0.9, "cheap": 0.5}), facts.charter(CHARTER))
    plain = facts.charter(CHARTER.replace("kind: experiment", "kind: thompson"), revision=2, at_s=100.0)
    (ended,) = alerts(PolicyFold().fold(0, [plain], state).outputs)
    assert (ended["state"], ended["detail"]) == ("resolved", "the charter declares no experiment any more")


def test_the_same_facts_in_other_batches_end_at_the_same_policy_and_the_same_winner(facts):
    batches = list(requests(facts, 160, good={"strong": 0.9, "cheap": 0.5}))
    ends = [played(facts, batches, facts.charter(CHARTER), size=size) for size in (10, 80)]
    policies = [[o.value for o in said if o.topic == "policies"][-1] for said, _ in ends]
    assert orjson.dumps(policies[0]) == orjson.dumps(policies[1])
    firing = [state.get("diverging", "default/answers") for _, state in ends]
    assert firing[0] == firing[1] and orjson.loads(firing[0]) == [["experiment_winner", "strong", "", ""]]
