"""Plays MABWiser's and Vowpal Wabbit's policies in a world of `bandit_worlds.py`, in an environment of their own.

Reads ``{"world", "rounds", "every", "seeds", "peer"}`` as one argument of JSON, ``peer`` the name of the only policy to
play or null; prints ``{policy: [regret by seed]}``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from mabwiser.mab import MAB, LearningPolicy
from vowpalwabbit import Workspace

sys.path.insert(0, str(Path(__file__).parents[4] / "libs" / "testkit" / "src" / "flywheel" / "testkit"))
from bandit_worlds import Array, World, play, world


class MabWiser:
    """One of MABWiser's policies; arms are tried in turn until each was learned once."""

    def __init__(self, policy: object, played: World, seed: int) -> None:
        self.arms, self.contextual = played.means.shape[1], played.contextual
        self.mab = MAB(arms=list(range(self.arms)), learning_policy=policy, seed=seed)
        self.started = False

    def choose(self, round_: int, x: Array) -> int:
        if not self.started:
            return round_ % self.arms
        return int(self.mab.predict([x.tolist()]) if self.contextual else self.mab.predict())

    def learn(self, batch: list[tuple[Array, int, float]]) -> None:
        arms, rewards = [arm for _, arm, _ in batch], [reward for _, _, reward in batch]
        contexts = {"contexts": np.array([x for x, _, _ in batch])} if self.contextual else {}
        (self.mab.partial_fit if self.started else self.mab.fit)(arms, rewards, **contexts)
        self.started = True


class VowpalWabbit:
    """A ``--cb_explore`` policy; draws from the distribution it tells, learns with the propensities it had."""

    def __init__(self, options: str, played: World, seed: int) -> None:
        self.arms, self.random = played.means.shape[1], np.random.default_rng(seed)
        self.vw = Workspace(f"--cb_explore_adf {options} --interactions sa --quiet --random_seed {seed}")
        self.told: dict[tuple[bytes, int], list[float]] = {}

    def example(self, x: Array, label: tuple[int, float, float] | None = None) -> list[str]:
        shared = "shared |s one " + " ".join(f"f{place}:{value:.6f}" for place, value in enumerate(x))
        lines = [f"|a arm={arm}" for arm in range(self.arms)]
        if label is not None:
            arm, reward, propensity = label
            lines[arm] = f"0:{-reward}:{propensity} {lines[arm]}"
        return [shared, *lines]

    def choose(self, round_: int, x: Array) -> int:
        chances = np.array(self.vw.predict(self.example(x)))
        arm = int(self.random.choice(self.arms, p=chances / chances.sum()))
        self.told.setdefault((x.tobytes(), arm), []).append(float(chances[arm]))
        return arm

    def learn(self, batch: list[tuple[Array, int, float]]) -> None:
        for x, arm, reward in batch:
            self.vw.learn(self.example(x, (arm, reward, self.told[x.tobytes(), arm].pop(0))))


def policies(played: World) -> dict[str, object]:
    """Return what is played where: policies of MABWiser by name, options of Vowpal Wabbit as texts."""
    own: dict[str, object] = (
        {"mabwiser LinUCB(1)": LearningPolicy.LinUCB(alpha=1.0), "mabwiser LinTS(.3)": LearningPolicy.LinTS(alpha=0.3)}
        if played.contextual
        else {
            "mabwiser TS": LearningPolicy.ThompsonSampling(),
            "mabwiser UCB1(1)": LearningPolicy.UCB1(alpha=1.0),
            "mabwiser greedy(.1)": LearningPolicy.EpsilonGreedy(epsilon=0.1),
        }
    )
    return {**own, "vw squarecb": "--squarecb", "vw epsilon .05": "--epsilon 0.05"}


def main() -> None:
    """Play every policy with every seed."""
    asked = json.loads(sys.argv[1])
    regrets: dict[str, list[float]] = {}
    for seed in range(asked["seeds"]):
        played = world(asked["world"], seed, asked["rounds"])
        for name, policy in policies(played).items():
            if asked["peer"] not in (None, name):
                continue
            made = VowpalWabbit(policy, played, seed) if isinstance(policy, str) else MabWiser(policy, played, seed)
            regrets.setdefault(name, []).append(play(played, made, asked["every"]))
    print(json.dumps(regrets))


if __name__ == "__main__":
    main()
