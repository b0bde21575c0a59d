"""A body that no parser takes as a whole, taken apart."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel_ingest.batch import BodyInvalid, BodyUnreadable, TooManyItems, parse
from flywheel_ingest.core import Unreadable
from flywheel_ingest.salvage import MAX_TOKENS, salvage

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=15,
)


@given(st.lists(JSON_VALUES, max_size=5), st.booleans(), st.booleans())
def test_what_is_valid_comes_out_as_a_parser_gives_it(items: list[object], wrapped: bool, indented: bool) -> None:
    body = orjson.dumps({"items": items} if wrapped else items, option=orjson.OPT_INDENT_2 if indented else 0)
    assert salvage(body, max_items=5) == parse(body, max_items=5) == items


@given(st.lists(JSON_VALUES, max_size=4), st.sampled_from([b"NaN", b'{"a":-Infinity}', b'"\xff"', b"[1,,2]", b"{1:2}"]))
def test_a_bad_item_stands_alone(items: list[object], bad: bytes) -> None:
    good = orjson.dumps(items)[1:-1]
    found = salvage(b"[" + good + (b"," if items else b"") + bad + b"," + (good or b"0") + b"]", max_items=20)
    assert found[: len(items)] == items
    assert isinstance(found[len(items)], Unreadable)
    assert found[len(items) + 1 :] == (items or [0])


def fields(item: bytes) -> list[str]:
    (found,) = salvage(b"[" + item + b"]", max_items=1)
    assert isinstance(found, Unreadable)
    return [error.field for error in found.errors]


@pytest.mark.parametrize(
    ("item", "named"),
    [
        (b'{"a":1,"b":NaN,"c":"\xff","d":2}', ["b", "c"]),
        (b'{"a":1,,"b":2}', [""]),
        (b'{"a" 1}', [""]),
        (b'{"a":}', ["a"]),
        (b"{a:1}", [""]),
        (b'{"\xff":1}', ["\ufffd"]),
        (b'{"a":{"b":NaN}}', ["a"]),
        (b'{"a":"x,y]}","b":nope}', ["b"]),
        (b'{"a":"\\"",  "b" : \t tru }', ["b"]),
        (b"tru", [""]),
        (b"{}x", [""]),
    ],
)
def test_the_fields_that_cannot_be_read_are_named(item: bytes, named: list[str]) -> None:
    assert fields(item) == named


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (b'{"items":[NaN],"more":1}', "more", "no such field"),
        (b'{"other":[NaN]}', "other", "no such field"),
        (b'{"items":NaN}', "items", "is an array"),
        (b"[NaN", "body", "1 brackets are not closed"),
        (b"[NaN}", "body", "closes nothing"),
        (b"[NaN]]", "body", "more text at byte 5"),
        (b'["a]', "body", "does not end"),
        (b"NaN", "body", "is not valid JSON"),
        (b'"\xff"', "body", "is not valid JSON"),
        (b"[NaN] x", "body", "is not valid JSON"),
        (b"[" + b"[]," * MAX_TOKENS + b"NaN]", "body", "post smaller batches"),
    ],
)
def test_a_body_without_a_shape_is_refused_as_a_whole(body: bytes, field: str, message: str) -> None:
    with pytest.raises(BodyInvalid, match=message) as refused:
        salvage(body, max_items=10)
    assert refused.value.field == field


def test_too_many_items_are_not_looked_at() -> None:
    with pytest.raises(TooManyItems, match="has 3 items, at most 2"):
        salvage(b"[NaN,1,2]", max_items=2)


def test_a_large_body_of_small_values_is_not_parsed_as_a_whole() -> None:
    with pytest.raises(BodyUnreadable):
        parse(b"[" + b"[]," * 400_000 + b"[]]", max_items=10)
    prose = orjson.dumps([{"input_text": "a, " * 400_000}])
    with pytest.raises(BodyUnreadable):
        parse(prose, max_items=10)
    assert salvage(prose, max_items=10) == orjson.loads(prose)


def test_an_item_of_many_bad_fields_names_the_first_ten() -> None:
    assert fields(b"{" + b",".join(b'"f%d":NaN' % n for n in range(99)) + b"}") == [f"f{n}" for n in range(10)]
