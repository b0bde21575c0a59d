"""Encoding a request's context: by hand, hostile, and the same every time."""

from __future__ import annotations

import math
import re
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.policy.features import (
    CLIP,
    ONE,
    CategoryFeature,
    ComplexityFeature,
    Encoder,
    NumberFeature,
    TextFeature,
)

EVERYTHING = Encoder(
    [
        NumberFeature("n_chars", 10, 1000, log=True),
        NumberFeature("age", 0, 100),
        CategoryFeature("plan", ("free", "pro")),
        TextFeature("prompt", 8),
        ComplexityFeature("prompt", length="n_chars"),
    ]
)


def at(encoder, context):
    return dict(zip(encoder.slots, [whole / ONE for whole in encoder.encode(context)], strict=True))


def test_every_kind_by_hand():
    found = at(EVERYTHING, {"n_chars": 100, "age": 25, "plan": "pro", "prompt": "Is 7 prime?"})
    assert found["1"] == 1.0 and found["n_chars"] == 0.5 and found["age"] == 0.25
    assert (found["n_chars missing"], found["plan=free"], found["plan=pro"], found["plan other"]) == (0, 0, 1, 0)
    # crc32 of is, 7 and prime modulo 8; the sign is the highest bit.
    assert sum(abs(found[f"prompt#{bucket}"]) for bucket in range(8)) in (
        pytest.approx(3 / math.sqrt(3), abs=2e-3),
        pytest.approx(1 / math.sqrt(3), abs=2e-3),
    )
    assert found["prompt length"] == pytest.approx(math.log1p(100) / 10, abs=1e-3)
    assert found["prompt digits"] == pytest.approx(10 / 11, abs=1e-3) and found["prompt questions"] == 1.0


def test_missing_unknown_and_of_the_wrong_type():
    nothing = at(EVERYTHING, {})
    assert nothing["n_chars missing"] == nothing["age missing"] == nothing["plan other"] == 1.0
    assert at(EVERYTHING, {"age": "old", "plan": 7, "n_chars": True, "prompt": 3.0}) == nothing
    assert at(EVERYTHING, {"plan": "gold"})["plan other"] == 1.0
    huge = at(EVERYTHING, {"age": 10**400, "n_chars": -math.inf})
    assert huge["age"] == CLIP / ONE and huge["n_chars"] == 0.0
    assert at(EVERYTHING, {"age": math.nan}) == nothing
    flag = Encoder([CategoryFeature("beta", ("true", "false"))])
    assert at(flag, {"beta": True})["beta=true"] == 1.0


def test_words_are_hashed_alike_in_any_case_and_the_tail_is_not_seen():
    text = Encoder([TextFeature("q", 16)])
    assert text.encode({"q": "Hello, WORLD"}) == text.encode({"q": "hello world"})
    assert text.encode({"q": "a" * 256 + " more"}) == text.encode({"q": "a" * 256})
    assert text.encode({"q": "hello"}) != text.encode({"q": "world"})


value = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=300))


def as_defined(text, buckets):
    """Return the slots of a text's words and of its complexity, straight from the definition."""
    words = re.findall(r"\w+", text.lower())
    slots = [0.0] * buckets
    for word in words:
        hashed = crc32(word.encode())
        slots[hashed % buckets] += (1 if hashed >> 31 else -1) / math.sqrt(len(words))
    words = re.findall(r"\w+", text)
    slots.append(math.log1p(len(text)) / 10)
    slots.append(sum(map(len, words)) / (10 * max(1, len(words))))
    slots += [10 * len(re.findall(marks, text)) / max(1, len(text)) for marks in (r"\d", r"[{}()\[\];=<>_/\\|`]")]
    slots += [text.count("?"), math.log1p(text.count("\n"))]
    return [ONE, *np.rint(np.clip(np.array(slots) * ONE, -CLIP, CLIP)).astype(int).tolist()]


@given(
    st.one_of(
        st.text(max_size=256),
        st.text(st.characters(max_codepoint=127), max_size=256),
        st.text("aB 7_?\n(=é٣İ²\x1c\x85", max_size=256),
        st.lists(st.sampled_from(["a", "b", "the", "x1"]), max_size=100).map(lambda words: " ".join(words)[:256]),
    )
)
@settings(max_examples=150, deadline=None)
def test_the_fast_ways_through_a_text_give_what_is_defined(text):
    # The digest of the declarations promises the same vectors from every release.
    encoder = Encoder([TextFeature("q", 7), ComplexityFeature("q")])
    assert list(encoder.encode({"q": text})) == as_defined(text, 7)


@given(st.dictionaries(st.sampled_from(["n_chars", "age", "plan", "prompt", "other"]), value))
@settings(max_examples=150, deadline=None)
def test_whatever_the_context_the_vector_is_whole_and_within_the_clip(context):
    encoded = EVERYTHING.encode(context)
    assert all(type(slot) is int for slot in encoded)
    assert encoded[0] == ONE and len(encoded) == len(EVERYTHING.slots)
    assert max(map(abs, encoded)) <= CLIP
    assert encoded == EVERYTHING.encode(dict(context))


@pytest.mark.parametrize(
    ("features", "named"),
    [
        ([NumberFeature("n", 1, 1)], "n:"),
        ([NumberFeature("n", 0, 1, log=True)], "n:"),
        ([NumberFeature("n", -1e308, 1e308)], "n: low and high must be finite"),
        ([NumberFeature("n", 0, math.inf)], "n: low and high must be finite"),
        ([CategoryFeature("c", ())], "c:"),
        ([CategoryFeature("c", ("x", "x"))], "c:"),
        ([TextFeature("t", 0)], "t:"),
        ([TextFeature("t", 200), TextFeature("u", 200)], "slots"),
        ([NumberFeature("n", 0, 1), CategoryFeature("n", ("x",))], "n: declared twice"),
    ],
)
def test_a_declaration_without_sense_is_named(features, named):
    with pytest.raises(ValueError, match=named):
        Encoder(features)
