"""Alerts about proxies: an arm whose judge's scores no longer go with its users' thumbs."""

from __future__ import annotations

import random

import orjson
import pytest

from flywheel.events import Codec, LocalRegistry
from flywheel.stream import Event, RawRecord
from flywheel_bandit.core import OutcomeFold, PolicyFold

PROXIES = "proxies: [{score: judge, stands_for: user.thumb}]\n"


def declared(facts, half_life="half_life: 300 outcomes, "):
    return facts.charter(facts.CHARTER.replace("half_life: 50 outcomes, ", half_life) + PROXIES)


def requests(facts, n, *, judged, seed=1):
    """Batches of one request each, arms in turn: the judge likes an arm as ``judged`` says, thumbs are up for half."""
    chance = random.Random(seed)
    for number in range(n):
        arm, r = ("strong", "cheap")[number % 2], f"r{number}"
        score = min(1.0, max(0.0, judged[arm] + 0.1 * chance.gauss(0, 1)))
        yield [
            facts.decision(r, number / 100, arm), facts.call(r, number / 100, cost="0", ms=0.0),
            facts.judged(r, number / 100, score), facts.thumb(r, number / 100, float(chance.random() < 0.5)),
        ]  # fmt: skip


def played(facts, batches, charter, *, shards=2):
    """Return what stage 2 said and its state, and the states of stage 1."""
    book = facts.book(charter)
    join, learn = OutcomeFold(lambda: book), PolicyFold()
    states, state = [facts.State() for _ in range(shards)], facts.State()
    said = list(learn.fold(0, [charter], state).outputs)
    for number, batch in enumerate(batches):
        summary = join.fold(number % shards, batch, states[number % shards]).outputs[-1]
        event = Event(RawRecord("arm-summaries", 0, 0, 0, b"", b""), "arm_summary", 1, dict(summary.value))
        said += learn.fold(0, [event], state).outputs
    return said, state, states


def joined(batches, size):
    """The same facts in batches of ``size`` requests for each of two shards."""
    by_shard = [batches[0::2], batches[1::2]]
    for first in range(0, len(by_shard[0]), size):
        for shard in by_shard:
            yield [event for batch in shard[first : first + size] for event in batch]


def alerts(said):
    return [output.value for output in said if output.topic == "alerts"]


def test_an_arm_that_games_the_judge_is_told_of_once_and_it_ends_when_it_no_longer_does(facts):
    charter = declared(facts)
    gamed = list(requests(facts, 600, judged={"strong": 0.5, "cheap": 0.8}))
    cured = list(requests(facts, 1800, judged={"strong": 0.5, "cheap": 0.5}))[600:]
    said, _, _ = played(facts, [*joined(gamed, 20), *joined(cured, 20)], charter)
    first, last = alerts(said)
    assert (first["kind"], first["state"], first["scope"]["arm"]) == ("proxy_divergence", "firing", "cheap")
    assert (
        first["threshold"]
        == 0.5
        < first["value"]
        == pytest.approx(
            float(first["attributes"]["score_lift"]) - float(first["attributes"]["outcome_lift"]), abs=1e-4
        )
    )
    assert (last["state"], last["alert_id"]) == ("resolved", first["alert_id"])
    assert last["event_id"] != first["event_id"]
    codec = Codec(LocalRegistry.load())
    assert codec.decode(codec.encode("alert", first)).value["scope"] == first["scope"]


def test_nothing_is_told_where_no_proxy_is_declared_or_none_is_gamed(facts):
    batches = list(requests(facts, 300, judged={"strong": 0.5, "cheap": 0.8}))
    said, _, states = played(facts, joined(batches, 50), facts.charter())
    assert not alerts(said) and all(b"judge|" not in state.get("learned", "default/answers") for state in states)
    fair = list(requests(facts, 300, judged={"strong": 0.5, "cheap": 0.52}))
    assert not alerts(played(facts, joined(fair, 50), declared(facts))[0])


def test_the_same_facts_in_other_batches_leave_the_same_sums_and_the_same_alerts_firing(facts):
    charter = declared(facts, "")
    batches = list(requests(facts, 400, judged={"strong": 0.5, "cheap": 0.8}))
    ends = [played(facts, joined(batches, size), charter) for size in (7, 200)]
    assert orjson.loads(ends[0][1].get("diverging", "default/answers")) == [
        ["proxy_divergence", "cheap", "judge", "user.thumb"]
    ]
    assert ends[0][1].get("diverging", "default/answers") == ends[1][1].get("diverging", "default/answers")
    for one, other in zip(ends[0][2], ends[1][2], strict=True):
        assert one.get("learned", "default/answers") == other.get("learned", "default/answers")


def test_a_corrected_thumb_takes_its_pair_back(facts):
    charter = declared(facts)
    (batch,) = requests(facts, 1, judged={"strong": 0.5})
    late = facts.thumb("r0", 5, 1.0)
    at_once, later = (
        played(facts, batches, charter, shards=1)[2][0].get("learned", "default/answers")
        for batches in ([[*batch, late]], [batch, [late]])
    )
    assert at_once == later and b"judge|user.thumb" in at_once


def test_an_arm_that_answers_everything_alike_and_pleases_the_judge_is_told_of(facts):
    def batches(lengths):
        for number, batch in enumerate(requests(facts, 240, judged={"strong": 0.5, "cheap": 0.56})):
            (decision, _, judged, thumb), arm = batch, ("strong", "cheap")[number % 2]
            call = facts.call(f"r{number}", number / 100, cost="0", ms=0.0, output_tokens=lengths[arm](number))
            yield [decision, call, judged, thumb]

    charter = declared(facts)
    vary = {"strong": lambda n: 100 + 37 * (n % 8), "cheap": lambda n: 90 + 41 * (n % 8)}
    assert not alerts(played(facts, joined(list(batches(vary)), 20), charter)[0])
    said = alerts(played(facts, joined(list(batches({**vary, "cheap": lambda n: 42})), 20), charter)[0])
    assert [(alert["kind"], alert["state"], alert["scope"]["arm"]) for alert in said] == [
        ("constant_answers", "firing", "cheap")
    ]
    assert said[0]["value"] < 0.02 and said[0]["threshold"] > 0.2
    disliked = batches({**vary, "strong": lambda n: 42})
    assert not alerts(played(facts, joined(list(disliked), 20), charter)[0])


def test_lengths_are_kept_where_the_charter_asks_for_diversity_and_charged_in_the_policy(facts):
    def batches():
        for number, batch in enumerate(requests(facts, 160, judged={"strong": 0.5, "cheap": 0.5})):
            (decision, _, judged, thumb), cheap = batch, number % 2
            tokens = 42 if cheap else 100 + 37 * (number % 8)
            yield [
                decision,
                facts.call(f"r{number}", number / 100, cost="0", ms=0.0, output_tokens=tokens),
                judged,
                thumb,
            ]

    text = facts.CHARTER.replace("half_life: 50 outcomes", "half_life: 300 outcomes, diversity: 0.2")
    ends = [played(facts, joined(list(batches()), size), facts.charter(text)) for size in (10, 80)]
    newest = [[output.value for output in said if output.topic == "policies"][-1] for said, _, _ in ends]
    assert newest[0] == newest[1]
    by_arm = {one["name"]: one for one in newest[0]["diversity"]}
    assert by_arm["cheap"]["charge"] == pytest.approx(0.2, abs=1e-6) and by_arm["strong"]["charge"] == 0.0
    assert by_arm["cheap"]["requests"] > 50 and by_arm["cheap"]["others"] > 0.2
    assert not alerts(ends[0][0])  # it is charged; it is told of only where a proxy likes it
    plain, _, states = played(facts, joined(list(batches()), 80), facts.charter())
    assert not [output.value for output in plain if output.topic == "policies"][-1]["diversity"]
    assert all(b"output_tokens" not in state.get("learned", "default/answers") for state in states)
