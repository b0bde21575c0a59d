"""Redaction before Kafka: what is looked at, what the policy does with it, and that what fails is dropped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from ingest_parts import JSON, NOW_US, Broker, client, ingest

from flywheel.events import Codec
from flywheel.redaction import Redactor, parse_policies
from flywheel_ingest.core import Core, Fact
from flywheel_ingest.items import KindName
from flywheel_ingest.redacting import FLAG, Outcome, Redaction, declared

KEY = b"sixteen bytes and more"
MAIL, CARD = "bob@example.com", "4111 1111 1111 1111"
CALL = {"request_id": "r", "occurred_at": NOW_US, "provider": "openai", "request_model": "gpt-4o"}
FEEDBACK = {"request_id": "r", "occurred_at": NOW_US, "kind": "user.thumb", "value": 1.0}
EVALUATION = {"request_id": "r", "occurred_at": NOW_US, "evaluator": "judge", "score": 0.5}


@pytest.fixture
def broker() -> Broker:
    return Broker()


def redacted(
    core: Core, codec: Codec, name: KindName, item: dict[str, Any], policies: str = "", **settings: Any
) -> tuple[Fact, Outcome]:
    (fact,) = core.admit(name, [item], NOW_US).facts
    redaction = Redaction(policies, settings.pop("key", KEY), codec.schema, **{"most_bytes": 448 << 10, **settings})
    outcome = redaction.redact(name, [fact])
    return outcome.facts[0], outcome


def test_every_declared_field_is_redacted_and_nothing_else_changes(core: Core, codec: Codec) -> None:
    said = f"I am {MAIL}"
    call, outcome = redacted(
        core, codec, "call", {**CALL, "input_text": said, "output_text": CARD, "attributes": {MAIL: said, "plan": "b"}}
    )
    assert call.content is not None
    assert (call.content["input_text"], call.content["output_text"]) == ("I am [EMAIL_ADDRESS]", "[CREDIT_CARD]")
    assert call.content["redaction"] == "masked"
    assert call.event["attributes"] == {"[EMAIL_ADDRESS]": "I am [EMAIL_ADDRESS]", "plan": "b"}
    assert outcome.found == {"email_address": 3, "credit_card": 1}
    assert "flags" not in call.event or FLAG not in call.event["flags"]
    feedback, _ = redacted(
        core, codec, "feedback", {**FEEDBACK, "comment": said, "attributes": {"phone": "5551234567"}}
    )
    assert feedback.event["comment"] == "I am [EMAIL_ADDRESS]"
    assert feedback.event["attributes"] == {"phone": "[PHONE_NUMBER]"}
    evaluation, _ = redacted(core, codec, "evaluation", {**EVALUATION, "explanation": said, "label": "good"})
    assert (evaluation.event["explanation"], evaluation.event["label"]) == ("I am [EMAIL_ADDRESS]", "good")


def test_what_the_schemas_declare_is_what_is_looked_at(codec: Codec) -> None:
    assert declared(codec.schema("llm_call")) == ((), ("attributes",))
    assert declared(codec.schema("feedback")) == (("comment",), ("attributes",))
    assert declared(codec.schema("evaluation")) == (("explanation",), ())
    assert declared(codec.schema("call_content")) == (("input_text", "output_text"), ())
    with pytest.raises(ValueError, match=r"Other\.numbers"):
        declared({"name": "Other", "fields": [{"name": "numbers", "type": "double", "pii": "redact"}]})


def test_the_policy_is_the_projects(core: Core, codec: Codec) -> None:
    policies = """
        [projects.shop.kinds]
        email_address = "hash"
        [projects.bare]
        default = "keep"
        [projects.bare.kinds]
        url = "keep"
        [projects.mute]
        default = "drop"
    """
    said = {**CALL, "input_text": f"to {MAIL}"}
    texts = {}
    for project in ("default", "shop", "bare", "mute"):
        fact, _ = redacted(core, codec, "call", {**said, "project": project}, policies)
        assert fact.content is not None
        texts[project] = fact.content["input_text"], fact.content["redaction"]
    hashed = Redactor(parse_policies(policies).of("shop"), key=KEY, project="shop").text(f"to {MAIL}")
    assert texts == {
        "default": ("to [EMAIL_ADDRESS]", "masked"),
        "shop": (hashed.text, "masked"),
        "bare": (f"to {MAIL}", "none"),
        "mute": ("to ", "masked"),
    }


@pytest.mark.parametrize(
    ("policies", "key", "closed"),
    [
        ("default = 'maybe'", KEY, None),
        ("default = 'hash'", None, None),
        ("default = 'hash'", b"short", None),
        ("", KEY, "the policy file cannot be read"),
    ],
)
def test_what_cannot_be_redacted_is_dropped_and_the_call_goes_on(
    core: Core, codec: Codec, policies: str, key: bytes | None, closed: str | None
) -> None:
    said = {**CALL, "input_text": "hello", "attributes": {"plan": "b"}}
    call, outcome = redacted(core, codec, "call", said, policies, key=key, closed=closed)
    assert call.content is None
    assert call.event["attributes"] == {}
    assert call.event["flags"][-1] == FLAG
    assert outcome.dropped == {"policy": 2}
    codec.encode("llm_call", call.event)
    feedback, outcome = redacted(
        core, codec, "feedback", {**FEEDBACK, "comment": "hi"}, policies, key=key, closed=closed
    )
    assert feedback.event["comment"] == "[DROPPED]"
    assert outcome.dropped == {"policy": 1}
    made = Redaction(policies, key, codec.schema, most_bytes=1 << 20, closed=closed)
    assert made.warning is not None


def test_a_fault_in_a_finder_costs_the_text(core: Core, codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise RuntimeError(MAIL)

    monkeypatch.setattr("flywheel.redaction.redactor.candidates", broken)
    fact, outcome = redacted(core, codec, "call", {**CALL, "input_text": "a", "output_text": "b"})
    assert fact.content is None
    assert (fact.event["flags"][-1], outcome.dropped) == (FLAG, {"failed": 2})


def test_what_outgrows_kafka_is_dropped(core: Core, codec: Codec) -> None:
    text = "a@b.co " * 1_000
    fact, outcome = redacted(core, codec, "call", {**CALL, "input_text": text, "output_text": ""}, most_bytes=8_000)
    assert len(text) < 8_000
    assert fact.content is not None
    assert (fact.content["input_text"], fact.content["output_text"]) == (None, "")
    assert (fact.event["flags"][-1], outcome.dropped) == (FLAG, {"too_long": 1})


@pytest.mark.parametrize(
    "text",
    [
        '[{"role": "user", "content": "bob\\u0040example.com"}]',
        '{"a": "bob\\u0040example.com", "a": "1"}',
        ' {"bob@example.com": {"x": ["bob\\u0040example.com"]}}',
        '{"a": "bob\\u0040example.com", "broken',
    ],
)
def test_json_in_a_text_hides_nothing(core: Core, codec: Codec, text: str) -> None:
    fact, _ = redacted(core, codec, "call", {**CALL, "input_text": text, "attributes": {"said": text}})
    assert fact.content is not None
    for written in (fact.content["input_text"], fact.event["attributes"]["said"]):
        assert MAIL not in written
        if text.count('"a"') < 2 and not text.endswith("broken"):
            assert "EMAIL_ADDRESS" in written
            orjson.loads(written)


def test_json_without_finds_stays_as_it_was_written(core: Core, codec: Codec) -> None:
    text = '{"b":  1.50, "a": [true]}'
    fact, _ = redacted(core, codec, "call", {**CALL, "input_text": text})
    assert fact.content is not None
    assert fact.content["input_text"] == text


def test_the_facts_given_are_not_changed(core: Core, codec: Codec) -> None:
    (fact,) = core.admit("feedback", [{**FEEDBACK, "comment": MAIL}], NOW_US).facts
    Redaction("", None, codec.schema, most_bytes=1 << 20).redact("feedback", [fact])
    assert fact.event["comment"] == MAIL


def test_what_is_clean_in_one_project_is_looked_at_in_another(core: Core, codec: Codec) -> None:
    redaction = Redaction('[projects.open]\ndefault = "keep"\n', None, codec.schema, most_bytes=1 << 20)
    said = {**CALL, "attributes": {"plan": "pro", "mail": MAIL}}
    kept = []
    for project in ("open", "open", "default", "default", "open"):
        facts = core.admit(
            "call", [{**said, "project": project}, {**CALL, "attributes": {"plan": "pro"}}], NOW_US
        ).facts
        (first, second) = redaction.redact("call", facts).facts
        kept.append(first.event["attributes"]["mail"] == MAIL)
        assert second.event["attributes"] == {"plan": "pro"}
    assert kept == [True, True, False, False, True]


def test_an_id_cannot_be_tried_out(core: Core, codec: Codec) -> None:
    """What is redacted cannot be found again by hashing guesses until one gives the id on the topic."""
    item = {**FEEDBACK, "comment": "my ssn is 856-45-6789"}
    ids = {
        replace(core, digest_key=key).admit("feedback", [item], NOW_US).facts[0].event_id for key in (b"", b"a", b"b")
    }
    assert len(ids) == 3


async def test_over_http_the_metrics_say_what_was_taken_out(broker: Broker, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[projects.shop]\ndefault = "hash"\n')
    service = await ingest(broker, tmp_path, redaction_policy_file=policy)
    items = [{**CALL, "input_text": MAIL}, {**CALL, "project": "shop", "input_text": "hello"}]
    async with client(service) as http:
        answer = await http.post("/v1/calls", content=orjson.dumps(items), headers=JSON)
    assert answer.json()["accepted"] == 2
    assert [each["input_text"] for each in broker.values("llm-content")] == ["[EMAIL_ADDRESS]"]
    assert [FLAG in each["flags"] for each in broker.values()] == [False, True]
    assert service.metrics.value("ingest_redactions_total", kind="email_address") == 1
    assert service.metrics.value("ingest_content_dropped_total", reason="policy") == 1


async def test_a_missing_policy_file_drops_texts_and_keeps_calls(broker: Broker, tmp_path: Path) -> None:
    service = await ingest(broker, tmp_path, redaction_policy_file=tmp_path / "none.toml")
    async with client(service) as http:
        await http.post("/v1/calls", content=orjson.dumps([{**CALL, "input_text": MAIL}]), headers=JSON)
    assert (len(broker.values()), broker.values("llm-content")) == (1, [])


async def test_long_texts_are_redacted_aside(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long text is not done before another request was answered; on the event loop, that could never come."""
    service = await ingest(broker, tmp_path)
    answered, really = threading.Event(), Redaction.redact

    def held(self: Redaction, name: KindName, facts: Sequence[Fact]) -> Outcome:
        if facts[0].event["request_id"] == "long":
            assert answered.wait(20)
        return really(self, name, facts)

    monkeypatch.setattr(Redaction, "redact", held)
    async with client(service) as http:
        long = {**CALL, "request_id": "long", "input_text": f"{MAIL} and so on. " * 1_000}
        slow = asyncio.create_task(http.post("/v1/calls", content=orjson.dumps([long]), headers=JSON))
        assert (await http.post("/v1/calls", content=orjson.dumps([CALL]), headers=JSON)).status_code == 200
        answered.set()
        assert (await slow).json()["accepted"] == 1
    assert [MAIL in each["input_text"] for each in broker.values("llm-content")] == [False]
