"""Arms under pressure: dear ones go where money buys little, and the price decides how dear."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flywheel.policy import OPTIMISM, Priced, Summary, build_policy, compile_policy, nano, parse_charter, worth_it

STRONG = Priced(1, 0.80, 0.010, 0.0)
CHEAP = Priced(2, 0.70, 0.001, 0.0)
WORSE = Priced(4, 0.65, 0.005, 0.0)


def at(price: float, *arms: Priced) -> int:
    """What is left at a price of money."""
    return worth_it([arm._replace(price=price) for arm in arms])


def test_an_arm_stays_as_long_as_its_extra_reward_pays_for_its_extra_cost() -> None:
    worth = (STRONG.reward - CHEAP.reward) / (STRONG.cost_usd - CHEAP.cost_usd)  # 11.1 reward a dollar
    assert at(worth * 0.99, STRONG, CHEAP) == 3
    assert at(worth * 1.01, STRONG, CHEAP) == 2


def test_features_where_money_buys_little_go_down_first() -> None:
    little = [Priced(1, 0.71, 0.010, 5.0), Priced(2, 0.70, 0.001, 5.0)]
    much = [Priced(1, 0.90, 0.010, 5.0), Priced(2, 0.30, 0.001, 5.0)]
    assert (worth_it(little), worth_it(much)) == (2, 3)


def test_an_arm_that_is_dearer_and_worse_goes_at_once_and_one_without_a_price_on_it_stays() -> None:
    assert at(1e-9, STRONG, CHEAP, WORSE) == 3
    assert worth_it([STRONG, CHEAP._replace(price=1e9), WORSE._replace(reward=0.7)]) == 7


def kept(optimism: float, *, tries: int) -> int:
    """What stays of a cheap arm (bit 1) that earned .4 in 200 calls, and a dearer one (bit 2) that was right in a
    quarter of its own."""
    charter = parse_charter(
        "feature: f\nquality: {q: 1}\nreward: {min: 0, max: 1}\narms: [{name: cheap, model: m}, {name: dear, model: n}]"
    )
    summary = Summary()
    for unit in range(200):
        summary.add(unit, "cheap", nano(float(unit % 5 < 2)))
    for unit in range(tries):
        summary.add(unit, "dear", nano(float(unit % 4 == 0)))
    event = build_policy(
        charter, charter_revision=1, charter_digest="d", policy_version=1, occurred_at_us=0, summaries=[summary]
    )
    rewards = compile_policy(event).expected_rewards((), 0b11, optimism=optimism)
    return worth_it([Priced(1, rewards[0], 0.001, 10.0), Priced(2, rewards[1], 0.005, 10.0)])


def test_an_arm_that_was_unlucky_in_its_first_calls_is_tried_on_and_one_known_to_be_worse_is_not() -> None:
    assert kept(OPTIMISM, tries=4) == 3
    assert kept(0.0, tries=4) == 1, "by what it brought it would be dropped for good"
    assert kept(OPTIMISM, tries=400) == 1


def test_nothing_is_left_of_nothing() -> None:
    assert worth_it([]) == 0


arms = st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1)), min_size=1, max_size=6).map(
    lambda pairs: [Priced(1 << place, mean, cost, 0.0) for place, (mean, cost) in enumerate(pairs)]
)


@given(arms, st.floats(0, 1e3), st.floats(0, 1e3))
def test_a_higher_price_never_brings_an_arm_back_and_one_is_always_left(
    given_arms: list[Priced], one: float, two: float
) -> None:
    low, high = sorted((one, two))
    left_low, left_high = at(low, *given_arms), at(high, *given_arms)
    assert left_high
    assert left_high & ~left_low == 0


@given(arms, st.floats(0.001, 1e3), st.sampled_from([0.5, 2.0, 8.0]))
def test_costs_matter_only_up_to_a_common_factor(given_arms: list[Priced], price: float, factor: float) -> None:
    scaled = [arm._replace(cost_usd=arm.cost_usd * factor) for arm in given_arms]
    assert at(price, *given_arms) == at(price / factor, *scaled)
