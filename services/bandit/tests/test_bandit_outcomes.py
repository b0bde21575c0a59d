"""What is told of a request: its reward from the parts, whatever order they come in, and what missing ones mean."""

from __future__ import annotations

from decimal import Decimal

import orjson
import pytest

from flywheel.stream import Fatal
from flywheel_bandit.core import JoinSettings, OutcomeFold


def folded(facts, *batches, charters=(), state=None, settings=None):
    """Fold the batches; return the newest outcome per request, all outputs and the state."""
    book = facts.book(*charters)
    fold = OutcomeFold(lambda: book, settings)
    state = state or facts.State()
    outputs = [output for batch in batches for output in fold.fold(0, batch, state).outputs]
    outcomes = {o.key: o.value for o in outputs if o.event == "outcome"}
    return outcomes, outputs, state


def complete(facts, request, at_s):
    """Return all parts of a request that went well."""
    parts = [facts.decision(request, at_s), facts.call(request, at_s)]
    return [*parts, facts.thumb(request, at_s, 1.0), facts.judged(request, at_s, 1.0)]


def learned(state, key="default/answers"):
    """Return the rows of the one summary of a feature: (span, arm, count, sum, sum of squares)."""
    _, _, _, summaries, *_ = orjson.loads(state.get("learned", key))
    return [row for rows in summaries.values() for row in rows]


def test_a_request_with_all_its_parts_is_rewarded_once(facts):
    batch = [
        facts.decision("r", 0.0), facts.call("r", 0.5), facts.judged("r", 1.0, 0.8), facts.thumb("r", 2.0, 1.0),
    ]  # fmt: skip
    outcomes, outputs, state = folded(facts, batch)
    outcome = outcomes["r"]
    # 0.5·0.8 + 0.5·1 - 0.2·0.005/0.01 - 0.1·500/1000
    assert outcome["reward"] == pytest.approx(0.9 - 0.1 - 0.05)
    assert outcome["quality"] == pytest.approx(0.9)
    assert outcome["parts"] == pytest.approx(
        {"judge": 0.8, "user.thumb": 1.0, "quality": 0.9, "cost": -0.1, "latency": -0.05}
    )
    assert (outcome["status"], outcome["calls"], outcome["missing"]) == ("complete", 1, [])
    assert outcome["cost_usd"] == Decimal("0.005")
    assert [o.event for o in outputs] == ["outcome", "arm_summary"]
    assert [row[1:] for row in learned(state)] == [["strong", 1, "750000000", str(750000000**2)]]


def test_every_output_can_be_sent(facts):
    batch = [facts.decision("r", 0.0), facts.call("r", 0.5), facts.judged("r", 1.0, 0.8), facts.thumb("r", 2.0, 1.0)]
    _, outputs, _ = folded(facts, batch)
    for output in outputs:
        assert facts._codec.encode(output.event, output.value)


def test_nothing_is_told_before_the_declared_parts_are_there_or_the_window_has_closed(facts):
    early = [facts.decision("r", 0.0), facts.call("r", 0.5), facts.judged("r", 1.0, 0.8)]
    outcomes, _, state = folded(facts, early)
    assert outcomes == {}
    later = [
        facts.decision("s", 500.0),
        facts.call("s", 500.0),
        facts.thumb("s", 500.0, 1.0),
        facts.judged("s", 500.0, 1.0),
    ]
    outcomes, _, _ = folded(facts, later, state=state)
    assert (outcomes["r"]["status"], outcomes["r"]["reward"]) == ("timed_out", None)
    assert outcomes["r"]["missing"] == ["user.thumb"]


def test_a_late_part_corrects_what_was_learned(facts):
    slow = [facts.decision("r", 0.0), facts.call("r", 0.5), facts.judged("r", 1.0, 0.8)]
    others = [
        facts.decision("s", 500.0),
        facts.call("s", 500.0),
        facts.thumb("s", 500.0, 1.0),
        facts.judged("s", 500.0, 1.0),
    ]
    late = [facts.thumb("r", 90.0, 0.0)]
    outcomes, outputs, state = folded(facts, slow, others, late)
    revisions = [o.value["revision"] for o in outputs if o.event == "outcome" and o.key == "r"]
    assert len(revisions) == 2 and revisions[0] == 1 < revisions[1]
    assert outcomes["r"]["reward"] == pytest.approx(0.4 - 0.15)
    better = [facts.thumb("r", 95.0, 1.0)]
    outcomes, _, state = folded(facts, better, state=state)
    assert outcomes["r"]["reward"] == pytest.approx(0.75)
    assert sum(row[2] for row in learned(state)) == 2, "the correction replaces, it is not counted again"


def test_a_bandit_that_lost_its_disk_tells_again_above_what_it_told_before(facts):
    facts_read = [
        facts.decision("r", 0.0),
        facts.call("r", 0.5),
        facts.judged("r", 1.0, 0.8),
        facts.thumb("r", 2.0, 0.0),
    ]
    corrected = [facts.judged("r", 3.0, 0.1)]
    before, _, _ = folded(facts, facts_read)
    state = facts.State()
    state.catching_up = True
    anew, outputs, state = folded(facts, facts_read, corrected, state=state)
    told = [o.value for o in outputs if o.event == "outcome"]
    assert before["r"]["revision"] == 1 < told[0]["revision"] < told[1]["revision"]
    assert len({before["r"]["event_id"], *(value["event_id"] for value in told)}) == 3
    assert anew["r"]["revision"] == told[1]["revision"]


@pytest.mark.parametrize(
    ("missing", "reward"),
    [("{quality: unrewarded}", None), ("{quality: renormalise}", 0.8 - 0.15)],
)
def test_what_a_missing_part_means_is_declared(facts, missing, reward):
    charter = facts.charter(facts.CHARTER + f"missing: {missing}\n")
    early = [facts.decision("r", 0.0), facts.call("r", 0.5), facts.judged("r", 1.0, 0.8)]
    clock = [facts.decision("s", 500.0), facts.call("s", 500.0), facts.thumb("s", 500.0, 1.0)]
    outcomes, _, _ = folded(facts, early, clock, [facts.judged("s", 500.0, 1.0)], charters=[charter])
    assert outcomes["r"]["reward"] == (None if reward is None else pytest.approx(reward))


def test_without_waiting_the_parts_present_are_rewarded_at_once(facts):
    charter = facts.charter(facts.CHARTER + "missing: {wait: false}\n")
    outcomes, _, state = folded(facts, [facts.decision("r", 0.0), facts.call("r", 0.5)], charters=[charter])
    assert (outcomes["r"]["reward"], outcomes["r"]["status"]) == (None, "waiting")
    outcomes, _, _ = folded(facts, [facts.thumb("r", 1.0, 1.0)], charters=[charter], state=state)
    assert outcomes["r"]["reward"] == pytest.approx(1.0 - 0.15)


def test_an_unknown_cost_is_not_free(facts):
    batch = [facts.decision("r", 0), facts.call("r", 0, cost=None), facts.judged("r", 1, 1.0), facts.thumb("r", 1, 1.0)]
    outcomes, _, _ = folded(facts, batch)
    assert outcomes["r"]["reward"] is None and outcomes["r"]["cost_usd"] is None
    omit = facts.charter(facts.CHARTER + "missing: {cost: omit}\n")
    outcomes, _, _ = folded(facts, batch, charters=[omit])
    assert outcomes["r"]["reward"] == pytest.approx(0.95)


def test_attempts_add_up_and_a_refused_one_costs_nothing(facts):
    failed = facts.call("r", 0.1, cost=None, ms=100.0, status="ERROR")
    batch = [facts.decision("r", 0), failed, facts.call("r", 0.5), facts.judged("r", 1, 1.0), facts.thumb("r", 1, 1.0)]
    outcome = folded(facts, batch)[0]["r"]
    assert (outcome["calls"], outcome["errors"], outcome["latency_ms"]) == (2, 1, 600.0)
    assert outcome["cost_usd"] == Decimal("0.005")


def test_a_cascade_teaches_its_own_arm_what_both_calls_cost(facts):
    batch = [
        facts.decision("r", 0.0, arm="cheap"),
        facts.call("r", 0.5, variant="cheap", escalation="escalated", cost_usd=Decimal("0.001"), latency_ms=300.0),
        facts.call("r", 1.0, variant="strong", attempt=2, cost_usd=Decimal("0.009"), latency_ms=700.0),
        facts.judged("r", 2.0, 1.0),
        facts.thumb("r", 2.0, 1.0),
    ]
    outcomes, _, state = folded(facts, batch)
    assert (outcomes["r"]["arm"], outcomes["r"]["cost_usd"], outcomes["r"]["latency_ms"]) == (
        "cheap",
        Decimal("0.01"),
        1000.0,
    )
    # 1 - 0.2·0.01/0.01 - 0.1·1000/1000
    assert [row[1:4] for row in learned(state)] == [["cheap", 1, "700000000"]]


def test_a_request_that_only_failed_has_quality_zero_at_once(facts):
    batch = [facts.decision("r", 0), facts.call("r", 0.1, cost=None, ms=100.0, status="ERROR")]
    outcomes, _, state = folded(facts, batch)
    assert outcomes["r"]["quality"] == 0.0 and outcomes["r"]["reward"] == pytest.approx(-0.01)
    retried = [facts.call("r", 1.0), facts.judged("r", 2, 1.0), facts.thumb("r", 2, 1.0)]
    outcomes, _, state = folded(facts, retried, state=state)
    assert outcomes["r"]["reward"] == pytest.approx(1.0 - 0.1 - 0.06)
    assert [row[2] for row in learned(state)] == [1]


def test_shadow_calls_do_not_count(facts):
    batch = [
        facts.decision("r", 0), facts.call("r", 0), facts.call("r", 0.2, cost="9", shadow=True),
        facts.judged("r", 1, 1.0), facts.thumb("r", 1, 1.0),
    ]  # fmt: skip
    assert folded(facts, batch)[0]["r"]["cost_usd"] == Decimal("0.005")


def test_the_decision_a_call_refers_to_is_the_one_that_took_effect(facts):
    first, second = facts.decision("r", 0, "strong"), facts.decision("r", 5, "cheap", policy_version=2)
    call = facts.call("r", 6, decision_id=first.value["event_id"])
    batch = [first, second, call, facts.judged("r", 7, 1.0), facts.thumb("r", 7, 1.0)]
    assert folded(facts, batch)[0]["r"]["arm"] == "strong"


def test_a_reward_of_an_arm_the_charter_does_not_have_teaches_nothing(facts):
    batch = [facts.decision("r", 0, "other"), facts.call("r", 0), facts.judged("r", 1, 1.0), facts.thumb("r", 1, 1.0)]
    outcomes, _, state = folded(facts, batch)
    assert outcomes["r"]["reward"] == pytest.approx(0.85)
    assert learned(state) == []


def test_outcomes_wait_for_a_charter_and_follow_the_one_in_force_when_decided(facts):
    batch = [facts.decision("r", 0), facts.call("r", 0), facts.judged("r", 1, 1.0), facts.thumb("r", 1, 1.0)]
    unknown = facts.charter(facts.CHARTER.replace("answers", "others"), feature="others")
    outcomes, _, state = folded(facts, batch, charters=[unknown])
    assert outcomes == {}
    dear = facts.charter(facts.CHARTER.replace("cost: 0.2", "cost: 0.4"), revision=2, at_s=3600.0)
    outcomes, _, state = folded(facts, [], charters=[facts.charter(), dear], state=state)
    assert outcomes["r"]["reward"] == pytest.approx(0.85), "decided before the dearer charter"
    again = facts.charter(facts.CHARTER.replace("cost: 0.2", "cost: 0.6"), revision=3, at_s=-5.0)
    outcomes, _, _ = folded(facts, [], charters=[facts.charter(), dear, again], state=state)
    assert outcomes["r"]["reward"] == pytest.approx(1 - 0.3 - 0.05), "a charter read late is applied from its time on"


def test_two_features_may_decide_for_one_request(facts):
    other = facts.charter(facts.CHARTER.replace("feature: answers", "feature: titles"), feature="titles")
    batch = [
        facts.decision("r", 0), facts.decision("r", 0.1, "cheap", feature="titles", event_id="d2"),
        facts.call("r", 0.2), facts.call("r", 0.3, feature="titles", event_id="c2", cost="0.001"),
        facts.judged("r", 1, 1.0), facts.thumb("r", 1, 0.0),
    ]  # fmt: skip
    _, outputs, _ = folded(facts, batch, charters=[facts.charter(), other])
    found = {o.value["feature"]: o.value for o in outputs if o.event == "outcome"}
    assert (found["answers"]["arm"], found["titles"]["arm"]) == ("strong", "cheap")
    assert found["titles"]["cost_usd"] == Decimal("0.001")


@pytest.mark.parametrize(
    ("make", "reason", "field"),
    [
        (lambda f: f.judged("r", 0, 1.5), "out_of_range", "score"),
        (lambda f: f.thumb("r", 0, -0.1), "out_of_range", "value"),
        (lambda f: f.call("r", 0, ms=-1.0), "out_of_range", "latency_ms"),
        (lambda f: f.call("r", 0, ms=float("nan")), "out_of_range", "latency_ms"),
        (lambda f: f.call("r", 0, cost="-1"), "out_of_range", "cost_usd"),
        (lambda f: f.decision("", 0), "id_out_of_range", "request_id"),
        (lambda f: f.decision("r" * 600, 0), "id_out_of_range", "request_id"),
        (lambda f: f.decision("r", 0, occurred_at=0), "time_out_of_range", "occurred_at"),
        (lambda f: f.decision("r", 9e9, sent_ms=f.T0 // 1000), "time_out_of_range", "occurred_at"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_field(facts, make, reason, field):
    verdicts = OutcomeFold(facts.book).fold(0, [facts.decision("ok", 0), make(facts)], facts.State()).verdicts
    assert list(verdicts) == [1]
    assert (verdicts[1].reason, verdicts[1].field) == (reason, field)


def test_what_teaches_nothing_is_skipped_with_a_reason(facts):
    once = facts.decision("r", 0)
    batch = [
        once,
        once,
        facts.thumb("r", 0, None),
        facts.call("r", 0, shadow=True),
        facts.decision("s", 0, feature=None),
        facts.judged("r", 0, 0.1, golden_score=0.9),
    ]
    verdicts = OutcomeFold(facts.book).fold(0, batch, facts.State()).verdicts
    assert {i: v.reason for i, v in verdicts.items()} == {
        1: "duplicate",
        2: "no_score",
        3: "shadow",
        4: "no_feature",
        5: "golden_probe",
    }


def test_state_is_bounded_requests_are_let_go_and_cannot_come_back(facts):
    settings = JoinSettings(idle_s=10, grace_s=100, skew_s=50, unclaimed_s=100)
    fold = OutcomeFold(facts.book, settings)
    state = facts.State()
    sizes = []
    for minute in range(200):
        at = 60.0 * minute
        request = f"r{minute}"
        batch = [facts.decision(request, at), facts.call(request, at), facts.thumb(f"orphan{minute}", at, 1.0)]
        fold.fold(0, batch, state)
        sizes.append(sum(len(rows) for rows in state.tables.values()))
    assert max(sizes[100:]) <= sizes[50] + 2
    late = fold.fold(0, [facts.decision("r3", 180.0)], state)
    assert late.verdicts[0].reason == "too_late"
    assert not [o for o in late.outputs if o.event == "outcome"]


def test_what_comes_after_the_grace_teaches_nothing_however_the_log_is_cut(facts):
    """In one batch the request is still there when its late part is read, in another it was let go before."""
    settings = JoinSettings(idle_s=10, grace_s=100, skew_s=50, unclaimed_s=1000)
    early = [facts.decision("r", 0), facts.call("r", 1), facts.judged("r", 2, 1.0), facts.thumb("r", 3, 1.0)]
    clock = [facts.decision("s", 400), facts.call("s", 400), facts.judged("s", 400, 1.0), facts.thumb("s", 400, 1.0)]
    late = [facts.judged("r", 4, 0.0), facts.decision("r", 5, "cheap"), facts.call("r", 399)]
    states = []
    for batches in ([early, clock, late], [early + clock + late], [early, clock + late]):
        fold, state = OutcomeFold(facts.book, settings), facts.State()
        told = [o.value for batch in batches for o in fold.fold(0, batch, state).outputs if o.event == "outcome"]
        assert [(o["request_id"], o["arm"], o["calls"]) for o in told if o["request_id"] == "r"] == [("r", "strong", 1)]
        states.append(state.dump())
    assert states[0] == states[1] == states[2]


def test_a_state_of_another_form_is_refused_instead_of_misread(facts):
    state = facts.State()
    state.put("shard", "times", b"[1750000000000000,1750000000000000,0,0]")  # as the first version wrote it
    with pytest.raises(Fatal, match="shard 3 has a state of form 1750000000000000, this version reads 2"):
        OutcomeFold(facts.book).fold(3, [facts.decision("r", 0)], state)


def test_one_request_cannot_fill_the_state(facts):
    fold, state = OutcomeFold(facts.book), facts.State()
    flood = [facts.thumb("r", 0, 1.0, event_id=f"e{i}") for i in range(600)]
    verdicts = fold.fold(0, flood, state).verdicts
    assert {v.reason for v in verdicts.values()} == {"too_many_parts"} and len(verdicts) == 600 - 512


def test_two_facts_with_one_id_leave_the_same_state_in_either_order(facts):
    good, bad = facts.thumb("r", 1.0, 1.0), facts.thumb("r", 1.0, 0.0)
    states = []
    for pair in ([good, bad], [bad, good]):
        states.append(
            folded(facts, [facts.decision("r", 0), facts.call("r", 0), facts.judged("r", 1, 1.0)], pair)[2].dump()
        )
    assert states[0] == states[1]
