"""Usage as reported, split into buckets that do not overlap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.pricing import BUCKETS, Convention, counted, normalise, split_usage


def test_an_inclusive_emitter_has_its_cached_tokens_taken_out_of_the_input() -> None:
    split = split_usage({"input_tokens": 17_903, "cache_read_tokens": 17_817, "output_tokens": 0}, "INCLUSIVE")
    assert split.buckets.uncached_input_tokens == 86
    assert split.buckets.cache_read_tokens == 17_817
    assert split.input_tokens == 17_903
    assert split.flags == ()


def test_an_exclusive_emitter_has_its_cached_tokens_added_to_the_total() -> None:
    reported = {
        "input_tokens": 4,
        "output_tokens": 926,
        "cache_read_tokens": 150_109,
        "cache_write_5m_tokens": 75_729,
    }
    split = split_usage(reported, "EXCLUSIVE")
    assert split.buckets.uncached_input_tokens == 4
    assert split.input_tokens == 4 + 150_109 + 75_729
    assert split.priceable


def test_reasoning_audio_and_images_are_parts_of_their_side_under_every_convention() -> None:
    reported = {
        "input_tokens": 100,
        "audio_input_tokens": 30,
        "image_input_tokens": 20,
        "output_tokens": 22,
        "reasoning_tokens": 21,
        "audio_output_tokens": 1,
    }
    for convention in ("INCLUSIVE", "EXCLUSIVE", "UNKNOWN"):
        split = split_usage(reported, convention)
        assert (split.buckets.uncached_input_tokens, split.buckets.visible_output_tokens) == (50, 0)
        assert (split.input_tokens, split.output_tokens, split.flags) == (100, 22, ())


def test_a_rest_that_was_reported_gives_the_total() -> None:
    split = split_usage({"uncached_input_tokens": 10, "cache_read_tokens": 5, "visible_output_tokens": 3})
    assert (split.input_tokens, split.output_tokens, split.priceable) == (15, 3, True)


def test_a_bucket_nobody_reported_stays_unknown_not_zero() -> None:
    split = split_usage({"input_tokens": 10}, "INCLUSIVE")
    assert split.buckets.uncached_input_tokens == 10
    assert split.buckets.cache_read_tokens is None
    assert split.buckets.visible_output_tokens is None
    assert split.output_tokens is None


@pytest.mark.parametrize(
    ("reported", "convention", "flag"),
    [
        ({}, "INCLUSIVE", "usage_missing"),
        ({"input_tokens": 10, "cache_read_tokens": 4}, "UNKNOWN", "usage_convention_unknown"),
        ({"input_tokens": 10, "cache_read_tokens": 11}, "INCLUSIVE", "cache_exceeds_input"),
        (
            {"input_tokens": 10, "cache_read_tokens": 8, "audio_input_tokens": 8},
            "INCLUSIVE",
            "input_parts_exceed_total",
        ),
        ({"output_tokens": 10, "reasoning_tokens": 11}, "INCLUSIVE", "output_parts_exceed_total"),
        ({"output_tokens": 10, "visible_output_tokens": 3}, "INCLUSIVE", "output_parts_differ_from_total"),
        ({"input_tokens": 10, "uncached_input_tokens": 3}, "INCLUSIVE", "input_parts_differ_from_total"),
        (
            {"input_tokens": 10, "uncached_input_tokens": 3, "cache_read_tokens": 5},
            "EXCLUSIVE",
            "input_parts_differ_from_total",
        ),
        (
            {"input_tokens": 10, "uncached_input_tokens": 3, "cache_read_tokens": 5},
            "UNKNOWN",
            "usage_convention_unknown",
        ),
        ({"input_tokens": -1}, "INCLUSIVE", "negative_input_tokens"),
        ({"output_tokens": 10**12 + 1}, "INCLUSIVE", "implausible_output_tokens"),
        ({"input_tokens": True}, "INCLUSIVE", "not_an_integer_input_tokens"),
        ({"cache_write_1h_tokens": 1.5}, "INCLUSIVE", "not_an_integer_cache_write_1h_tokens"),
    ],
)
def test_a_contradiction_is_flagged_and_not_priced(
    reported: dict[str, object], convention: Convention, flag: str
) -> None:
    split = split_usage(reported, convention)
    assert split.flags == (flag,)
    assert not split.priceable


def test_more_cached_than_input_leaves_only_one_convention() -> None:
    split = split_usage({"input_tokens": 4, "cache_read_tokens": 100, "output_tokens": 1})
    assert split.buckets.uncached_input_tokens == 4
    assert (split.input_tokens, split.flags, split.priceable) == (104, ("usage_convention_deduced",), True)


@pytest.mark.parametrize(("total", "all_input"), [(15, 15), (10, 15)])
def test_a_reported_rest_tells_the_convention(total: int, all_input: int) -> None:
    split = split_usage({"input_tokens": total, "uncached_input_tokens": 10, "cache_read_tokens": 5})
    assert (split.buckets.uncached_input_tokens, split.input_tokens, split.flags) == (10, all_input, ())


COUNTS = st.one_of(st.none(), st.integers(min_value=0, max_value=50))


@given(
    st.fixed_dictionaries({}, optional={name: COUNTS for name in ("input_tokens", "output_tokens", *BUCKETS)}),
    st.sampled_from(["INCLUSIVE", "EXCLUSIVE", "UNKNOWN"]),
)
def test_buckets_are_never_negative_and_add_up_to_the_totals(
    reported: dict[str, int | None], convention: Convention
) -> None:
    split = split_usage(reported, convention)
    b = split.buckets
    assert all(count is None or count >= 0 for count in b)
    if split.input_tokens is not None:
        sides = (
            b.uncached_input_tokens,
            b.cache_read_tokens,
            b.cache_write_5m_tokens,
            b.cache_write_1h_tokens,
            b.audio_input_tokens,
            b.image_input_tokens,
            b.video_input_tokens,
            b.audio_cache_read_tokens,
            b.image_cache_read_tokens,
        )
        assert sum(count or 0 for count in sides) == split.input_tokens
    if split.output_tokens is not None:
        out = (
            b.visible_output_tokens,
            b.reasoning_tokens,
            b.audio_output_tokens,
            b.image_output_tokens,
            b.video_output_tokens,
        )
        assert sum(count or 0 for count in out) == split.output_tokens
    assert split.priceable or split.flags


@given(
    st.lists(st.integers(min_value=0, max_value=10**9), min_size=len(BUCKETS), max_size=len(BUCKETS)),
    st.sampled_from(["INCLUSIVE", "EXCLUSIVE"]),
)
def test_what_an_honest_emitter_counts_comes_back(counts: list[int], convention: Convention) -> None:
    true = dict(zip(BUCKETS, counts, strict=True))
    cached = sum(count for name, count in true.items() if "cache_" in name)
    inside = true["uncached_input_tokens"] + sum(true[f"{kind}_input_tokens"] for kind in ("audio", "image", "video"))
    made = sum(true[f"{kind}_output_tokens"] for kind in ("visible", "audio", "image", "video"))
    reported = {
        **true,
        "input_tokens": inside + (cached if convention == "INCLUSIVE" else 0),
        "output_tokens": made + true["reasoning_tokens"],
    }
    del reported["uncached_input_tokens"], reported["visible_output_tokens"]
    split = split_usage(reported, convention)
    assert split.buckets._asdict() == true
    assert split.input_tokens == inside + cached


@given(
    st.dictionaries(st.sampled_from(["input_tokens", "output_tokens", *BUCKETS]), st.integers(0, 40)),
    st.sampled_from(["UNKNOWN", "INCLUSIVE", "EXCLUSIVE"]),
)
def test_counts_by_our_names_mean_the_same_as_an_object_of_ours(
    reported: dict[str, int], convention: Convention
) -> None:
    fast, slow = counted(reported, convention), normalise(reported, emitter="flywheel", convention=convention)
    assert (fast.priceable, fast.flags) == (slow.priceable, slow.flags)
    if fast.priceable:
        assert fast.buckets == slow.buckets
        assert (fast.input_tokens, fast.output_tokens) == (slow.input_tokens, slow.output_tokens)
    else:
        # What contradicts itself is handed on as it was told.
        assert {name: count for name, count in slow.reported.items() if count is not None} == reported
