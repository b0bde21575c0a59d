"""What an item becomes: a fact, normalised and priced, or a verdict that names the field."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.events import Codec, LocalRegistry
from flywheel.pricing import bundled_prices
from flywheel_ingest.core import Admission, Core, Fact, report, screen, status_of
from flywheel_ingest.items import KINDS, SET_BY_INGEST, FieldError, ItemRules, KindName, Limits
from flywheel_ingest.window import RecentIds

NOW_US = 1_795_234_200_000_000
AT = "2026-11-21T04:09:59.123Z"
AT_US = 1_795_234_199_123_000


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(LocalRegistry.load())


@pytest.fixture(scope="module")
def core(codec: Codec) -> Core:
    rules = {name: ItemRules(kind, codec.schema(kind.event)) for name, kind in KINDS.items()}
    return Core(rules, Limits(), bundled_prices(), lambda project, user: f"hash-of-{project}-{len(user)}")


def call(**fields: Any) -> dict[str, Any]:
    return {"request_id": "r1", "occurred_at": AT, "provider": "openai", "request_model": "gpt-4o", **fields}


def feedback(**fields: Any) -> dict[str, Any]:
    return {"request_id": "r1", "occurred_at": AT, "kind": "user.thumb", "value": 1.0, **fields}


def evaluation(**fields: Any) -> dict[str, Any]:
    return {"request_id": "r1", "occurred_at": AT, "evaluator": "judge.helpful", "score": 0.5, **fields}


def only(admission: Admission) -> Fact:
    assert not admission.refusals, admission.refusals
    (fact,) = admission.facts
    return fact


def errors(admission: Admission) -> list[tuple[str, str]]:
    (refusal,) = admission.refusals
    return [(error.field, error.message) for error in refusal.errors]


def test_a_call_is_normalised_and_priced(core: Core, codec: Codec) -> None:
    fact = only(
        core.admit(
            "call",
            [
                call(
                    operation="chat",
                    status="ok",
                    usage_convention="inclusive",
                    input_tokens=900,
                    output_tokens=200,
                    cache_read_tokens=300,
                )
            ],
            NOW_US,
        )
    )
    event = fact.event
    assert event["project"] == "default"
    assert (event["operation"], event["status"], event["usage_convention"]) == ("CHAT", "OK", "INCLUSIVE")
    assert (event["occurred_at"], event["received_at"]) == (AT_US, NOW_US)
    assert (event["uncached_input_tokens"], event["cache_read_tokens"], event["visible_output_tokens"]) == (
        600,
        300,
        200,
    )
    assert (event["cost_usd"], event["cost_source"]) == (Decimal("0.003875"), "LOCAL")
    assert event["price_version"].startswith("genai-prices/")
    assert "flags" not in event
    assert codec.decode(codec.encode("llm_call", event)).value["cost_usd"] == Decimal("0.003875")


def test_an_exclusive_emitter_gets_its_input_total(core: Core) -> None:
    item = call(usage_convention="EXCLUSIVE", input_tokens=4, cache_read_tokens=100, output_tokens=1)
    event = only(core.admit("call", [item], NOW_US)).event
    assert (event["input_tokens"], event["uncached_input_tokens"]) == (104, 4)


def test_an_unknown_price_is_null_and_flagged(core: Core) -> None:
    event = only(core.admit("call", [call(request_model="ours-7b", input_tokens=1, output_tokens=1)], NOW_US)).event
    assert event.get("cost_usd") is None
    assert event["cost_source"] == "UNKNOWN"
    assert event["flags"] == ["unknown_model"]


def test_contradicting_usage_is_kept_as_reported_flagged_and_not_priced(core: Core) -> None:
    item = call(usage_convention="INCLUSIVE", input_tokens=10, cache_read_tokens=11, output_tokens=1)
    event = only(core.admit("call", [item], NOW_US)).event
    assert event["flags"] == ["cache_exceeds_input"]
    assert (event["input_tokens"], event["cache_read_tokens"]) == (10, 11)
    assert event.get("uncached_input_tokens") is None
    assert event.get("cost_usd") is None


def test_a_reported_cost_is_taken_to_the_last_digit(core: Core) -> None:
    for reported in ("0.00005770", 0.0000577):
        event = only(core.admit("call", [call(cost_usd=reported)], NOW_US)).event
        assert (event["cost_usd"], event["cost_source"]) == (Decimal("0.0000577"), "PROVIDER")
    free = only(core.admit("call", [call(cost_usd=0)], NOW_US)).event
    assert free["cost_usd"] == 0


def test_a_first_token_after_the_last_is_flagged(core: Core) -> None:
    event = only(core.admit("call", [call(input_tokens=1, output_tokens=1, latency_ms=10, ttft_ms=11.5)], NOW_US)).event
    assert event["flags"] == ["ttft_exceeds_latency"]


def test_content_goes_its_own_way(core: Core, codec: Codec) -> None:
    fact = only(core.admit("call", [call(feature="f", input_text="hello", output_text="")], NOW_US))
    assert "input_text" not in fact.event
    assert "output_text" not in fact.event
    assert fact.content is not None
    assert fact.content["call_id"] == fact.event_id
    assert fact.content["event_id"] != fact.event_id
    assert (fact.content["input_text"], fact.content["output_text"]) == ("hello", "")
    codec.encode("call_content", fact.content)
    assert only(core.admit("call", [call()], NOW_US)).content is None


def test_a_user_is_hashed_and_never_kept(core: Core) -> None:
    event = only(core.admit("feedback", [feedback(project="p", user="ann@example.org")], NOW_US)).event
    assert event["user_hash"] == "hash-of-p-15"
    assert "user" not in event
    both = core.admit("feedback", [feedback(user="a", user_hash="b")], NOW_US)
    assert errors(both) == [("user", "is not given beside user_hash")]


def test_an_item_without_an_id_gets_one_from_its_content(core: Core) -> None:
    first, again, other = (only(core.admit("call", [item], NOW_US)) for item in (call(), call(), call(attempt=2)))
    assert first.event_id == again.event_id != other.event_id
    assert only(core.admit("call", [call()], NOW_US + 5_000_000)).event_id == first.event_id
    assert only(core.admit("call", [call(event_id="mine")], NOW_US)).event["event_id"] == "mine"


@pytest.mark.parametrize(("kind", "item"), [("call", call()), ("feedback", feedback()), ("evaluation", evaluation())])
def test_null_is_the_same_as_left_out(core: Core, codec: Codec, kind: KindName, item: dict[str, Any]) -> None:
    rules = core.rules[kind]
    nulls = {name: None for name in rules.fields if name not in item}
    event = only(core.admit(kind, [{**nulls, **item}], NOW_US)).event
    plain = only(core.admit(kind, [item], NOW_US)).event
    written = [codec.decode(codec.encode(rules.kind.event, each)).value for each in (event, plain)]
    for each in written:
        del each["event_id"]
    assert written[0] == written[1]


def test_what_the_schema_has_can_be_posted(core: Core, codec: Codec) -> None:
    for rules in core.rules.values():
        declared = {field["name"] for field in codec.schema(rules.kind.event)["fields"]}
        assert declared - rules.fields <= SET_BY_INGEST
        assert rules.fields - declared == set(rules.kind.extra)


def test_feedback_and_evaluations_say_something(core: Core) -> None:
    assert errors(core.admit("feedback", [feedback(value=None)], NOW_US))[0][0] == "value"
    assert errors(core.admit("evaluation", [evaluation(score=None)], NOW_US))[0][0] == "score"
    only(core.admit("feedback", [feedback(value=None, label="wrong")], NOW_US))
    judged = only(core.admit("evaluation", [evaluation(score=None, passed=True, judge_cost_usd="0.01")], NOW_US))
    assert judged.event["judge_cost_usd"] == Decimal("0.01")


def test_errors_name_the_field_and_what_was_meant(core: Core) -> None:
    assert errors(core.admit("call", [call(model="x", input_token=3)], NOW_US)) == [
        ("model", "no such field; did you mean request_model?"),
        ("input_token", "no such field; did you mean input_tokens?"),
    ]
    assert errors(core.admit("call", [call(received_at=1)], NOW_US)) == [
        ("received_at", "is set by ingest; leave it out")
    ]
    assert errors(core.admit("call", [call(zzz=1)], NOW_US)) == [("zzz", "no such field")]
    assert errors(core.admit("call", [7], NOW_US)) == [("items[0]", "an item is a JSON object")]


def test_what_is_crowded_is_refused_before_it_is_looked_through(core: Core) -> None:
    crowd = {f"k{n}": n for n in range(100_000)}
    admission = core.admit("call", [{**call(), **crowd}, call(attributes=crowd), call(params=crowd)], NOW_US)
    assert [[error.field for error in refusal.errors] for refusal in admission.refusals] == [
        ["k0"],
        ["attributes"],
        ["params"],
    ]
    many = core.admit("call", [call(input_token=1)] * 30, NOW_US)
    told = [refusal.errors[0].message for refusal in many.refusals]
    assert told == ["no such field; did you mean input_tokens?"] * 20 + ["no such field"] * 10


def test_errors_never_hold_the_value(core: Core) -> None:
    secret = "s3cret" * 100
    admission = core.admit(
        "call",
        [
            call(provider=[secret]),
            call(feature=secret),
            call(attributes={"a": {secret: 1}}),
            call(status=secret),
            call(occurred_at=secret),
            call(cost_usd=secret),
            call(user=[secret]),
        ],
        NOW_US,
    )
    assert len(admission.refusals) == 7
    assert "s3cret" not in repr(report(admission))


def test_a_large_item_is_refused_before_kafka_would(codec: Codec, core: Core) -> None:
    small = replace(core, limits=Limits(max_item_bytes=2_000))
    admission = small.admit("call", [call(input_text="x" * 2_000), call()], NOW_US)
    assert len(admission.facts) == 1
    assert errors(admission)[0][0] == "items[0]"
    assert "at most 2000" in errors(admission)[0][1]


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (1_795_234_200, "it looks like seconds"),
        (1_795_234_200_000, "it looks like milliseconds"),
        (1_795_234_200_000_000_000, "it looks like nanoseconds"),
        (NOW_US + 600_000_001, "more than 600 s in the future"),
        ("1999-12-31T23:59:59.999999Z", "is before 2000-01-01"),
        (-1, "is before 2000-01-01"),
        ("2026-11-21T04:10:00", "RFC 3339 with an offset"),
        ("2026-11-21", "RFC 3339 with an offset"),
        ("2026-02-30T00:00:00Z", "no date and time that exists"),
        ("2026-11-21T04:09:60Z", "no date and time that exists"),
        ("0001-01-01T00:00:00+01:00", "is before 2000-01-01"),
        (1.5, "RFC 3339 string or integer microseconds"),
        (True, "RFC 3339 string or integer microseconds"),
        (None, "RFC 3339 string or integer microseconds"),
    ],
)
def test_times_that_are_refused(core: Core, at: object, message: str) -> None:
    ((field, told),) = errors(core.admit("call", [call(occurred_at=at)], NOW_US))
    assert field == "occurred_at"
    assert message in told


@pytest.mark.parametrize(
    ("at", "at_us"),
    [
        (NOW_US + 600_000_000, NOW_US + 600_000_000),
        (946_684_800_000_000, 946_684_800_000_000),
        ("2026-11-21T05:09:59.1234567+01:00", AT_US + 456),
        ("2026-11-21t04:09:59.123z", AT_US),
    ],
)
def test_times_that_are_taken(core: Core, at: object, at_us: int) -> None:
    assert only(core.admit("call", [call(occurred_at=at)], NOW_US)).event["occurred_at"] == at_us


@pytest.mark.parametrize("cost", ["NaN", "1e400", "-1", "", "1_0", "٣", True, [1], "1" * 65, "0x10", -0.1, "1e7"])
def test_money_that_is_refused(core: Core, cost: object) -> None:
    assert errors(core.admit("call", [call(cost_usd=cost)], NOW_US))[0][0] == "cost_usd"


def values_of(name: str, avro: Any) -> st.SearchStrategy[Any]:
    """Values that a field takes, by its Avro type; fields with rules of their own by name."""
    if name in OWN_RULES:
        return OWN_RULES[name]
    match avro:
        case ["null", some]:
            return st.none() | values_of(name, some)
        case {"type": "enum", "symbols": symbols}:
            return st.sampled_from([*symbols, *(symbol.lower() for symbol in symbols)])
        case {"type": "map"}:
            return st.dictionaries(st.text(min_size=1, max_size=128), st.text(max_size=50), max_size=3)
        case {"logicalType": "decimal"}:
            return st.decimals(0, 1_000_000, places=12).map(str) | st.floats(0, 1e6) | st.integers(0, 10**6)
        case "long" | "int":
            return st.integers(1, 10_000)
        case "double":
            return st.floats(0, 1) | st.integers(0, 1)
        case "boolean":
            return st.booleans()
    return st.text(min_size=1, max_size=256)


VISIBLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=128)
OWN_RULES: dict[str, st.SearchStrategy[Any]] = {
    "event_id": st.none() | VISIBLE,
    "user_hash": st.none() | VISIBLE,
    "project": st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20),
    "shares": st.sampled_from([{}, {"a": 1}, {"a": 0.25, "b": "0.750"}]),
    "price_context": st.dictionaries(
        st.sampled_from(["service_tier", "speed"]), st.from_regex("[A-Za-z0-9_-]{1,32}", fullmatch=True)
    ),
    "usage_emitter": st.none(),  # taken only beside a raw usage object
    "trace_id": st.none() | st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    "span_id": st.none() | st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    "parent_span_id": st.none() | st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    "occurred_at": st.integers(946_684_800_000_000, NOW_US)
    | st.datetimes(datetime(2000, 1, 2), datetime(2026, 11, 20)).map(lambda at: at.isoformat() + "+01:00"),
}


@given(st.sampled_from(list(KINDS)), st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_admitted_goes_through_avro_unchanged(
    core: Core, codec: Codec, kind: KindName, data: st.DataObject
) -> None:
    rules, good = (
        core.rules[kind],
        {"call": call(), "feedback": feedback(), "evaluation": evaluation(feature="f")}[kind],
    )
    declared = {field["name"]: field["type"] for field in codec.schema(rules.kind.event)["fields"]}
    names = data.draw(st.lists(st.sampled_from(sorted(rules.fields & set(declared))), unique=True))
    drawn = {name: data.draw(values_of(name, declared[name]), label=name) for name in names}
    item = {**good, **{name: value for name, value in drawn.items() if value is not None or name not in good}}
    event = only(core.admit(kind, [item], NOW_US)).event
    written = codec.decode(codec.encode(rules.kind.event, event)).value
    for name, value in event.items():
        assert written[name] == value, name


def test_a_golden_probe_names_the_feature_whose_evaluator_it_is_for(core: Core) -> None:
    probe = evaluation(golden_score=0.9, feature="support-answers")
    assert only(core.admit("evaluation", [probe], NOW_US)).event["golden_score"] == 0.9
    del probe["feature"]
    assert [field for field, _ in errors(core.admit("evaluation", [probe], NOW_US))] == ["feature"]
    assert [field for field, _ in errors(core.admit("evaluation", [evaluation(golden_score=1.1)], NOW_US))] == [
        "golden_score"
    ]


def batch(core: Core, *items: dict[str, Any]) -> Admission:
    return core.admit("call", items, NOW_US)


def test_the_same_item_twice_is_one_fact(core: Core) -> None:
    recent = RecentIds(10)
    screened = screen(
        batch(core, call(event_id="a"), call(event_id="a"), call(event_id="a", attempt=2)), KINDS["call"], recent
    )
    assert [fact.position for fact in screened.facts] == [0]
    assert [fact.position for fact in screened.duplicates] == [1]
    assert [(r.position, r.errors) for r in screened.refusals] == [
        (2, (FieldError("event_id", "already used with other content"),))
    ]


def test_an_id_is_a_duplicate_only_once_kafka_acknowledged(core: Core) -> None:
    recent, kind = RecentIds(10), KINDS["call"]
    posted = batch(core, call(event_id="a"))
    assert len(screen(posted, kind, recent).facts) == 1
    assert len(screen(posted, kind, recent).facts) == 1  # the first may be lost: sent again
    recent.settle("call", "a", posted.facts[0].digest)
    assert len(screen(posted, kind, recent).duplicates) == 1
    assert len(screen(batch(core, call(event_id="a", attempt=2)), kind, recent).refusals) == 1
    assert len(screen(core.admit("feedback", [feedback(event_id="a")], NOW_US), KINDS["feedback"], recent).facts) == 1


def test_the_window_is_bounded_and_remembers_the_newest() -> None:
    recent = RecentIds(100)
    for number in range(1_000):
        recent.settle("call", str(number), b"d" * 16)
        assert len(recent) <= 200
    assert all(recent.find("call", str(number))[1] for number in range(900, 1_000))
    assert recent.find("call", "0") == (None, False)
    nothing = RecentIds(0)
    nothing.settle("call", "a", b"d" * 16)
    assert nothing.find("call", "a") == (None, False)


def test_the_report_adds_up_and_keeps_the_order(core: Core) -> None:
    admission = screen(
        batch(core, call(event_id="a"), call(zzz=1), call(event_id="a"), call(event_id="b")),
        KINDS["call"],
        RecentIds(9),
    )
    said = report(admission)
    assert (said["accepted"], said["duplicate"], said["rejected"]) == (2, 1, 1)
    assert [item["status"] for item in said["items"]] == ["accepted", "rejected", "duplicate", "accepted"]
    assert [item["index"] for item in said["items"]] == [0, 1, 2, 3]
    assert status_of(admission) == 207
    assert status_of(batch(core, call())) == 200
    assert status_of(batch(core, call(zzz=1))) == 422
    assert status_of(batch(core)) == 200
