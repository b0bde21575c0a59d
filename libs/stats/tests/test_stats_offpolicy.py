"""Off-policy evaluation: laws, the gate, and coverage by simulation (the full table: `run.py offpolicy`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flywheel.stats import Log, Weighed, better, evaluate
from flywheel.stats.estimators import estimate
from flywheel.stats.gate import diagnose, refusals
from flywheel.stats.intervals import mean_interval
from flywheel.stats.reward_model import predict
from flywheel.stats.sequences import bet, bet_gain, log_wealth, lower_bound, value_bettors
from flywheel.testkit.logged_worlds import WORLDS, Drawn, World, draw

Array = NDArray[np.float64]
SEED = 20_261_121
NAMED = {world.name: world for world in WORLDS}


def seen(world: World, drawn: Drawn, run: int) -> Weighed:
    group, arm = drawn.group[run], drawn.arm[run]
    features = np.eye(len(world.mean))[group][:, 1:] if world.told else np.zeros((len(arm), 0))
    propensity = drawn.logging[run, np.arange(len(arm)), arm]
    return Weighed(Log(drawn.reward[run], arm, propensity, drawn.logging[run], features), world.target[group])


def one_log(name: str = "skewed", rows: int = 2000) -> Weighed:
    world = replace(NAMED[name], rows=rows)
    return seen(world, draw(world, 1, np.random.default_rng(SEED)), 0)


@pytest.mark.parametrize("name", ["skewed", "learning"])
def test_intervals_and_sequences_cover_as_often_as_they_say(name: str) -> None:
    world, runs = replace(NAMED[name], rows=600), 250
    drawn = draw(world, runs, np.random.default_rng(SEED))
    covered = dict.fromkeys(("ips", "snips", "dr", "sndr"), 0)
    gained = dict(covered)
    refuted = 0
    for run in range(runs):
        weighed = seen(world, drawn, run)
        model = predict(weighed.log, world.mean.shape[1])
        for one in estimate(weighed, model, low=0.0, high=1.0, names=tuple(covered)):
            low, high = mean_interval(one.rows, alpha=0.05)
            covered[one.name] += low <= world.truth <= high
            low, high = mean_interval(one.rows - weighed.log.reward, alpha=0.05)
            gained[one.name] += low <= world.truth - drawn.logged_value[run] <= high
        reward, cap = weighed.log.reward, weighed.largest_weight
        rich = [
            log_wealth(value_bettors(r, weighed.weight, cap), truth).max() >= np.log(2 / 0.05)
            for r, truth in ((reward, world.truth), (1 - reward, 1 - world.truth))
        ]
        refuted += any(rich)
    # 95 % of 250 with a standard error of 1.4 points; the sequence at every row at once: below 5 %.
    for counts in (covered, gained):
        assert all(0.95 - 3 * 0.014 < count / runs < 0.95 + 3 * 0.014 for count in counts.values()), counts
    assert refuted / runs < 0.05 + 3 * 0.014


def test_evaluating_the_logging_policy_itself_gives_the_mean_reward() -> None:
    weighed = one_log()
    assert weighed.log.logging is not None
    found = evaluate(weighed.log, weighed.log.logging, low=0.0, high=1.0)
    for name in ("ips", "snips"):
        one = next(e for e in found.estimates if e.name == name)
        assert one.value == pytest.approx(found.logged)
        assert one.gain == pytest.approx(0.0, abs=1e-12)
    assert found.diagnosis.effective == pytest.approx(found.diagnosis.rows)
    assert not better(found)


def test_a_perfect_model_makes_doubly_robust_exact() -> None:
    weighed = one_log()
    model = np.tile(np.array([0.1, 0.4, 0.2, 0.9, 0.5]), (2000, 1))
    exact = Log(
        model[np.arange(2000), weighed.log.arm], weighed.log.arm, weighed.log.propensity, weighed.log.logging,
        weighed.log.features,
    )  # fmt: skip
    truth = float((weighed.target * model).sum(axis=1).mean())
    found = estimate(Weighed(exact, weighed.target), model, low=0.0, high=1.0, names=("dr", "sndr", "switch"))
    assert [one.value for one in found] == pytest.approx([truth] * 3)


def test_what_clipping_and_switching_may_hide_is_in_the_interval() -> None:
    """Rewards only where weights are huge: clipped, little is left of them; the upper end must still reach them."""
    rows = 4000
    rng = np.random.default_rng(SEED)
    rare = rng.random(rows) < 0.004
    logging = np.tile([0.996, 0.004], (rows, 1))
    arm = rare.astype(np.int64)
    log = Log(rare * 1.0, arm, logging[np.arange(rows), arm], logging, np.zeros((rows, 0)))
    found = estimate(
        Weighed(log, np.tile([0.5, 0.5], (rows, 1))), np.zeros((rows, 2)), low=0.0, high=1.0,
        names=("clipped", "switch"),
    )  # fmt: skip
    for one in found:
        assert one.limit is None or one.limit < 125
        low, high = mean_interval(one.rows, alpha=0.05)
        assert low - one.bias_low <= 0.5 <= high + one.bias_high


@pytest.mark.parametrize("seed", range(3))
def test_self_normalised_estimates_move_with_the_rewards(seed: int) -> None:
    world = replace(NAMED["uniform"], rows=400)
    weighed = seen(world, draw(world, 1, np.random.default_rng(seed)), 0)
    shifted = Weighed(replace_reward(weighed.log, weighed.log.reward * 2 - 5), weighed.target)
    names = ("snips", "sndr", "dr")
    before = estimate(weighed, predict(weighed.log, 3), low=0.0, high=1.0, names=names)
    after = estimate(shifted, predict(shifted.log, 3), low=-5.0, high=-3.0, names=names)
    # The ridge draws to 0, so doubly robust ones move almost with the rewards.
    for one, other, within in zip(before, after, (1e-9, 0.02, 0.15), strict=True):
        assert other.value == pytest.approx(one.value * 2 - 5, abs=within)


def replace_reward(log: Log, reward: Array) -> Log:
    return Log(reward, log.arm, log.propensity, log.logging, log.features)


@given(
    rewards=st.lists(st.floats(0, 1), min_size=1, max_size=20),
    weights=st.lists(st.floats(0, 50), min_size=20, max_size=20),
    alpha=st.sampled_from([0.01, 0.05, 0.2]),
)
@settings(max_examples=30, deadline=None, phases=[Phase.explicit, Phase.generate])
def test_sequences_stay_within_range_and_are_wider_for_a_smaller_alpha(
    rewards: list[float], weights: list[float], alpha: float
) -> None:
    r, w = np.array(rewards), np.array(weights[: len(rewards)])
    for cap in (None, np.full(len(r), 60.0)):
        low, high = bet(r, w, cap, alpha=alpha)
        assert 0.0 <= low <= high <= 1.0
        below, above = bet_gain(r, w, cap, alpha=alpha)
        assert -1.0 <= below <= above <= 1.0
        bettors = value_bettors(r, w, cap)
        surer, bolder = (lower_bound(bettors, level, low=0.0, high=1.0) for level in (alpha / 4, alpha))
        assert surer <= bolder
        assert np.exp(log_wealth(bettors, 0.7)[-1]) >= np.exp(log_wealth(bettors, 0.8)[-1]) * (1 - 1e-9)


@given(values=st.lists(st.floats(-3, 3), min_size=3, max_size=60), by=st.floats(-5, 5), times=st.floats(0.1, 9))
@settings(max_examples=60, deadline=None)
def test_an_interval_moves_with_its_values_and_turns_with_their_sign(
    values: list[float], by: float, times: float
) -> None:
    rows = np.array(values)
    low, high = mean_interval(rows, alpha=0.05)
    assert low <= high
    assert mean_interval(rows * times + by, alpha=0.05) == pytest.approx(
        (low * times + by, high * times + by), abs=1e-6
    )
    assert mean_interval(-rows, alpha=0.05) == pytest.approx((-high, -low), abs=1e-6)


def test_an_interval_of_skew_values_leans_to_their_long_side() -> None:
    rows = np.random.default_rng(SEED).lognormal(0.0, 1.5, 200)
    low, high = mean_interval(rows, alpha=0.05)
    assert high - rows.mean() > 1.3 * (rows.mean() - low)
    assert mean_interval(np.ones(5), alpha=0.05) == (1.0, 1.0)


def test_every_reason_to_refuse() -> None:
    rows = 500
    uniform = np.full((rows, 2), 0.5)
    arm = np.arange(rows) % 2
    log = Log(np.ones(rows), arm, np.full(rows, 0.5), uniform, np.zeros((rows, 0)))
    assert refusals(diagnose(Weighed(log, uniform))) == ()
    few = log.take(np.arange(rows) < 40)
    assert refusals(diagnose(Weighed(few, uniform[:40]))) == ("too few rows: 40, at least 100 are needed",)
    none = log.take(np.zeros(rows, dtype=bool))
    assert refusals(diagnose(Weighed(none, uniform[:0])))[0].startswith("too few rows: 0")
    wrong = Log(log.reward, arm, np.full(rows, 0.4), None, log.features)
    (reason,) = refusals(diagnose(Weighed(wrong, uniform)))
    assert reason.startswith("the mean weight is 1.250")
    never = Log(log.reward, np.zeros(rows, dtype=np.int64), np.ones(rows), np.tile([1.0, 0.0], (rows, 1)), log.features)
    reasons = refusals(diagnose(Weighed(never, uniform)))
    assert reasons[0].startswith("no support: 50.00%")
    assert evaluate(never, uniform, low=0.0, high=2.0).estimates == ()


def test_a_log_or_target_that_makes_no_sense_is_said_so() -> None:
    log = one_log(rows=200).log
    with pytest.raises(ValueError, match="not a distribution"):
        evaluate(log, np.full((200, 5), 0.3), low=0.0, high=1.0)
    with pytest.raises(ValueError, match=r"outside of 0 to 0\.5"):
        evaluate(log, np.full((200, 5), 0.2), low=0.0, high=0.5)
    with pytest.raises(ValueError, match="differ in length"):
        Log(log.reward[:3], log.arm, log.propensity, None, log.features)
    with pytest.raises(ValueError, match="propensity"):
        Log(log.reward, log.arm, log.propensity * 0, None, log.features)
    with pytest.raises(ValueError, match="not finite"):
        Log(log.reward * np.nan, log.arm, log.propensity, None, log.features)


def test_better_needs_the_whole_sequence_above_nothing() -> None:
    weighed = one_log("skewed", 3000)
    worse = evaluate(weighed.log, weighed.target, low=0.0, high=1.0)
    assert worse.gain_always is not None
    assert worse.gain_always[1] < 0
    assert not better(worse)
    group = weighed.log.features @ np.array([1, 2])
    best = np.eye(5)[NAMED["skewed"].mean.argmax(axis=1)][group.astype(int)]
    found = evaluate(weighed.log, 0.9 * best + 0.02, low=0.0, high=1.0)
    assert better(found)
    assert found.gain_always is not None
    assert found.gain_always[0] > 0
