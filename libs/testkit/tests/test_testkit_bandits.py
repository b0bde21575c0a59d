"""Worlds that bandits are played in, and the theory they are held to."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flywheel.testkit.bandit_worlds import DELAY, LINEAR, WORLDS, regret_curve, world
from flywheel.testkit.regret_theory import gaps, lai_robbins, ucb1_bound, ucb_v_bound

SEEDED = {"rates": 0.5821770123928727, "fifty_arms": 0.5610377738010123, "abrupt": 0.319430531048758}


class Always:
    """Chooses one arm, and keeps what it was taught with the rounds known by then."""

    def __init__(self, arm):
        self.arm, self.taught = arm, []

    def choose(self, round_, x):
        return self.arm

    def learn(self, batch):
        self.taught.append(len(batch))


@pytest.mark.parametrize("name", WORLDS + LINEAR)
def test_a_world_is_drawn_whole_from_its_seed(name):
    one, again, other = world(name, 3, 60), world(name, 3, 60), world(name, 4, 60)
    assert (one.rewards == again.rewards).all() and (one.means == again.means).all()
    assert not (one.rewards == other.rewards).all()
    assert one.means.shape == one.rewards.shape and (one.means >= 0).all() and (one.means <= 1).all()


def test_worlds_differ_from_each_other_but_those_that_only_tell_less():
    rates, late, missing = (world(name, 5, 4000) for name in ("rates", "late", "missing"))
    assert (rates.rewards == late.rewards).all() and (rates.rewards == missing.rewards).all()
    assert rates.delay == 0 and late.delay == DELAY and rates.seen.all() and late.seen.all()
    assert missing.seen.mean() == pytest.approx(0.7, abs=0.03)
    assert not (rates.means == world("close", 5, 4000).means).all()


@pytest.mark.parametrize("name", SEEDED)
def test_the_seeds_of_published_figures_stay(name):
    assert world(name, 0, 6).means[0, 0] == pytest.approx(SEEDED[name], abs=1e-12)


def test_an_unknown_world_is_named():
    with pytest.raises(ValueError, match="no world named flat; there are rates, "):
        world("flat", 0, 10)


def test_regret_adds_up_and_batches_come_when_they_are_known():
    late = world("late", 0, 1300)
    learner = Always(2)
    lost = regret_curve(late, learner, 100)
    assert lost == pytest.approx(np.arange(1, 1301) * (late.means[0].max() - late.means[0, 2]))
    # At round 1,099 those of rounds 0 to 99 are known, and so on.
    assert learner.taught == [100, 100, 100]


def test_bounds_by_hand():
    means = np.array([0.7, 0.5, 0.7])
    assert gaps(means) == pytest.approx([0.2])
    log = math.log(10_000)
    assert ucb1_bound(means, 10_000) == pytest.approx(8 * log / 0.2 + (1 + math.pi**2 / 3) * 0.2)
    assert ucb1_bound(means, 10_000, stale=500, told=0.5) == pytest.approx(
        16 * log / 0.2 + (501 + math.pi**2 / 3) * 0.2
    )
    assert ucb_v_bound(means, 10_000) == pytest.approx(10 * (0.25 / 0.2 + 2) * log)
    divergence = 0.5 * math.log(0.5 / 0.7) + 0.5 * math.log(0.5 / 0.3)
    assert lai_robbins(means, 10_000) == pytest.approx(0.2 * log / divergence)
    assert ucb1_bound(means, 100) == pytest.approx(20.0), "nobody loses more than the gap in every round"
