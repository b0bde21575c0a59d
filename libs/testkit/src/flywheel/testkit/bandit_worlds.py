"""Simulated environments for bandits and for the peers they are held against; this file needs numpy alone.

A world is drawn whole from its seed: what every arm would have earned at every round. So every policy meets the same
requests with the same luck, and differences are differences of policies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ARMS, SIZE, FEW = 8, 10, 4
DELAY = 1000
"""Rounds until a reward is told, in the worlds where it is late."""
UNTOLD = 0.3
"""Share of rewards that are never told, in the worlds where some are missing."""


@dataclass(frozen=True)
class World:
    """``contexts`` (T, d): features, empty without any; ``means`` (T, K): expected rewards; ``rewards`` (T, K): those
    that would be earned; ``seen`` (T,): whether a reward is ever told; ``delay``: rounds until it is."""

    name: str
    contexts: Array
    means: Array
    rewards: Array
    seen: NDArray[np.bool_]
    delay: int

    @property
    def contextual(self) -> bool:
        return bool(self.contexts.shape[1])


class Learner(Protocol):
    """What plays: ``choose`` an arm for features (d,), ``learn`` a batch of (features, arm, reward)."""

    def choose(self, round_: int, x: Array) -> int: ...

    def learn(self, batch: list[tuple[Array, int, float]]) -> None: ...


def _rates(means: Array, rounds: int) -> Array:
    return np.tile(means, (rounds, 1))


def _contextual(random: np.random.Generator, rounds: int, *, changes: int = 0) -> tuple[Array, Array]:
    contexts = random.normal(size=(rounds, SIZE))
    parts = np.array_split(np.arange(rounds), changes + 1)
    means = np.empty((rounds, ARMS))
    for part in parts:
        weights = random.normal(size=(ARMS, SIZE))
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        means[part] = 1 / (1 + np.exp(-2 * contexts[part] @ weights.T))
    return contexts, means


def _abrupt(random: np.random.Generator, rounds: int) -> Array:
    means = random.uniform(0.3, 0.8, ARMS)
    rows = _rates(means, rounds)
    for at in (rounds // 3, 2 * rounds // 3):
        best = int(rows[at].argmax())
        rows[at:, best] = means.min()
        rows[at:, (best + 3) % ARMS] = 0.85
    return rows


def _gradual(random: np.random.Generator, rounds: int) -> Array:
    phase = random.uniform(0, 2 * np.pi, ARMS)
    turn = np.arange(rounds)[:, None] / rounds * 2 * np.pi
    return np.asarray(0.55 + 0.3 * np.sin(turn + phase))


def _linear(random: np.random.Generator, rounds: int) -> tuple[Array, Array]:
    contexts = random.normal(size=(rounds, FEW))
    contexts /= np.linalg.norm(contexts, axis=1, keepdims=True)
    weights = random.normal(size=(ARMS, FEW))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return contexts, 0.5 + 0.4 * contexts @ weights.T


STATIONARY = ("rates", "close", "fifty_arms", "late", "missing", "features", "features_late", "features_missing")
CHANGING = ("recorded", "abrupt", "gradual", "features_abrupt")
WORLDS = STATIONARY + CHANGING
LINEAR = ("linear", "linear_late")
"""Rewards linear in the features, as the theory of the linear kinds asks."""
_STREAMS = {
    "rates": 0, "late": 0, "missing": 0, "close": 1, "fifty_arms": 2, "features": 3, "features_late": 4,
    "features_missing": 5, "recorded": 6, "abrupt": 7, "gradual": 8, "features_abrupt": 9, "linear": 10,
    "linear_late": 10,
}  # fmt: skip
"""Worlds of one stream of randomness differ in what is told of the same rewards, so what that costs is paired."""


def world(name: str, seed: int, rounds: int) -> World:
    """Return a world of ``rounds`` rounds; raise ``ValueError`` for an unknown name."""
    if name not in _STREAMS:
        raise ValueError(f"no world named {name}; there are {', '.join(_STREAMS)}")
    random = np.random.default_rng([seed, _STREAMS[name]])
    contexts = np.empty((rounds, 0))
    if name in ("rates", "late", "missing"):
        means = _rates(random.uniform(0.2, 0.8, ARMS), rounds)
    elif name == "close":
        means = _rates(random.permutation(np.linspace(0.85, 0.95, ARMS)), rounds)
    elif name == "fifty_arms":
        means = _rates(random.beta(4, 4, 50), rounds)
    elif name == "recorded":
        # GPT-4 and GPT-3.5 at telling primes, March and June 2023 (Chen, Zaharia and Zou, 2023).
        means = np.where(np.arange(rounds)[:, None] < rounds // 2, [0.84, 0.53], [0.51, 0.78])
    elif name == "abrupt":
        means = _abrupt(random, rounds)
    elif name == "gradual":
        means = _gradual(random, rounds)
    elif name in LINEAR:
        contexts, means = _linear(random, rounds)
    else:
        contexts, means = _contextual(random, rounds, changes=2 if name == "features_abrupt" else 0)
    rewards = (random.random((rounds, 1)) < means).astype(float)
    seen = random.random(rounds) >= (UNTOLD if name.endswith("missing") else 0.0)
    return World(name, contexts, np.asarray(means), rewards, seen, DELAY if name.endswith("late") else 0)


def play(played: World, learner: Learner, every: int) -> float:
    """Return the cumulative regret of all rounds, see `regret_curve`."""
    return float(regret_curve(played, learner, every)[-1])


def regret_curve(played: World, learner: Learner, every: int) -> Array:
    """Return the cumulative regret (T,) after each round: expected reward lost to the best arm of each round. What is
    known by then is learned in batches after each ``every`` rounds, as policies are published."""
    waiting: list[tuple[int, Array, int, float]] = []
    lost = np.empty(len(played.contexts))
    for t, x in enumerate(played.contexts):
        arm = learner.choose(t, x)
        lost[t] = played.means[t].max() - played.means[t, arm]
        if played.seen[t]:
            waiting.append((t, x, arm, float(played.rewards[t, arm])))
        if t % every == every - 1:
            known = [told for told in waiting if told[0] + played.delay <= t]
            waiting = waiting[len(known) :]
            if known:
                learner.learn([(x, arm, reward) for _, x, arm, reward in known])
    return np.cumsum(lost)
