"""What requests used: exact sums that do not depend on order, and what a charter's constraints have measured."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.policy import CharterInvalid, parse_charter
from flywheel.policy.bounds import Floor, PricedBound, floors, measures, priced_bounds, uses_of
from flywheel.policy.reward import Composition
from flywheel.policy.uses import UseSummary, newest_uses, weigh_uses

CHARTER = """
feature: f
quality: {q: 1}
constraints: {p95_latency_ms: 3000, usd_per_hour: 40, safety.leak: {max: 0.001}, quality: {min: 0.7, strict: true},
  error_rate: 0.01, p99_ttft_ms: 800}
arms: [{name: a, model: m}, {name: b, model: m}]
policy: {explore_floor: 0.01}
"""


def test_what_a_charter_has_priced_held_and_measured():
    constraints = parse_charter(CHARTER).constraints
    assert priced_bounds(constraints) == (
        PricedBound("p95_latency_ms", "latency_ms>3000", 0.05),
        PricedBound("usd_per_hour", "cost_usd", 40.0, hourly=True),
    )
    assert floors(constraints) == (
        Floor("quality", "quality", 0.7, 1.0, True),
        Floor("safety.leak", "score:safety.leak", 0.0, 0.001, False),
    )
    # What only the detector watches (error_rate, p99_ttft_ms) is not measured here.
    assert measures(constraints) == ("quality", "cost_usd", "latency_ms", "latency_ms>3000", "score:safety.leak")


def test_what_a_request_used_by_hand():
    names = measures(parse_charter(CHARTER).constraints)
    composed = Composition(True, 0, 0.5, Decimal("0.0123456785"), 3000.5, {}, ())
    assert uses_of(names, composed, {"safety.leak": 1.0}) == [
        500_000_000, 12_345_678, 3_000_500_000_000, 1_000_000_000, 1_000_000_000,
    ]  # fmt: skip
    unknown = Composition(False, None, None, None, None, {}, ())
    assert uses_of(names, unknown, {}) == [None] * 5


@pytest.mark.parametrize(
    ("written", "instead", "said"),
    [
        ("explore_floor: 0.01", "kind: thompson", "constraints.quality.strict: needs policy.explore_floor"),
        ("error_rate: 0.01", "error_rate: {max: 0.01, strict: true}", "constraints.error_rate.strict: only a floor"),
        ("safety.leak: {max: 0.001}", "safety.leak: {max: 2, strict: true}", "constraints.safety.leak.strict: only"),
        (
            "arms: [",
            "arms: [" + "".join(f"{{name: x{n}, model: m}}, " for n in range(62)),
            "constraints: 64 arms with 6 measures keep sums of 384, at most 256",
        ),
    ],
)
def test_what_cannot_be_held_is_named(written, instead, said):
    text = CHARTER.replace(written, instead).replace("p99_ttft_ms: 800", "judge: {min: 0.1}")
    with pytest.raises(CharterInvalid, match=said):
        parse_charter(text)


value = st.none() | st.integers(0, 10**18)
request = st.tuples(st.integers(0, 1 << 40), st.sampled_from("ab"), st.tuples(value, value))


@given(st.lists(request, max_size=30), st.lists(request, max_size=10), st.randoms())
@settings(max_examples=80, deadline=None)
def test_order_shards_and_what_was_taken_back_leave_no_trace(requests, corrected, random):
    newest = max((unit for unit, _, _ in (*requests, *corrected)), default=-1)
    plain = UseSummary()
    plain.advance(newest)
    for each in requests:
        plain.add(*each)
    shards, mixed = [UseSummary(), UseSummary()], [*requests, *corrected]
    random.shuffle(mixed)
    for number, each in enumerate(mixed):
        shards[number % 2].add(*each)
    merged = UseSummary()
    for shard in shards:
        merged.merge(UseSummary.from_rows(shard.newest, list(shard.rows())))
    for each in corrected:
        merged.subtract(*each)
    assert list(merged.rows()) == list(plain.rows())


def test_an_arm_seldom_chosen_is_not_forgotten_because_others_are():
    found = UseSummary()
    found.add(1 << 20, "seldom", [10**9])
    for minute in range(5000):
        found.add((1 << 20) + 1024 * minute, "often", [2 * 10**9])
    assert newest_uses(found, 1, half_life=100.0)["seldom"][0].weight == pytest.approx(1.0, abs=0.01)
    assert weigh_uses(found, 1, half_life_outcomes=100.0)["seldom"][0].weight < 1e-9
    often = newest_uses(found, 1, half_life=100.0)["often"][0]
    assert 100 < often.weight < 200 and often.total / often.weight == pytest.approx(2.0)
