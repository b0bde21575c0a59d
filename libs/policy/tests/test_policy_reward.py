"""The composite reward: worked examples of every rule."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.policy import Attempt, RewardRule, compose, parse_charter

BASE = """
feature: f
quality: {a: 0.75, b: 0.25}
weights: {cost: 0.5, latency: 0.1}
reference: {cost_usd: 0.02, latency_ms: 2000}
arms: [{name: x, model: m}]
"""


def rule(extra: str = "") -> RewardRule:
    return RewardRule.of(parse_charter(BASE + extra))


def ok(cost: str | None = "0.01", latency: float | None = 1000.0) -> Attempt:
    return Attempt("OK", None if cost is None else Decimal(cost), latency)


def test_quality_less_cost_less_latency():
    found = compose(rule(), {"a": 1.0, "b": 0.0}, [ok()], closed=False)
    assert found.ready and found.reward == pytest.approx(0.75 - 0.25 - 0.05)
    assert found.parts == pytest.approx({"a": 1.0, "b": 0.0, "quality": 0.75, "cost": -0.25, "latency": -0.05})


def test_money_is_added_exactly_before_it_is_divided():
    found = compose(rule(), {"a": 1.0, "b": 1.0}, [ok("0.000000000001")] * 3, closed=False)
    assert found.cost_usd == Decimal("0.000000000003")


@pytest.mark.parametrize(
    ("extra", "quality", "attempts", "closed", "ready", "reward"),
    [
        ("", {"a": 1.0}, [ok()], False, False, None),
        ("", {"a": 1.0}, [ok()], True, True, None),
        ("missing: {quality: renormalise}", {"a": 1.0}, [ok()], False, False, None),
        ("missing: {quality: renormalise}", {"a": 1.0}, [ok()], True, True, 0.7),
        ("missing: {quality: renormalise}", {}, [ok()], True, True, None),
        ("missing: {wait: false}", {"b": 1.0}, [ok()], False, True, 0.7),
        ("missing: {wait: false}", {}, [ok()], False, True, None),
        ("", {"a": 1.0, "b": 1.0}, [ok(cost=None)], False, True, None),
        ("missing: {cost: omit}", {"a": 1.0, "b": 1.0}, [ok(cost=None)], False, True, 0.95),
        ("", {"a": 1.0, "b": 1.0}, [ok(latency=None)], False, True, None),
        ("missing: {latency: omit}", {"a": 1.0, "b": 1.0}, [ok(latency=None)], False, True, 0.75),
        ("", {"a": 1.0, "b": 1.0}, [], False, False, None),
        ("", {"a": 1.0, "b": 1.0}, [], True, True, None),
        ("", {}, [Attempt("ERROR", None, 200.0)], False, True, -0.01),
        ("", {}, [Attempt("TIMEOUT", None, 200.0)], False, True, None),
        ("", {}, [Attempt("TIMEOUT", Decimal("0.01"), 200.0)], False, True, -0.26),
        ("missing: {failed: unrewarded}", {}, [Attempt("ERROR", None, 200.0)], False, False, None),
        ("", {}, [Attempt("ERROR", None, 200.0), ok()], False, True, None),
        ("reward: {min: -0.1, max: 0.5}", {"a": 1.0, "b": 1.0}, [ok("0", 0.0)], False, True, 0.5),
        ("reward: {min: -0.1, max: 0.5}", {"a": 0.0, "b": 0.0}, [ok("9", 0.0)], False, True, -0.1),
    ],
)  # fmt: skip
def test_what_is_missing_means_what_is_declared(extra, quality, attempts, closed, ready, reward):  # noqa: PLR0917
    found = compose(rule(extra), quality, attempts, closed=closed)
    assert found.ready is ready
    assert found.reward == (None if reward is None else pytest.approx(reward))


def test_without_declared_quality_the_price_alone_counts():
    priced = RewardRule.of(parse_charter("feature: f\nweights: {cost: 1}\narms: [{name: x, model: m}]"))
    assert compose(priced, {}, [ok("0.005")], closed=False).reward == pytest.approx(-0.5)


@given(
    st.dictionaries(st.sampled_from(["a", "b"]), st.floats(0, 1)),
    st.lists(st.builds(Attempt, st.sampled_from(["OK", "ERROR", "TIMEOUT"]), st.none() | st.decimals(0, 100, places=6),
                       st.none() | st.floats(0, 1e6)), max_size=4),
    st.booleans(),
)  # fmt: skip
def test_a_reward_is_in_range_or_absent_and_never_told_before_it_is_ready(quality, attempts, closed):
    found = compose(rule(), quality, attempts, closed=closed)
    if found.reward is not None:
        assert found.ready and -0.6 - 1e-9 <= found.reward <= 1.0 and math.isfinite(found.reward)
    if closed:
        assert found.ready
