"""Bad input over HTTP: each malformed item gets a verdict that names its field, its neighbours go through, and the
counts reconcile with what reached the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.events import Codec, LocalRegistry
from flywheel.observe import Health, Metrics
from flywheel.pricing import bundled_prices
from flywheel_ingest.core import Core, Fact
from flywheel_ingest.http import Ingest
from flywheel_ingest.items import KINDS, ItemRules, Kind, KindName
from flywheel_ingest.settings import IngestSettings
from flywheel_ingest.window import RecentIds

NOW_US = 1_795_234_200_000_000
DAY_US = 86_400_000_000

GOOD: dict[KindName, dict[str, Any]] = {
    "call": {"request_id": "r", "occurred_at": NOW_US, "provider": "openai", "request_model": "gpt-4o"},
    "feedback": {"request_id": "r", "occurred_at": NOW_US, "kind": "user.thumb", "value": 1.0},
    "evaluation": {"request_id": "r", "occurred_at": NOW_US, "evaluator": "judge", "score": 0.5},
}


class EncodedFacts:
    """A log that holds what would be on Kafka, decoded again from its bytes."""

    def __init__(self) -> None:
        self.codec = Codec(LocalRegistry.load())
        self.values: list[dict[str, Any]] = []

    async def write(self, kind: Kind, facts: Sequence[Fact], traceparent: str | None) -> None:
        self.values += [self.codec.decode(self.codec.encode(kind.event, fact.event)).value for fact in facts]


@pytest.fixture(scope="module")
def facts() -> EncodedFacts:
    return EncodedFacts()


@pytest.fixture(scope="module")
def service(facts: EncodedFacts, tmp_path_factory: pytest.TempPathFactory) -> Ingest:
    made = IngestSettings(state_dir=tmp_path_factory.mktemp("state"))
    rules = {name: ItemRules(kind, facts.codec.schema(kind.event)) for name, kind in KINDS.items()}
    core = Core(rules, made.limits(), bundled_prices(), lambda project, user: "h" * 32)
    return Ingest(core, facts, RecentIds(made.recent_ids), made, Metrics(), Health(), lambda: NOW_US)


@pytest.fixture
def fresh(service: Ingest, facts: EncodedFacts) -> Ingest:
    """The service as after a restart: no recent ids, no counts, nothing in the log."""
    facts.values.clear()
    return replace(service, recent=RecentIds(1_000), metrics=Metrics())


def with_(of: KindName = "call", /, **fields: Any) -> tuple[KindName, bytes]:
    """A good item of a kind, with these fields instead."""
    return of, orjson.dumps({**GOOD[of], **fields})


def without(kind: KindName, field: str) -> tuple[KindName, bytes]:
    return kind, orjson.dumps({name: value for name, value in GOOD[kind].items() if name != field})


def raw(field: str, value: bytes) -> tuple[KindName, bytes]:
    """A good call with a field whose JSON is given byte by byte."""
    return "call", orjson.dumps(GOOD["call"])[:-1] + b',"' + field.encode() + b'":' + value + b"}"


DEEP = b'{"a":' * 5_000 + b"1" + b"}" * 5_000
NESTED: Any = "x"
for _ in range(200):
    NESTED = [NESTED]

ROWS: dict[str, tuple[tuple[KindName, bytes], str]] = {
    # missing
    "no request id": (without("call", "request_id"), "request_id"),
    "no time": (without("call", "occurred_at"), "occurred_at"),
    "no provider": (without("call", "provider"), "provider"),
    "no model": (without("call", "request_model"), "request_model"),
    "feedback without a kind": (without("feedback", "kind"), "kind"),
    "feedback that says nothing": (without("feedback", "value"), "value"),
    "evaluation without an evaluator": (without("evaluation", "evaluator"), "evaluator"),
    "evaluation that says nothing": (without("evaluation", "score"), "score"),
    "null where required": (with_(request_id=None), "request_id"),
    # wrong types
    "item is a number": (("call", b"7"), "items[1]"),
    "item is null": (("call", b"null"), "items[1]"),
    "item is a list": (("call", b"[1]"), "items[1]"),
    "item is a string": (("call", b'"x"'), "items[1]"),
    "request id is a number": (with_(request_id=7), "request_id"),
    "request id is a list": (with_(request_id=["r"]), "request_id"),
    "model is an object": (with_(request_model={"name": "gpt"}), "request_model"),
    "tokens are a string": (with_(input_tokens="12"), "input_tokens"),
    "tokens are a fraction": (with_(output_tokens=1.5), "output_tokens"),
    "tokens are a boolean": (with_(input_tokens=True), "input_tokens"),
    "latency is a string": (with_(latency_ms="fast"), "latency_ms"),
    "latency is a boolean": (with_(latency_ms=True), "latency_ms"),
    "shadow is a string": (with_(shadow="yes"), "shadow"),
    "streaming is a number": (with_(streaming=1), "streaming"),
    "attributes are a list": (with_(attributes=["a"]), "attributes"),
    "attribute is a number": (with_(attributes={"plan": 7}), "attributes.plan"),
    "attribute is null": (with_(attributes={"plan": None}), "attributes.plan"),
    "params are text": (with_(params="{}"), "params"),
    "feedback value is a string": (with_("feedback", value="1"), "value"),
    "passed is a number": (with_("evaluation", passed=1), "passed"),
    # unknown enum, unknown field
    "unknown status": (with_(status="FINE"), "status"),
    "unknown operation": (with_(operation="think"), "operation"),
    "mixed case enum": (with_(status="Ok"), "status"),
    "enum is a number": (with_(status=1), "status"),
    "unknown convention": (with_(usage_convention="MIXED"), "usage_convention"),
    "unknown cost source": (with_(cost_source="GUESS"), "cost_source"),
    "unknown feedback source": (with_("feedback", source="BOT"), "source"),
    "unknown evaluator kind": (with_("evaluation", kind="ORACLE"), "kind"),
    "unknown field": (with_(promt_name="x"), "promt_name"),
    "field of another kind": (with_(score=0.5), "score"),
    "field set by ingest": (with_(received_at=NOW_US), "received_at"),
    "flags set by ingest": (with_(flags=["x"]), "flags"),
    "empty field name": (raw("", b"1"), "items[1]"),
    # out of range
    "negative input tokens": (with_(input_tokens=-1), "input_tokens"),
    "negative cache tokens": (with_(cache_read_tokens=-5), "cache_read_tokens"),
    "negative reasoning tokens": (with_(reasoning_tokens=-1), "reasoning_tokens"),
    "absurd tokens": (with_(output_tokens=10**15), "output_tokens"),
    "tokens above 64 bits": (raw("input_tokens", b"99999999999999999999999"), "input_tokens"),
    "negative latency": (with_(latency_ms=-0.1), "latency_ms"),
    "absurd latency": (with_(latency_ms=1e300), "latency_ms"),
    "propensity above 1": (with_(propensity=1.01), "propensity"),
    "negative propensity": (with_(propensity=-0.01), "propensity"),
    "top_p above 1": (with_(top_p=2), "top_p"),
    "negative temperature": (with_(temperature=-1), "temperature"),
    "attempt 0": (with_(attempt=0), "attempt"),
    "attempt above an int": (with_(attempt=2**40), "attempt"),
    "negative policy version": (with_(policy_version=-1), "policy_version"),
    "score above 1": (with_("evaluation", score=1.1), "score"),
    "feedback value below 0": (with_("feedback", value=-1), "value"),
    "sampling probability above 1": (with_("evaluation", sample_prob=1.5), "sample_prob"),
    # NaN, Infinity and other JSON that is none
    "NaN": (raw("temperature", b"NaN"), "temperature"),
    "Infinity": (raw("latency_ms", b"Infinity"), "latency_ms"),
    "minus Infinity": (raw("propensity", b"-Infinity"), "propensity"),
    "infinite by exponent": (raw("latency_ms", b"1e999"), "latency_ms"),
    "leading zero": (raw("input_tokens", b"007"), "input_tokens"),
    "hexadecimal": (raw("input_tokens", b"0x10"), "input_tokens"),
    "single quotes": (raw("feature", b"'f'"), "feature"),
    "bare word": (raw("shadow", b"True"), "shadow"),
    "nothing after the colon": (raw("feature", b""), "feature"),
    "control character in a string": (raw("feature", b'"a\x01b"'), "feature"),
    "bad escape": (raw("feature", b'"\\x"'), "feature"),
    # bad text
    "bad UTF-8": (raw("feature", b'"\xff\xfe"'), "feature"),
    "UTF-8 cut short": (raw("app", b'"\xe2\x82"'), "app"),
    "overlong UTF-8": (raw("team", b'"\xc0\xaf"'), "team"),
    "half a surrogate pair": (raw("team", b'"\\ud800"'), "team"),
    "bad UTF-8 in an attribute": (raw("attributes", b'{"a":"\xff"}'), "attributes"),
    # huge
    "long request id": (with_(request_id="r" * 257), "request_id"),
    "huge request id": (with_(request_id="r" * 700_000), "request_id"),
    "long event id": (with_(event_id="e" * 129), "event_id"),
    "long model": (with_(request_model="m" * 10_000), "request_model"),
    "huge text": (with_(input_text="x" * 800_000), "items[1]"),
    "long comment": (with_("feedback", comment="c" * 5_000), "comment"),
    "too many attributes": (with_(attributes={str(n): "" for n in range(65)}), "attributes"),
    "long attribute": (with_(attributes={"a": "x" * 5_000}), "attributes.a"),
    "long attribute name": (with_(attributes={"k" * 129: "x"}), "attributes." + "k" * 128 + "…"),
    "empty attribute name": (with_(attributes={"": "x"}), "attributes."),
    # deep
    "deeply nested attribute": (with_(attributes={"a": NESTED}), "attributes.a"),
    "nested text": (with_(feature=NESTED), "feature"),
    "deeper than a parser goes": (raw("attributes", DEEP), "attributes"),
    "deeper than a parser goes, unknown": (raw("x", DEEP), "x"),
    # identifiers
    "empty request id": (with_(request_id=""), "request_id"),
    "empty event id": (with_(event_id=""), "event_id"),
    "blank in an event id": (with_(event_id="a b"), "event_id"),
    "line break in an event id": (with_(event_id="a\n"), "event_id"),
    "slash in a project": (with_(project="a/b"), "project"),
    "NUL in a project": (with_(project="a\x00"), "project"),
    "trace id too short": (with_(trace_id="abc"), "trace_id"),
    "span id not hexadecimal": (with_(span_id="g" * 16), "span_id"),
    "user and its hash": (with_(user="ann", user_hash="h"), "user"),
    "user is a number": (with_(user=7), "user"),
    # time
    "a time in 1999": (with_(occurred_at="1999-12-31T23:59:59Z"), "occurred_at"),
    "a time in the year 1": (with_(occurred_at="0001-01-01T00:00:00Z"), "occurred_at"),
    "a negative time": (with_(occurred_at=-1), "occurred_at"),
    "tomorrow": (with_(occurred_at=NOW_US + DAY_US), "occurred_at"),
    "the year 9999": (with_(occurred_at="9999-12-31T23:59:59Z"), "occurred_at"),
    "seconds": (with_(occurred_at=NOW_US // 10**6), "occurred_at"),
    "milliseconds": (with_(occurred_at=NOW_US // 1000), "occurred_at"),
    "a time above 64 bits": (raw("occurred_at", b"99999999999999999999999"), "occurred_at"),
    "a time without an offset": (with_(occurred_at="2026-11-21T04:10:00"), "occurred_at"),
    "a day": (with_(occurred_at="2026-11-21"), "occurred_at"),
    "a day that does not exist": (with_(occurred_at="2026-02-30T00:00:00Z"), "occurred_at"),
    "words for a time": (with_(occurred_at="yesterday"), "occurred_at"),
    # money
    "negative cost": (with_(cost_usd=-0.01), "cost_usd"),
    "cost NaN as text": (with_(cost_usd="NaN"), "cost_usd"),
    "cost in words": (with_(cost_usd="free"), "cost_usd"),
    "cost with a sign of currency": (with_(cost_usd="$1"), "cost_usd"),
    "cost above a million": (with_(cost_usd="1000001"), "cost_usd"),
    "cost with an exponent that explodes": (with_(cost_usd="1e9999"), "cost_usd"),
    "cost is a list": (with_(cost_usd=[1]), "cost_usd"),
    "judge cost is negative": (with_("evaluation", judge_cost_usd="-1"), "judge_cost_usd"),
    # an id used with other content
    "id of a neighbour with other content": (with_(event_id="before", attempt=2), "event_id"),
    "feedback id of a neighbour": (with_("feedback", event_id="before", value=0.0), "event_id"),
}


async def post(service: Ingest, kind: KindName, body: bytes) -> tuple[int, dict[str, Any]]:
    transport = httpx.ASGITransport(service.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://ingest") as http:
        answer = await http.post(KINDS[kind].path, content=body, headers={"content-type": "application/json"})
    return answer.status_code, answer.json()


@pytest.mark.parametrize(("row", "field"), ROWS.values(), ids=ROWS.keys())
async def test_a_bad_item_is_named_and_its_neighbours_go_through(
    facts: EncodedFacts, fresh: Ingest, row: tuple[KindName, bytes], field: str
) -> None:
    kind, bad = row
    before, after = (orjson.dumps({**GOOD[kind], "event_id": name}) for name in ("before", "after"))
    status, said = await post(fresh, kind, b"[" + before + b"," + bad + b"," + after + b"]")
    assert status == 207
    assert [item["status"] for item in said["items"]] == ["accepted", "rejected", "accepted"]
    assert (said["accepted"], said["duplicate"], said["rejected"]) == (2, 0, 1)
    assert [value["event_id"] for value in facts.values] == ["before", "after"]
    told = said["items"][1]["errors"]
    assert told[0]["field"] == field
    assert all(error["message"] for error in told)
    assert len(orjson.dumps(told)) < 4_000  # a verdict does not echo what was posted


def test_the_table_is_as_long_as_promised() -> None:
    assert len(ROWS) >= 60


async def test_all_of_it_in_one_batch_reconciles(facts: EncodedFacts, fresh: Ingest) -> None:
    rows = [(bad, field) for (kind, bad), field in ROWS.values() if kind == "call"]
    items: list[bytes] = []
    for number, (bad, _) in enumerate(rows):
        items += [orjson.dumps({**GOOD["call"], "event_id": "before" if number == 0 else f"good-{number}"}), bad]
    status, said = await post(fresh, "call", b'{"items":[' + b",".join(items) + b"]}")
    assert status == 207
    assert (said["accepted"], said["rejected"], said["duplicate"]) == (len(rows), len(rows), 0)
    assert len(facts.values) == len(rows)
    for at, (_, field) in enumerate(rows):
        assert said["items"][2 * at]["status"] == "accepted"
        expected = f"items[{2 * at + 1}]" if field == "items[1]" else field
        assert said["items"][2 * at + 1]["errors"][0]["field"] == expected
    count = fresh.metrics.value
    assert count("ingest_items_total", kind="call", verdict="accepted") == len(rows)
    assert count("ingest_items_total", kind="call", verdict="rejected") == len(rows)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    [
        "request_id",
        "occurred_at",
        "provider",
        "request_model",
        "input_tokens",
        "attributes",
        "cost_usd",
        "status",
        "user",
        "propensity",
        "event_id",
        "project",
        "shadow",
        "attempt",
        "params",
        "input_text",
        "usage_convention",
    ]
)


@given(st.sampled_from(list(GOOD)), JSON_VALUES | st.dictionaries(FIELDS, JSON_VALUES, max_size=8))
@settings(max_examples=300, deadline=None)
async def test_any_json_gets_a_verdict_and_costs_no_neighbour(service: Ingest, kind: KindName, posted: Any) -> None:
    service = replace(service, recent=RecentIds(10))  # each example starts afresh
    before, after = ({**GOOD[kind], "event_id": name} for name in ("-before-", "-after-"))
    status, said = await post(service, kind, orjson.dumps([before, posted, after]))
    assert status in (200, 207)
    assert [said["items"][at]["status"] for at in (0, 2)] == ["accepted", "accepted"]
    assert said["accepted"] + said["duplicate"] + said["rejected"] == 3
    if said["items"][1]["status"] == "rejected":
        assert all(error["message"] for error in said["items"][1]["errors"])


@given(st.sampled_from(list(GOOD)), JSON_VALUES)
@settings(max_examples=100, deadline=None)
async def test_any_json_as_a_body_is_answered(service: Ingest, kind: KindName, posted: Any) -> None:
    status, said = await post(service, kind, orjson.dumps(posted))
    if status == 400:
        assert said["error"]["field"]
    else:
        assert status in (200, 207, 422)
        assert said["accepted"] + said["duplicate"] + said["rejected"] == len(said["items"])


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
async def test_any_bytes_as_a_body_are_answered(service: Ingest, posted: bytes) -> None:
    status, _ = await post(service, "call", posted)
    assert status in (200, 207, 400, 422)


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
async def test_any_bytes_inside_a_string_cost_no_neighbour(service: Ingest, posted: bytes) -> None:
    service = replace(service, recent=RecentIds(10))
    inside = posted.replace(b"\\", b"").replace(b'"', b"")
    good = [orjson.dumps({**GOOD["call"], "event_id": name}) for name in ("-before-", "-after-")]
    _, bad = raw("feature", b'"' + inside + b'"')
    status, said = await post(service, "call", b"[" + good[0] + b"," + bad + b"," + good[1] + b"]")
    assert status in (200, 207)
    assert [said["items"][at]["status"] for at in (0, 2)] == ["accepted", "accepted"]
