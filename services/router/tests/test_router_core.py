"""Deciding: once per request and version, with the newest policy, or with a flagged default."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from router_parts import KEY, by_context, policy, request

from flywheel.budget.leases import Reservation
from flywheel.control import Item, Record
from flywheel.events import Codec, load_registry
from flywheel.policy import Decision, compile_policy
from flywheel_router.answers import AnswerWriter, answer, json_value
from flywheel_router.board import PolicyBoard
from flywheel_router.core import Decider
from flywheel_router.encoding import DecisionEncoder, plain
from flywheel_router.reading import read_request
from flywheel_router.recent import Recent

NOW_US = 1_790_000_060_000_000


def ask(number: int = 1, **changes: Any) -> Any:
    return read_request(request(number, **changes), None, lambda project, user: f"{project}:{user}")


class Deciding:
    """A decider and what it logged."""

    def __init__(self, *policies: Mapping[str, Any], remembered: int = 1000) -> None:
        self.board = PolicyBoard()
        for each in policies:
            self.board.update(f"{each['project']}/{each['feature']}", each)
        self.decider = Decider(self.board, remembered=remembered)
        self.logged: list[Mapping[str, Any]] = []

    def __call__(self, number: int = 1, now_us: int = NOW_US, **changes: Any) -> Decision:
        return self.decider.decide(ask(number, **changes), now_us, self.logged.append)


def test_a_decision_is_logged_with_all_its_propensities() -> None:
    deciding = Deciding(policy())
    decision = deciding()
    (event,) = deciding.logged
    assert event["arms"] == ["strong", "cheap", "large"]
    assert sum(event["propensities"]) == pytest.approx(1.0)
    assert event["propensity"] == dict(zip(event["arms"], event["propensities"], strict=True))[decision.arm]
    assert (event["reason"], event["fallback"], event["decider"]) == ("policy", False, "router")
    assert event["context"] == {"plan": "pro", "n_chars": "120.0"}
    assert event["policy_age_ms"] == 60_000.0


def test_a_control_makes_the_same_request_a_new_decision_and_ends_by_the_clock() -> None:
    deciding = Deciding(policy())
    first = deciding()
    control = Record(
        "default", "support", "person", 1, NOW_US, (Item("c", "disable", (first.arm,)),), NOW_US + 60_000_000
    )
    assert deciding.board.controls.update(control.event())
    second = deciding()
    assert second.arm != first.arm and second.control == "c" and first.arm not in second.arms
    assert sum(second.propensities) == pytest.approx(1.0)
    assert deciding(now_us=NOW_US + 60_000_000) is first
    assert [event.get("control") for event in deciding.logged] == [None, "c"]


def test_only_eligible_arms_are_chosen() -> None:
    deciding = Deciding(policy())
    chosen = {deciding(number, context={"plan": "free"}).arm for number in range(200)}
    assert chosen == {"strong", "cheap"}


def test_arms_are_chosen_as_often_as_their_propensities_say() -> None:
    deciding = Deciding(policy())
    counts = Counter(deciding(number).arm for number in range(3000))
    event = deciding.logged[0]
    for arm, propensity in zip(event["arms"], event["propensities"], strict=True):
        spread = (propensity * (1 - propensity) / 3000) ** 0.5
        assert abs(counts[arm] / 3000 - propensity) < 4 * spread


def test_a_repeated_request_gets_the_same_answer_and_is_logged_once() -> None:
    deciding = Deciding(policy())
    first = deciding(1)
    assert deciding(1) == first
    assert deciding(1, context={"plan": "free"}) == first  # what was decided stands, whatever is said later
    assert len(deciding.logged) == 1


def test_a_new_version_decides_anew_and_a_restart_decides_alike() -> None:
    deciding = Deciding(policy(1))
    before = [deciding(number) for number in range(50)]
    deciding.board.update(KEY, policy(2))
    after = [deciding(number) for number in range(50)]
    assert {each.policy_version for each in after} == {2}
    assert {each.decision_id for each in before}.isdisjoint(each.decision_id for each in after)
    assert [Deciding(policy(1))(number) for number in range(50)] == before


@pytest.mark.parametrize(
    ("policies", "changes", "reason", "arm"),
    [
        ([], {"default_arm": "mine"}, "no_policy", "mine"),
        ([], {}, "no_policy", "default"),
        ([policy()], {"feature": "other"}, "unknown_feature", "default"),
        ([policy(stale_after_s=1.0)], {}, "stale_policy", "strong"),
        ([policy(arms=[{**policy()["arms"][2]}], default_arm="large")], {"context": {}}, "nothing_eligible", "large"),
    ],
)
def test_what_cannot_be_decided_is_the_declared_default_flagged(
    policies: list[dict[str, Any]], changes: dict[str, Any], reason: str, arm: str
) -> None:
    deciding = Deciding(*policies)
    decision = deciding(**changes)
    assert (decision.reason, decision.arm, decision.fallback, decision.propensity) == (reason, arm, True, 1.0)
    assert deciding.logged[0]["fallback"] is True


def test_what_cannot_be_logged_is_not_decided() -> None:
    deciding = Deciding(policy())

    def full(event: Mapping[str, Any]) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        deciding.decider.decide(ask(), NOW_US, full)
    deciding()
    assert len(deciding.logged) == 1  # it was not taken for one that is logged already


@given(st.permutations([policy(version) for version in range(1, 6)]))
def test_the_newest_version_wins_in_any_order(events: list[dict[str, Any]]) -> None:
    board = PolicyBoard()
    changes = [board.update(KEY, event) for event in events]
    held = board.get("default", "support")
    assert held is not None
    assert held.version == 5
    newest = 0
    for event, changed in zip(events, changes, strict=True):
        assert changed == (event["policy_version"] > newest)
        newest = max(newest, event["policy_version"])


def test_a_removed_policy_is_gone_and_a_wrong_one_changes_nothing() -> None:
    board = PolicyBoard()
    board.update(KEY, policy(1))
    with pytest.raises(ValueError, match="default_arm"):
        board.update(KEY, policy(2, default_arm="nobody"))
    held = board.get("default", "support")
    assert held is not None
    assert held.version == 1
    assert board.update(KEY, None)
    assert not board.update(KEY, None)
    assert (board.get("default", "support"), len(board), board.serves("default")) == (None, 0, False)


def test_the_tag_of_a_snapshot_changes_exactly_with_its_policies() -> None:
    board = PolicyBoard()
    board.update(KEY, policy(1))
    board.update("p2/support", policy(1, project="p2"))
    tag, events = board.snapshot("default")
    assert [event["project"] for event in events] == ["default"]
    board.update("p2/support", policy(2, project="p2"))
    assert board.snapshot("default")[0] == tag
    assert board.snapshot()[0] != tag
    board.update(KEY, policy(2))
    assert board.snapshot("default")[0] != tag


def test_an_answer_holds_parameters_as_values() -> None:
    decision = Deciding(policy())()
    body = answer(decision, "r1")
    assert body["params"] == {"temperature": 0.2, "stop": ["\n"]}
    assert sum(body["propensities"].values()) == pytest.approx(1.0)
    assert json_value("not json") == "not json"


@settings(max_examples=100)
@given(
    request_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50),
    plan=st.sampled_from(["pro", "free"]),
    known=st.booleans(),
    params=st.sampled_from(["0.2", "not json", '"text"']),
)
def test_kept_answers_are_the_bytes_that_would_be_written(request_id: str, plan: str, known: bool, params: str) -> None:
    arms = [{**arm, "params": {"temperature": params}} for arm in policy()["arms"]]
    deciding, writer = Deciding(policy(arms=arms), policy(project="p2")), AnswerWriter()
    for project in ("default", "p2", "default"):
        for identity in (request_id, "another", request_id):
            asked = ask(project=project, feature="support" if known else "other", context={"plan": plan})
            asked = asked._replace(request_id=identity)
            decision = deciding.decider.decide(asked, NOW_US, deciding.logged.append)
            assert writer.write(decision, asked) == orjson.dumps(answer(decision, identity))


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


@settings(max_examples=200)
@given(
    request_id=texts,
    team=st.none() | texts,
    app=st.none() | texts,
    context=st.dictionaries(st.sampled_from(["plan", "n_chars", "other"]), st.none() | texts | st.floats(-1e9, 1e9)),
    at_us=st.integers(0, 2**60),
)
def test_the_fast_encoder_writes_what_the_codec_writes(
    request_id: str, team: str | None, app: str | None, context: dict[str, Any], at_us: int
) -> None:
    codec = Codec(load_registry())
    encoder = DecisionEncoder(codec)
    deciding = Deciding(policy())
    asked = ask()._replace(request_id=request_id, team=team, app=app, context=context)
    deciding.decider.decide(asked, at_us, deciding.logged.append)
    event = deciding.logged[0]
    expected = codec.encode("decision", event)
    assert encoder.encode(event) == expected
    assert encoder.encode(event) == expected  # now from what was kept
    other = dict(event, request_id="another", occurred_at=at_us + 1, policy_age_ms=None)
    assert encoder.encode(other) == codec.encode("decision", other)
    assert encoder._kept


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.none() | st.floats(0, 5000), min_size=2, max_size=6), plan=st.sampled_from(["pro", "free"]))
def test_by_context_neither_answers_nor_records_are_mixed_up(sizes: list[float | None], plan: str) -> None:
    """What is kept goes by the arm and its propensity; by a linear policy the other arms' may differ all the same."""
    codec = Codec(load_registry())
    encoder, writer = DecisionEncoder(codec), AnswerWriter()
    deciding = Deciding(by_context())
    for number, size in enumerate(sizes):
        asked = ask(context={"plan": plan, "n_chars": size})._replace(request_id=f"r{number}")
        decision = deciding.decider.decide(asked, NOW_US, deciding.logged.append)
        event = deciding.logged[-1]
        # One as if by chance of the same propensity: all else is another context's.
        twin = decision._replace(propensities=decision.propensities[::-1], features=(4096, 1, 0))
        assert writer.write(decision, asked) == orjson.dumps(answer(decision, asked.request_id))
        assert writer.write(twin, asked) == orjson.dumps(answer(twin, asked.request_id))
        assert encoder.encode(event) == codec.encode("decision", event)
        other = event | {"propensities": event["propensities"][::-1], "features": [4096, 1, 0]}
        assert encoder.encode(other) == codec.encode("decision", other)
        assert codec.decode(encoder.encode(event)).value["features"] == list(decision.features)


def test_where_money_is_short_an_arm_is_worth_what_it_earns_at_this_context() -> None:
    compiled = compile_policy(by_context())
    short, long = ({"n_chars": chars} for chars in (0.0, 4000.0))
    assert [each.mean for each in compiled.beliefs(compiled.encode(short), 0b011)] == pytest.approx([0.5, 0.5])
    assert [each.mean for each in compiled.beliefs(compiled.encode(long), 0b011)] == pytest.approx([0.8, 0.1])
    plain = compile_policy(policy())
    assert [each.mean for each in plain.beliefs((), 0b101)] == [0.6, 0.6]


@settings(max_examples=200)
@given(
    made=st.lists(st.tuples(texts, texts, texts, st.integers(0, 2**62), st.integers(0, 2**62)), max_size=4),
    sizes=st.tuples(st.integers(0, 10**9), st.integers(1, 10**9)),
    pressed=st.none() | st.tuples(st.none() | texts, st.floats(0, 1e9)),
)
def test_the_fast_encoder_writes_what_budgets_said_as_the_codec_does(
    made: list[tuple[str, str, str, int, int]], sizes: tuple[int, int], pressed: tuple[str | None, float] | None
) -> None:
    codec = Codec(load_registry())
    encoder = DecisionEncoder(codec)
    deciding = Deciding(policy())
    deciding.decider.decide(ask(), 1, deciding.logged.append)
    event = {
        **deciding.logged[0],
        "reservations": tuple(Reservation(*each) for each in made),
        "input_tokens_bound": sizes[0],
        "output_tokens_bound": sizes[1],
        "downgraded_from": pressed[0] if pressed else None,
        "budget_price": pressed[1] if pressed else None,
    }
    expected = codec.encode("decision", plain(event))
    assert encoder.encode(event) == encoder.encode(event) == expected
    assert encoder._kept
    capped = {**event, "params": {"max_tokens": str(sizes[1] + 1)}, "output_tokens_bound": sizes[1] + 1}
    assert encoder.encode(capped) == codec.encode("decision", plain(capped))


@given(st.integers(1, 20), st.lists(st.integers(0, 60), max_size=200))
def test_recent_keeps_at_least_the_last_and_at_most_twice_as_many(least: int, keys: list[int]) -> None:
    recent: Recent[int, int] = Recent(least)
    for position, key in enumerate(keys):
        recent[key] = position
        assert len(recent) <= 2 * least
    for key in keys[-least:]:
        assert recent.get(key) is not None
    assert recent.get(-1) is None
