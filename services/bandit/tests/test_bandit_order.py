"""The law the bandit stands on: the same logs give the same state and policies, byte for byte, in any reading."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.stream import Event, RawRecord
from flywheel_bandit.core import JoinSettings, OutcomeFold, PolicyFold

REQUESTS = 6
PROXIES = "proxies: [{score: judge, stands_for: user.thumb}]\n"
CONSTRAINTS = "constraints: {p95_latency_ms: 800, usd_per_hour: 0.5, judge: {min: 0.3}}\n"
"""Two with a price, so that calls count before their quality came, and a floor."""
PATIENT = JoinSettings()
HASTY = JoinSettings(idle_s=100.0, grace_s=15.0, skew_s=10_000.0, unclaimed_s=40.0)
"""Parts come after their request was let go all the time."""


@st.composite
def histories(draw, facts):
    """Facts of a few requests over ten minutes: retried, failed, judged twice, incomplete or decided twice."""
    events = []
    for number in range(REQUESTS):
        request, start = f"r{number}", draw(st.integers(0, 500))
        for ordinal in range(draw(st.integers(0, 2))):
            arm = draw(st.sampled_from(["strong", "cheap"]))
            events.append(facts.decision(request, start + ordinal, arm, policy_version=ordinal))
        for ordinal in range(draw(st.integers(0, 2))):
            status = draw(st.sampled_from(["OK", "ERROR"]))
            cost = draw(st.sampled_from([None, "0.001", "0.013"]))
            tokens = draw(st.sampled_from([None, 7, 900]))
            ms = draw(st.sampled_from([500.0, 700.0, None]))
            events.append(
                facts.call(request, start + 1 + ordinal, cost=cost, ms=ms, status=status, output_tokens=tokens)
            )
        for ordinal in range(draw(st.integers(0, 2))):
            events.append(facts.judged(request, start + draw(st.integers(0, 90)) + ordinal, draw(st.floats(0, 1))))
            events.append(facts.thumb(request, start + draw(st.integers(0, 90)), draw(st.sampled_from([0.0, 1.0]))))
    repeats = draw(st.lists(st.sampled_from(events), max_size=5)) if events else []
    return events + repeats


def ends(facts):
    """A request far behind the others, so that every topic has passed them."""
    for number in (0, 1):
        yield from (facts.decision(f"r{number}", 3000), facts.call(f"r{number}", 3000))
        yield from (facts.judged(f"r{number}", 3000, 1.0), facts.thumb(f"r{number}", 3000, 1.0))


def interleaved(draw, events):
    """The same logs read in another way: each topic in its order, the topics among each other in any."""
    turns = draw(st.permutations([event.topic for event in events]))
    logs = {topic: iter([e for e in events if e.topic == topic]) for topic in turns}
    return [next(logs[topic]) for topic in turns]


def replayed(facts, events, cuts, join):
    """Fold the facts in batches on two shards, then the summaries; return all state and the newest policy."""
    charter = facts.charter(facts.CHARTER.replace("50 outcomes", "500 outcomes") + PROXIES + CONSTRAINTS)
    book = facts.book(charter)
    state = [facts.State(), facts.State()]
    learn, published = facts.State(), {}
    stages = [OutcomeFold(lambda: book, join), PolicyFold()]
    policies = stages[1].fold(0, [charter], learn).outputs
    bounds = [0, *sorted(cuts), len(events)]
    for start, stop in pairwise(bounds):
        for shard in (0, 1):
            mine = [e for e in events[start:stop] if int(e.value["request_id"][1:]) % 2 == shard]
            outputs = stages[0].fold(shard, mine, state[shard]).outputs
            sums = [Event(RawRecord("arm-summaries", 0, 0, 0, b"", b""), o.event, 1, dict(o.value)) for o in outputs]
            policies = stages[1].fold(0, [e for e in sums if e.event == "arm_summary"], learn).outputs
            for policy in policies:
                assert policy.value["policy_version"] > published.get(policy.key, {}).get("policy_version", 0)
                published[policy.key] = policy.value
    return [state[0].dump(), state[1].dump(), learn.dump()], orjson.dumps(published)


@pytest.mark.parametrize("join", [PATIENT, HASTY], ids=["patient", "hasty"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_any_interleaving_any_batches_and_any_repeats_give_the_same_bytes(facts, join, data):
    log = data.draw(st.permutations(data.draw(histories(facts))))
    cuts = st.lists(st.integers(0, len(log)), max_size=6)
    first = replayed(facts, [*log, *ends(facts)], data.draw(cuts), join)
    second = replayed(facts, [*interleaved(data.draw, log), *ends(facts)], data.draw(cuts), join)
    assert first[0] == second[0]
    assert first[1] == second[1]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_what_comes_in_time_teaches_the_same_in_any_order(facts, data):
    by_id = {event.value["event_id"]: event for event in data.draw(histories(facts))}
    log = list(by_id.values())  # of two facts with one id the first is kept, so their order matters
    first, published = replayed(facts, log, [], PATIENT)
    second, again = replayed(facts, data.draw(st.permutations(log)), [], PATIENT)
    assert [s.get("learned") for s in first[:2]] == [s.get("learned") for s in second[:2]]
    assert published == again


def test_the_version_grows_with_every_fact_and_with_the_charter(facts):
    learn, versions = PolicyFold(), []
    state, shard = facts.State(), facts.State()
    book = [facts.book()]
    join = OutcomeFold(lambda: book[0])
    versions += [o.value["policy_version"] for o in learn.fold(0, [facts.charter()], state).outputs]
    parts = [facts.decision("r", 0), facts.call("r", 1), facts.judged("r", 2, 1.0), facts.thumb("r", 3, 1.0)]
    for batch in ([*parts], [facts.thumb("r", 4, 0.0)], [facts.judged("r", 5, 0.5)]):
        for output in join.fold(0, batch, shard).outputs:
            if output.event == "arm_summary":
                event = Event(RawRecord("arm-summaries", 0, 0, 0, b"", b""), "arm_summary", 1, dict(output.value))
                versions += [o.value["policy_version"] for o in learn.fold(0, [event], state).outputs]
    changed = facts.charter(facts.CHARTER.replace("0.02", "0.05"), revision=2, at_s=10)
    versions += [o.value["policy_version"] for o in learn.fold(0, [changed], state).outputs]
    assert len(versions) == 5 and versions == sorted(set(versions))


def test_a_summary_read_again_or_late_changes_nothing(facts):
    state = facts.State()
    join, shard, book = None, facts.State(), facts.book()
    join = OutcomeFold(lambda: book)
    sums = []
    for number in range(3):
        r = f"r{number}"
        batch = [facts.decision(r, number), facts.call(r, 1), facts.judged(r, 2, 1.0), facts.thumb(r, 3, 1.0)]
        outputs = join.fold(0, batch, shard).outputs
        value = dict(outputs[-1].value)
        sums.append(Event(RawRecord("arm-summaries", 0, 0, 0, b"", b""), "arm_summary", 1, value))
    learn = PolicyFold()
    learn.fold(0, [facts.charter(), *sums], state)
    before = state.dump()
    again = learn.fold(0, [sums[0], sums[2], facts.charter(), sums[1]], state)
    assert not again.outputs and state.dump() == before
    assert {v.reason for v in again.verdicts.values()} == {"older", "duplicate"}
