"""Stage 2: when a policy is published and what it says."""

from __future__ import annotations

import pytest

from flywheel.policy import compile_policy
from flywheel.stream import Event, RawRecord
from flywheel_bandit.core import OutcomeFold, PolicyFold


def taught(facts, rewards, *, charter=None, shards=2):
    """Return the last policy after outcomes (arm, quality), one a second, spread over shards."""
    charter = charter or facts.charter()
    book = facts.book(charter)
    join, learn = OutcomeFold(lambda: book), PolicyFold()
    states, state = [facts.State() for _ in range(shards)], facts.State()
    policy = learn.fold(0, [charter], state).outputs[-1].value
    for number, (arm, quality) in enumerate(rewards):
        r = f"r{number}"
        batch = [
            facts.decision(r, number, arm), facts.call(r, number, cost="0", ms=0.0),
            facts.judged(r, number, quality), facts.thumb(r, number, quality),
        ]  # fmt: skip
        shard = number % shards
        summary = join.fold(shard, batch, states[shard]).outputs[-1]
        event = Event(RawRecord("arm-summaries", 0, 0, 0, b"", b""), "arm_summary", 1, dict(summary.value))
        policy = learn.fold(0, [event], state).outputs[-1].value
    return policy


def test_a_policy_is_published_as_soon_as_there_is_a_charter(facts):
    policy = PolicyFold().fold(0, [facts.charter()], facts.State()).outputs[0]
    assert (policy.topic, policy.key) == ("policies", "default/answers")
    assert [arm["propensity"] for arm in policy.value["arms"]] == pytest.approx([0.5, 0.5])
    assert policy.value["occurred_at"] == facts.charter().value["occurred_at"]
    assert compile_policy(policy.value).version == policy.value["policy_version"] == 1


def test_the_better_arm_is_chosen_more_and_all_shards_count(facts):
    policy = taught(facts, [("strong", 1.0), ("strong", 1.0), ("cheap", 0.0), ("cheap", 0.2)] * 5)
    strong, cheap = policy["arms"]
    assert policy["outcomes"] == 20
    assert strong["propensity"] > 0.95 and cheap["propensity"] >= 0.02
    # The posterior of a Beta policy from the exact sums, forgetting aside: mean between prior and observed mean.
    assert strong["mean"] > 0.8 and cheap["mean"] < 0.3


def test_what_an_arm_was_is_forgotten(facts):
    before = [("strong", 1.0), ("cheap", 0.5)] * 60
    after = [("strong", 0.0), ("cheap", 0.5)] * 60
    kept = facts.charter(facts.CHARTER.replace("explore_floor", "on_change: keep, explore_floor"))
    policy = taught(facts, before + after, charter=kept)
    strong, cheap = policy["arms"]
    assert strong["mean"] < 0.35 and cheap["mean"] > 0.4
    assert strong["weight"] + cheap["weight"] == pytest.approx(50 / 0.6931 * (1 - 2 ** (-240 / 50)), rel=0.02)


def test_before_a_change_nothing_of_the_changed_arm_counts(facts):
    slow = facts.charter(facts.CHARTER.replace("50 outcomes", "5000 outcomes"))
    before, after = [("strong", 1.0), ("cheap", 0.5)] * 40, [("strong", 0.0), ("cheap", 0.5)] * 20
    policy = taught(facts, before + after, charter=slow)
    strong, cheap = policy["arms"]
    assert strong["weight"] == pytest.approx(20, abs=5) and strong["mean"] < 0.25
    assert cheap["weight"] == pytest.approx(28, abs=5) and cheap["mean"] > 0.4


def test_a_charter_that_rewards_otherwise_starts_anew_and_one_that_does_not_goes_on(facts):
    first = facts.charter()
    floor = facts.charter(facts.CHARTER.replace("0.02", "0.1"), revision=2, at_s=100)
    dearer = facts.charter(facts.CHARTER.replace("cost: 0.2", "cost: 0.5"), revision=3, at_s=200)
    book = [facts.book(first)]
    join, learn = OutcomeFold(lambda: book[0]), PolicyFold()
    shard, state = facts.State(), facts.State()
    batch = [facts.decision("r", 0), facts.call("r", 0), facts.judged("r", 0, 1.0), facts.thumb("r", 0, 1.0)]
    learn.fold(0, [first], state)
    for output in join.fold(0, batch, shard).outputs[-1:]:
        learn.fold(
            0, [Event(RawRecord("arm-summaries", 0, 0, 0, b"", b""), output.event, 1, dict(output.value))], state
        )
    kept = learn.fold(0, [floor], state).outputs[0].value
    assert (kept["outcomes"], kept["explore_floor"], kept["charter_revision"]) == (1, 0.1, 2)
    anew = learn.fold(0, [dearer], state).outputs[0].value
    assert (anew["outcomes"], anew["policy_version"] > kept["policy_version"]) == (0, True)


@pytest.mark.parametrize(
    ("text", "revision", "field"),
    [("feature: [", 1, "charter_yaml"), (None, 0, "revision"), (None, 1 << 21, "revision"), ("other", 1, "feature")],
)
def test_a_charter_that_cannot_be_followed_is_refused_with_the_field(facts, text, revision, field):
    text = facts.CHARTER if text is None else facts.CHARTER.replace("answers", "x") if text == "other" else text
    result = PolicyFold().fold(0, [facts.charter(text, revision=revision)], facts.State())
    assert (result.verdicts[0].reason, result.verdicts[0].field) == ("charter_invalid", field)
    assert not result.outputs


def test_summaries_that_come_before_their_charter_are_kept(facts):
    book, shard, state = facts.book(), facts.State(), facts.State()
    batch = [facts.decision("r", 0), facts.call("r", 0), facts.judged("r", 0, 1.0), facts.thumb("r", 0, 1.0)]
    output = OutcomeFold(lambda: book).fold(3, batch, shard).outputs[-1]
    assert (output.key, output.partition_key) == ("default/answers/3", "default/answers")
    event = Event(RawRecord("arm-summaries", 0, 0, 0, b"", b""), "arm_summary", 1, dict(output.value))
    learn = PolicyFold()
    assert learn.fold(0, [event], state).outputs == []
    assert learn.fold(0, [facts.charter()], state).outputs[0].value["outcomes"] == 1


def test_a_tuned_arm_learns_by_value_and_steps_when_its_start_is_known(facts):
    tune = "tune: [{arm: cheap, param: temperature, values: [0, 0.5, 1], start: 0, min_outcomes: 20}]\n"
    text = facts.CHARTER.replace(", half_life: 50 outcomes", "") + tune
    first, second, third = (f"cheap:temperature:{value}" for value in ("0", "0.5", "1"))
    few = taught(facts, [(first, 0.5)] * 19, charter=facts.charter(text))
    assert [arm["name"] for arm in few["arms"] if arm["enabled"]] == ["strong", first]
    enough = taught(facts, [(first, 0.5)] * 20, charter=facts.charter(text))
    assert [arm["name"] for arm in enough["arms"] if arm["enabled"]] == ["strong", first, second]
    assert [arm["weight"] for arm in enough["arms"]] == [0.0, 20.0, 0.0, 0.0]
    assert {prior["name"]: list(prior["relatives"]) for prior in enough["priors"]}[third] == [first]
