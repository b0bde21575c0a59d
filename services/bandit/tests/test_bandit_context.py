"""Policies by context, round the wheel: decided, logged, joined, learned, published, decided again."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.events import Codec, LocalRegistry, topics
from flywheel.local.topic_admin import topic_settings
from flywheel.policy import CharterInvalid, DecideRequest, compile_policy, decide, decision_event, parse_charter
from flywheel.stream import Event, RawRecord, Reject
from flywheel_bandit.core import OutcomeFold, PolicyFold
from flywheel_bandit.core.learned import moments_of

CHARTER = """
feature: answers
quality: {user.thumb: 1.0}
arms:
  - {name: strong, model: openai/gpt-4o}
  - {name: cheap, model: openai/gpt-4o-mini}
policy:
  kind: linear_thompson
  explore_floor: 0.02
  features:
    - {name: chars, kind: number, low: 0, high: 100}
    - {name: language, kind: category, values: [en]}
attribution_window: 60s
"""
PLAIN = CHARTER.replace("linear_thompson", "thompson_gaussian").replace(
    CHARTER[CHARTER.index("  features") : CHARTER.index("attribution")], ""
)
OTHER = CHARTER.replace("values: [en]", "values: [en, de]")


def first_policy(facts, text=CHARTER, revision=1):
    return PolicyFold().fold(0, [facts.charter(text, revision=revision)], facts.State()).outputs[-1].value


def decision(facts, policy, request, at_s, context):
    """The event of a decision that a policy really made, as it comes off the wire."""
    at_us = facts.T0 + round(at_s * 1e6)
    asked = DecideRequest("default", "answers", request, context)
    made = decision_event(decide(compile_policy(policy), asked, at_us), asked, occurred_at_us=at_us)
    return facts.event("decision", made)


def published(state, learn, outputs):
    """Give stage 2 the summaries, as they come off the wire, and return the newest policy."""
    codec = Codec(LocalRegistry.load())
    newest = None
    for output in outputs:
        if output.event == "arm_summary":
            value = codec.decode(codec.encode("arm_summary", dict(output.value))).value
            event = Event(RawRecord("arm-summaries", 0, 0, 0, b"", b""), "arm_summary", 2, value)
            for policy in learn.fold(0, [event], state).outputs:
                newest = policy.value
    return newest


def facts_of(facts, made):
    """Decisions at contexts, with their calls and thumbs: (chars, language, thumb, seconds until the thumb)."""
    policy = first_policy(facts)
    for number, (chars, language, thumb, wait_s) in enumerate(made):
        request = f"r{number}"
        yield decision(facts, policy, request, number, {"chars": chars, "language": language})
        yield facts.call(request, number + 0.5)
        yield facts.thumb(request, number + wait_s, thumb)


def learned(facts, events, *, batches, shards=2, text=CHARTER):
    """Fold facts in batches over shards; return the states and the newest policy."""
    book, learn = facts.book(facts.charter(text)), PolicyFold()
    join = OutcomeFold(lambda: book)
    states, state = [facts.State() for _ in range(shards)], facts.State()
    policy = learn.fold(0, [facts.charter(text)], state).outputs[-1].value
    for start in range(0, len(events), batches):
        for shard in range(shards):
            mine = [e for e in events[start : start + batches] if int(e.value["request_id"][1:]) % shards == shard]
            policy = published(state, learn, join.fold(shard, mine, states[shard]).outputs) or policy
    return [each.dump() for each in (*states, state)], policy


def test_the_wheel_turns_by_context(facts):
    # Long requests are good with the strong arm only, short ones with the cheap one only.
    policy, events = first_policy(facts), []
    for number in range(160):
        chars = 10.0 if number % 2 else 90.0
        made = decision(facts, policy, f"r{number}", number, {"chars": chars, "language": "en"})
        good = (made.value["arm"] == "cheap") == (chars < 50)
        events += [made, facts.call(f"r{number}", number + 0.1), facts.thumb(f"r{number}", number + 0.2, float(good))]
    _, policy = learned(facts, events, batches=30)
    compiled = compile_policy(policy)
    shares = {chars: compiled.distribution(0b11, compiled.encode({"chars": chars, "language": "en"})).propensities
              for chars in (10.0, 90.0)}  # fmt: skip
    assert shares[10.0][1] > 0.9 and shares[90.0][0] > 0.9
    # Context aside neither arm is the better one.
    assert all(0.2 < arm["propensity"] < 0.8 for arm in policy["arms"])


context_facts = st.lists(
    st.tuples(
        st.floats(-10, 200), st.sampled_from(["en", "fr", None]), st.sampled_from([0.0, 1.0]), st.integers(1, 40)
    ),
    min_size=1, max_size=8,
)  # fmt: skip


@given(context_facts, st.integers(1, 30), st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_batches_and_any_order_give_the_same_policy_byte_for_byte(facts, made, batches, data):
    events = list(facts_of(facts, made))
    first = learned(facts, events, batches=len(events))
    second = learned(facts, events, batches=batches)
    assert first == second and orjson.dumps(first[1]) == orjson.dumps(second[1])
    shuffled = data.draw(st.permutations(events))
    assert orjson.dumps(learned(facts, shuffled, batches=batches)[1]) == orjson.dumps(first[1])


def test_a_late_part_takes_the_old_outcome_back_with_its_context(facts):
    made = [(10.0, "en", 1.0, 2)]
    events = list(facts_of(facts, made))
    corrected = facts.thumb("r0", 30, 0.0)
    later = learned(facts, [*events, corrected], batches=1)[1]
    at_once = learned(facts, [*events, corrected], batches=9)[1]
    assert later["linear"] == at_once["linear"] != learned(facts, events, batches=9)[1]["linear"]


def test_vectors_of_another_encoding_or_length_teach_the_plain_sums_only(facts):
    events = list(facts_of(facts, [(10.0, "en", 1.0, 2)] * 3))
    before = first_policy(facts, OTHER)
    _, policy = learned(facts, events, batches=9, text=OTHER)
    assert policy["outcomes"] == 3 and policy["linear"] == before["linear"]
    short = [facts.event("decision", e.value | {"features": [4096, 0]}) if e.event == "decision" else e for e in events]
    _, policy = learned(facts, short, batches=9)
    assert policy["outcomes"] == 3 and policy["linear"] == first_policy(facts)["linear"]


@pytest.mark.parametrize("features", [[], [1, 0], [4096, 1 << 20], [4096] * 33])
def test_a_vector_that_cannot_be_is_refused_and_its_neighbours_are_not(facts, features):
    good, bad = list(facts_of(facts, [(10.0, "en", 1.0, 2)])), next(facts_of(facts, [(11.0, "en", 1.0, 2)]))
    wrong = facts.event("decision", bad.value | {"features": features, "request_id": "r9"})
    book = facts.book(facts.charter(CHARTER))
    result = OutcomeFold(lambda: book).fold(0, [wrong, *good], facts.State())
    assert isinstance(result.verdicts[0], Reject) and result.verdicts[0].field == "features"
    assert list(result.verdicts) == [0] and result.outputs


def test_without_features_nothing_of_it_is_in_state_summary_or_policy(facts):
    events = [facts.decision("r0", 0), facts.call("r0", 1), facts.thumb("r0", 2, 1.0)]
    book, state = facts.book(facts.charter(PLAIN)), facts.State()
    outputs = OutcomeFold(lambda: book).fold(0, events, state).outputs
    assert "moments" not in outputs[-1].value
    _, _, _, _, moments, pairs, uses = orjson.loads(state.get("learned", "default/answers"))
    assert not moments and not pairs and uses
    policy = first_policy(facts, PLAIN)
    assert not {"linear", "features", "encoding"} & policy.keys()


def test_the_largest_summary_that_a_charter_may_ask_for_is_within_what_topics_take(facts):
    largest = facts.largest()
    assert len(largest.policy["arms"]) == 8 and len(largest.policy["features"]) > 0
    codec = Codec(LocalRegistry.load())
    framed = codec.encode("arm_summary", largest.summary)
    assert len({row["bucket"] for row in largest.summary["moments"]}) == 45
    assert 1_500_000 < len(framed) < int(topic_settings(topics()["arm-summaries"])["max.message.bytes"])
    assert list(moments_of(codec.decode(framed).value).rows()) == list(largest.moments.rows())
    assert len(codec.encode("policy", dict(largest.policy))) < 100_000
    with pytest.raises(CharterInvalid, match="at most 4500"):
        parse_charter(largest.charter.replace("arms:", "arms:\n  - {name: one-more, model: m}", 1))
