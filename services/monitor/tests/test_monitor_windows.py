"""Windows: what is counted, that they merge, and that what is read again counts once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel_monitor.core.fold import Place, fold
from flywheel_monitor.core.looking import sli_page, window_of
from flywheel_monitor.core.readings import FUTURE_US, Reading, Refused, call_reading, decision_reading
from flywheel_monitor.core.series import OTHER, Roster, Series
from flywheel_monitor.core.spans import DAY_US, GRAINS, HOUR_US, MINUTE_US, grain_for
from flywheel_monitor.core.windows import GAMMA, LEAST, MOST, Window, bin_of, merged, quantile

from .conftest import NOW_US, DictTables, make_call, make_decision

NAMES = st.sampled_from(["calls", "failed", "cost_pico"])
BINS = st.dictionaries(st.integers(LEAST, MOST), st.integers(1, 10**9), max_size=4)
WINDOWS = st.builds(
    Window,
    st.dictionaries(NAMES, st.integers(1, 10**15)),
    BINS,
    BINS,
    st.dictionaries(st.sampled_from(["latency_ms<10", "cost_usd<1"]), st.tuples(st.just(3), st.integers(3, 9))),
)


def read(value: dict[str, Any], thresholds: Any = None) -> Reading:
    found = call_reading(value, NOW_US, thresholds or {})
    assert isinstance(found, Reading)
    return found


@given(WINDOWS, WINDOWS, WINDOWS)
def test_windows_merge_in_any_order_and_grouping(a, b, c):
    assert merged([merged([a, b]), c]) == merged([a, merged([b, c])]) == merged([c, b, a])
    assert merged([a, Window()]) == a


@given(WINDOWS)
def test_a_window_is_what_its_record_says(window):
    assert Window.of(window.record()) == window


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=60), st.floats(0, 1))
def test_a_quantile_is_within_five_percent_of_the_value_at_its_rank(values, share):
    bins: dict[int, int] = {}
    for value in values:
        bins[bin_of(value)] = bins.get(bin_of(value), 0) + 1
    true = sorted(values)[int(share * (len(values) - 1))]
    assert quantile(bins, share) == pytest.approx(true, rel=(GAMMA - 1) / (GAMMA + 1) + 1e-9)


def test_what_no_value_can_be_stays_within_the_bins():
    assert (bin_of(0.0), bin_of(1e-300), bin_of(1e300)) == (LEAST, LEAST, MOST)
    assert quantile({}, 0.5) is None
    assert quantile({LEAST: 3}, 0.99) == 0.0


def test_a_good_call_counts_its_latency_tokens_and_money():
    reading = read(make_call(ttft_ms=50.0), {"latency_ms<250": ("latency_ms", 250.0), "ttft_ms<50": ("ttft_ms", 50.0)})
    assert reading.adds.counts == {
        "calls": 1, "input_tokens": 100, "output_tokens": 20, "priced": 1, "cost_pico": 2_000_000_000,
    }  # fmt: skip
    assert reading.adds.latency == {bin_of(200.0): 1}
    assert reading.adds.within == {"latency_ms<250": (1, 1), "ttft_ms<50": (0, 1)}
    assert (reading.project, reading.feature, reading.arm, reading.odd) == ("acme", "answers", "a", ())


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        ("ERROR", {"failed": 1}),
        ("TIMEOUT", {"failed": 1, "timeouts": 1}),
        ("FILTERED", {"refused": 1}),
        ("CANCELLED", {"cancelled": 1}),
        ("UNKNOWN", {"unknown": 1}),
        ("of a later version", {"unknown": 1}),
    ],
)
def test_how_a_call_ended_is_counted(status, counts):
    reading = read(make_call(status=status, cost_usd=None, input_tokens=None, output_tokens=None))
    assert reading.adds.counts == {"calls": 1} | counts
    assert bool(reading.adds.latency) == (status == "FILTERED")  # how long a failure took is no answer's latency


def test_a_shadow_call_is_nobodys_experience():
    assert read(make_call(shadow=True, status="ERROR")).adds == Window({"shadow": 1})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latency_ms", -1.0), ("latency_ms", float("nan")), ("ttft_ms", float("inf")), ("input_tokens", -5),
        ("output_tokens", 10**12), ("cost_usd", Decimal("-1")), ("cost_usd", Decimal("NaN")),
    ],
)  # fmt: skip
def test_a_value_that_makes_no_sense_is_named_and_left_out(field, value):
    thresholds = {f"{name}<1": (name, 1.0) for name in ("latency_ms", "ttft_ms", "cost_usd")}
    reading = read(make_call(**{"latency_ms": None, "ttft_ms": None, "cost_usd": None} | {field: value}), thresholds)
    assert reading.odd == (field,)
    assert reading.adds.counts["calls"] == 1
    assert not {*reading.adds.within, *reading.adds.latency, *reading.adds.ttft}


@pytest.mark.parametrize(
    ("otherwise", "refused"),
    [
        ({"occurred_at": NOW_US + FUTURE_US + 1}, Refused("in_the_future", "occurred_at")),
        ({"occurred_at": -1}, Refused("out_of_range", "occurred_at")),
        ({"feature": "f" * 257}, Refused("out_of_range", "feature")),
        ({"project": "p" * 257}, Refused("out_of_range", "project")),
    ],
)
def test_an_event_out_of_all_bounds_is_refused_by_field(otherwise, refused):
    assert call_reading(make_call(**otherwise), NOW_US, {}) == refused
    assert decision_reading(make_decision(**otherwise), NOW_US) == refused


def test_decisions_count_what_bore_on_them():
    plain = decision_reading(make_decision(), NOW_US)
    bent = decision_reading(make_decision(fallback=True, downgraded_from="b", control="c1"), NOW_US)
    assert isinstance(plain, Reading) and isinstance(bent, Reading)
    assert plain.adds == Window({"decisions": 1})
    assert bent.adds == Window({"decisions": 1, "fallbacks": 1, "downgraded": 1, "controlled": 1})


FACTS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3 * DAY_US), st.sampled_from("abc"), st.sampled_from(["OK", "ERROR"])),
    max_size=30,
)


def placed(facts: list[Any]) -> list[tuple[Place, Reading]]:
    offsets = [0, 0, 0, 0]
    found = []
    for partition, ago_us, arm, status in facts:
        place = Place("llm-calls", partition, offsets[partition])
        offsets[partition] += 1
        found.append((place, read(make_call(occurred_at=NOW_US - ago_us, variant=arm, status=status))))
    return found


@given(facts=FACTS, cut=st.integers(0, 30), back=st.integers(0, 30))
def test_any_cut_into_batches_and_any_reading_again_gives_the_same_windows(facts, cut, back):
    readings = placed(facts)
    once, again = DictTables(), DictTables()
    fold(readings, Roster(), once, NOW_US)
    roster = Roster()
    fold(readings[:cut], roster, again, NOW_US)
    fold(readings[max(0, cut - back) :], roster, again, NOW_US)  # a crash: some are read again
    assert once.windows == again.windows


def test_late_events_count_where_their_time_is_still_kept():
    tables, series = DictTables(), Series("acme", "answers")
    ages = {"now": 0, "two hours": 2 * HOUR_US, "two days": 2 * DAY_US, "two months": 60 * DAY_US, "old": 94 * DAY_US}
    readings = [
        (Place("llm-calls", 0, n), read(make_call(occurred_at=NOW_US - age_us)))
        for n, age_us in enumerate(ages.values())
    ]
    folded = fold(readings, Roster(), tables, NOW_US)
    assert (folded.counted, folded.late) == (4, 1)
    lengths = {"1h": HOUR_US, "6h": 6 * HOUR_US, "3d": 3 * DAY_US, "92d": 92 * DAY_US}
    seen = {name: window_of(tables, range(4), series, us, NOW_US).count("calls") for name, us in lengths.items()}
    assert seen == {"1h": 1, "6h": 2, "3d": 3, "92d": 4}


def test_a_window_ends_now_and_holds_whole_buckets():
    minutes = GRAINS[0]
    at_us = NOW_US + 30_000_000
    assert list(minutes.starts(5 * MINUTE_US, at_us)) == [NOW_US - n * MINUTE_US for n in (4, 3, 2, 1, 0)]
    assert [grain_for(us).name for us in (MINUTE_US, HOUR_US, 6 * HOUR_US, 3 * DAY_US, 92 * DAY_US)] == [
        "minutes", "minutes", "fives", "hours", "days",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no window is as long"):
        grain_for(100 * DAY_US)


def test_sweeping_forgets_each_grain_in_its_time():
    tables = DictTables()
    fold([(Place("llm-calls", 0, 0), read(make_call()))], Roster(), tables, NOW_US)
    names = []
    for later_us in (0, 2 * HOUR_US, 7 * HOUR_US, 4 * DAY_US, 94 * DAY_US):
        tables.sweep(NOW_US + later_us)
        names.append({slot.grain.name for slot in tables.windows})
    assert names == [
        {"minutes", "fives", "hours", "days"},
        {"fives", "hours", "days"},
        {"hours", "days"},
        {"days"},
        set(),
    ]


def test_a_flood_of_names_is_counted_as_other_and_costs_nobody_a_place():
    roster = Roster(most=10, most_of_project=6)
    roster.declare([("acme", "declared")])
    for n in range(50):
        roster.places("flood", f"f{n}", "arm")
    assert roster.places("flood", "f99", "x") == (Series("flood", OTHER),)
    assert roster.places("acme", "answers", "a") == (Series("acme", "answers"), Series("acme", "answers", "a"))
    for n in range(50):
        roster.places(f"p{n}", "f", "")
    assert roster.places("newcomer", "f", "a") == (Series(OTHER, OTHER),)
    assert roster.places("acme", "declared", "") == (Series("acme", "declared"),)
    assert len(roster) <= 10 + 1 + len({s.project for s in roster.known if s.feature == OTHER})


def test_places_are_free_again_when_their_windows_are_gone():
    roster = Roster(most=1)
    assert roster.places("acme", "a", "") == (Series("acme", "a"),)
    assert roster.places("acme", "b", "") == (Series("acme", OTHER),)
    roster.keep([])
    assert roster.places("acme", "b", "") == (Series("acme", "b"),)


def test_the_page_of_a_window_has_rates_only_where_something_happened():
    tables = DictTables()
    statuses = ["OK"] * 6 + ["ERROR", "TIMEOUT", "CANCELLED", "UNKNOWN"]
    readings = [(Place("llm-calls", n % 4, n), read(make_call(status=status))) for n, status in enumerate(statuses)]
    fold(readings, Roster(), tables, NOW_US)
    series = Series("acme", "answers", "a")
    page = sli_page(series, window_of(tables, range(4), series, 5 * MINUTE_US, NOW_US), 5 * MINUTE_US, NOW_US)
    assert (page["error_rate"], page["fallback_rate"], page["window"]) == (0.25, None, "5m")
    assert page["cost_usd"] == pytest.approx(0.02)
    assert page["latency_ms"]["p95"] == pytest.approx(200, rel=0.05)
    assert page["latency_ms"]["of"] == 6
    assert page["ttft_ms"] == {"p50": None, "p95": None, "p99": None, "of": 0}
