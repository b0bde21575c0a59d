"""Summaries: exact whatever the order, bounded whatever the time, and forgotten by age."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.policy import Summary, nano, weigh
from flywheel.policy.summary import KEPT, NANO, UNIT_SHIFT, span_bounds, span_of

UNITS = st.integers(0, 1 << 30)
OUTCOMES = st.lists(st.tuples(UNITS, st.sampled_from("abc"), st.integers(-(10**12), 10**12)), max_size=40)


def built(outcomes):
    summary = Summary()
    for outcome in outcomes:
        summary.add(*outcome)
    return summary


@given(OUTCOMES, st.randoms(use_true_random=False))
def test_the_order_of_outcomes_leaves_no_trace(outcomes, random):
    shuffled = list(outcomes)
    random.shuffle(shuffled)
    assert list(built(outcomes).rows()) == list(built(shuffled).rows())


@given(OUTCOMES, st.integers(0, 40), st.integers(0, 40))
def test_merging_shards_is_the_same_as_one_shard(outcomes, first, second):
    low, high = sorted((first, second))
    merged = built(outcomes[low:high])
    merged.merge(built(outcomes[:low]))
    merged.merge(built(outcomes[high:]))
    assert list(merged.rows()) == list(built(outcomes).rows())


@given(OUTCOMES, st.tuples(UNITS, st.sampled_from("abc"), st.integers(-(10**12), 10**12)))
def test_taking_back_leaves_what_was_there(outcomes, extra):
    summary = built(outcomes)
    summary.add(*extra)
    newest = summary.newest
    summary.subtract(*extra)
    clean = built(outcomes)
    clean.advance(newest)
    assert list(summary.rows()) == list(clean.rows())


@given(OUTCOMES, st.lists(UNITS, max_size=5))
def test_compacting_in_between_changes_nothing(outcomes, times):
    summary = Summary()
    for index, outcome in enumerate(outcomes):
        summary.add(*outcome)
        if index < len(times):
            summary.advance(times[index])
    plain = built(outcomes)
    plain.advance(summary.newest)
    assert list(summary.rows()) == list(plain.rows())


@given(OUTCOMES)
def test_rows_hold_everything(outcomes):
    summary = built(outcomes)
    assert list(Summary.from_rows(summary.newest, summary.rows()).rows()) == list(summary.rows())
    assert summary.outcomes == len(outcomes)


@given(UNITS, UNITS, UNITS)
def test_spans_hold_their_unit_nest_and_only_grow(unit, first, second):
    first, second = max(unit, min(first, second)), max(unit, first, second)
    early, late = span_bounds(span_of(unit, first)), span_bounds(span_of(unit, second))
    assert early[0] <= unit < early[1]
    assert late[0] <= early[0] and early[1] <= late[1]
    assert early[1] - early[0] <= max(1, (first - unit) / (KEPT / 2))


@pytest.mark.slow
def test_months_of_traffic_need_few_spans():
    summary = Summary()
    day = (86_400 * 1_000_000) >> UNIT_SHIFT
    units = range(0, 180 * day, day // 200)
    for unit in units:
        summary.add(unit, "a", 1)
    assert len(summary.spans) < 30 * KEPT
    assert summary.outcomes == len(units)


def test_rewards_are_whole_nano_units():
    assert nano(0.1) == 100_000_000 and nano(-0.25) == -250_000_000


def test_without_a_half_life_nothing_is_forgotten():
    evidence = weigh(built([(1, "a", NANO), (5_000_000, "a", NANO // 2), (7, "b", 0)]))
    assert (evidence["a"].weight, evidence["a"].total, evidence["a"].squares) == (2.0, 1.5, 1.25)
    assert evidence["b"].weight == 1.0


def test_an_outcome_weighs_half_after_a_half_life_of_newer_outcomes():
    newer = [(1000 + number, "b", 0) for number in range(100)]
    evidence = weigh(built([(0, "a", NANO), *newer]), half_life_outcomes=100)
    assert evidence["a"].weight == pytest.approx(0.5)
    # The geometric sum of what is newer.
    assert evidence["b"].weight == pytest.approx((1 - 0.5) / (1 - 2 ** (-1 / 100)))


def test_an_outcome_weighs_half_after_a_half_life_of_time():
    hour = 3_600_000_000 >> UNIT_SHIFT
    evidence = weigh(built([(0, "a", NANO), (hour, "b", NANO)]), half_life_s=3600)
    assert evidence["a"].weight == pytest.approx(0.5, rel=0.15), "to the width of a span"
    assert evidence["b"].weight == pytest.approx(1.0)


def test_wide_spans_forget_nearly_as_single_outcomes_do():
    units = range(0, 200_000, 50)
    evidence = weigh(built([(u, "a" if u < 100_000 else "b", NANO) for u in units]), half_life_outcomes=1000)
    rate = 2 ** (-1 / 1000)
    ages = {"a": range(2000, 4000), "b": range(2000)}
    for arm, truth in ((arm, sum(rate**age for age in ages[arm])) for arm in "ab"):
        assert evidence[arm].weight == pytest.approx(truth, rel=0.12)
