"""The codec: what goes on the wire, what comes back, and what a bad value or bad bytes give."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from fastavro import schemaless_reader
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.events import Codec, EventInvalid, LocalRegistry, Undecodable, UnknownSchema, event_id
from flywheel.events.codec import FRAME_BYTES
from flywheel.events.examples import examples
from flywheel.events.models import MODELS

codec = Codec(LocalRegistry.load())
FEEDBACK = {
    "event_id": "f1",
    "project": "acme",
    "request_id": "r1",
    "occurred_at": 1_795_219_200_000_000,
    "kind": "user.thumb",
}
EVENTS = sorted(MODELS)


def test_a_value_is_framed_with_its_schema_id() -> None:
    framed = codec.encode("feedback", FEEDBACK)
    assert framed[0] == 0
    assert int.from_bytes(framed[1:FRAME_BYTES], "big") == codec.schema_id("feedback")


def test_defaults_are_filled_in_and_unknown_stays_null() -> None:
    value = codec.decode(codec.encode("feedback", FEEDBACK)).value
    assert value["value"] is None
    assert value["attributes"] == {}
    assert value["source"] == "UNKNOWN"


def test_time_is_integer_microseconds_here_and_a_timestamp_to_everybody_else() -> None:
    from io import BytesIO

    framed = codec.encode("feedback", FEEDBACK)
    foreign: Any = schemaless_reader(BytesIO(framed[FRAME_BYTES:]), codec.schema("feedback"), None)
    assert codec.decode(framed).value["occurred_at"] == FEEDBACK["occurred_at"]
    assert foreign["occurred_at"].isoformat() == "2026-11-21T00:00:00+00:00"


@pytest.mark.parametrize("event", EVENTS)
def test_every_example_survives_the_wire_and_fits_its_model(event: str) -> None:
    found = examples(event)
    assert found, f"schemas/examples/{event} has no example"
    for name, example in found.items():
        once = codec.decode(codec.encode(event, example))
        again = codec.decode(codec.encode(once.event, once.value))
        assert (once.event, once.value) == (event, again.value), name
        assert {k: once.value[k] for k in example if k != "arms"} == {k: v for k, v in example.items() if k != "arms"}
        model = MODELS[event].model_validate(_tuples(once.value))
        assert model.model_dump(mode="python")["event_id"] == example["event_id"]


def _tuples(value: Any) -> Any:
    """Models are frozen through and through, so they hold tuples where the codec gives lists."""
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    return {k: _tuples(v) for k, v in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": None}, "kind"),
        ({"occurred_at": "yesterday"}, "occurred_at"),
        ({"occurred_at": 2**63}, "occurred_at"),
        ({"valeu": 0.5}, "valeu"),
        ({"value": "0.5"}, "value"),
        ({"source": 3}, "source"),
        ({"attributes": {"a": 1}}, "attributes"),
        ({"request_id": b"r1"}, "request_id"),
    ],
)
def test_a_value_that_does_not_fit_names_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(EventInvalid) as caught:
        codec.encode("feedback", FEEDBACK | change)
    assert caught.value.field == field


def test_a_missing_field_is_named() -> None:
    with pytest.raises(EventInvalid, match=r"feedback\.kind: required"):
        codec.encode("feedback", {k: v for k, v in FEEDBACK.items() if k != "kind"})


@pytest.mark.parametrize("cost", ["0.0000000000001", "1E+20", "NaN", "Infinity"])
def test_money_that_would_be_rounded_or_overflow_is_refused(cost: str) -> None:
    with pytest.raises(EventInvalid) as caught:
        codec.encode("llm_call", examples("llm_call")["minimal"] | {"cost_usd": Decimal(cost)})
    assert caught.value.field == "cost_usd"


@pytest.mark.parametrize("data", [b"", b"{}", b"\x01\x00\x00\x00\x01abc", b"\x00\x00\x00"])
def test_bytes_without_a_frame_are_undecodable(data: bytes) -> None:
    with pytest.raises(Undecodable, match="framing"):
        codec.decode(data)


def test_an_unknown_schema_id_is_waited_for_not_refused() -> None:
    with pytest.raises(UnknownSchema) as caught:
        codec.decode(b"\x00\x00\x00\x77\x77rest")
    assert caught.value.schema_id == 0x7777


def test_bytes_left_over_are_not_ignored() -> None:
    with pytest.raises(Undecodable, match="1 bytes left over"):
        codec.decode(codec.encode("feedback", FEEDBACK) + b"x")


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200), event=st.sampled_from(EVENTS))
def test_hostile_bytes_give_a_verdict_and_nothing_else(data: bytes, event: str) -> None:
    framed = b"\x00" + codec.schema_id(event).to_bytes(4, "big") + data
    try:
        decoded = codec.decode(framed)
    except Undecodable as error:
        assert error.schema_id == codec.schema_id(event)
    else:
        assert decoded.event == event


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(min_value=FRAME_BYTES, max_value=10_000), name=st.sampled_from(sorted(examples("llm_call"))))
def test_a_truncated_event_is_never_half_read(cut: int, name: str) -> None:
    framed = codec.encode("llm_call", examples("llm_call")[name])
    if cut < len(framed):
        with pytest.raises(Undecodable):
            codec.decode(framed[:cut])


@given(st.lists(st.text(), max_size=5), st.lists(st.text(), max_size=5))
def test_ids_are_equal_exactly_when_their_parts_are(a: list[str], b: list[str]) -> None:
    encodable = [[p for p in parts if p.isprintable()] for parts in (a, b)]
    assert (event_id(*encodable[0]) == event_id(*encodable[1])) == (encodable[0] == encodable[1])
