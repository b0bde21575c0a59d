"""Simulated logs whose truth is known: what off-policy evaluation is held against.

A world has groups of requests, arms with a mean reward in each, a logging policy that may learn as it goes, and a
target policy. Drawn for many runs at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class World:
    """``mean`` (groups, arms) in [0, 1]; ``logging`` and ``target`` (groups, arms) are distributions over arms.

    ``learning`` mixes a policy that learns from its own log with ``logging``: ``softmax`` of the arms' mean rewards so
    far, or ``greedy``, the largest, both with that share. ``noise``: a reward lies evenly around its mean, as far as
    that share of the way to 0 or 1, whichever is nearer; None: it is 0 or 1. ``told``: a reward model sees the group.
    """

    name: str
    rows: int
    mean: Array
    logging: Array
    target: Array
    learning: Literal["softmax", "greedy"] | None = None
    share: float = 0.0
    noise: float | None = None
    told: bool = True

    @property
    def truth(self) -> float:
        """Value of the target; groups are equally frequent."""
        return float((self.target * self.mean).sum(axis=1).mean())


@dataclass(frozen=True, slots=True)
class Drawn:
    """Logs of ``runs``: ``group``, ``arm``, ``reward`` (runs, rows); ``logging`` (runs, rows, arms); ``logged_value``
    (runs) is the logging policy's value over all groups, averaged over the log's rows."""

    group: Indices
    arm: Indices
    reward: Array
    logging: Array
    logged_value: Array


def _softmax(scores: Array, strength: float) -> Array:
    powers = np.exp(strength * (scores - scores.max(axis=-1, keepdims=True)))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _floored(policy: Array, floor: float) -> Array:
    return np.asarray(floor + (1 - floor * policy.shape[-1]) * policy)


_EVEN: Final = np.array([[0.5, 0.6, 0.4], [0.7, 0.3, 0.5]])
_SPREAD: Final = np.array([[0.55, 0.7, 0.6, 0.3, 0.5], [0.8, 0.6, 0.9, 0.7, 0.5], [0.2, 0.4, 0.3, 0.6, 0.1]])
_STRAY: Final = np.array([[0.7, 0.6, 0.3]])

WORLDS: Final = (
    World("uniform", 1000, _EVEN, np.full((2, 3), 1 / 3), _floored(_softmax(_EVEN, 50.0), 0.0)),
    World("skewed", 2000, _SPREAD, _floored(_softmax(_SPREAD, 4.0), 0.04), _floored(_softmax(-_SPREAD, 3.0), 0.02)),
    World("blind", 1500, _SPREAD, _floored(_softmax(_SPREAD, 3.0), 0.05), _softmax(_SPREAD, 12.0), told=False),
    World("rare", 4000, _SPREAD / 25, _floored(_softmax(_SPREAD, 2.0), 0.05), _softmax(_SPREAD, 5.0)),
    World("scores", 800, _SPREAD, _floored(_softmax(_SPREAD, 3.0), 0.05), _softmax(_SPREAD, 12.0), noise=0.5),
    World("learning", 1500, _EVEN, np.full((2, 3), 1 / 3), _softmax(_EVEN, 10.0), learning="softmax", share=0.75),
    World("tied", 1500, np.full((1, 3), 0.5), np.full((1, 3), 1 / 3), np.array([[1.0, 0.0, 0.0]]), "greedy", 0.7),
    World("lopsided", 3000, np.array([[0.7, 0.6]]), np.array([[0.95, 0.05]]), np.array([[0.0, 1.0]])),
    World("stray", 5000, _STRAY, np.array([[0.68, 0.3, 0.02]]), np.array([[0.1, 0.5, 0.4]])),
)  # fmt: skip
"""Worlds of different difficulty. `learning` and `tied` learn while they log, and in `tied` there is nothing to learn,
which is where means of adaptively gathered rewards are farthest from normal (Zhang, Janson and Murphy, 2020). In
`lopsided` one row of twenty counts, twenty times; in `stray` one of fifty does, and the rest count at most twice."""


def draw(world: World, runs: int, rng: np.random.Generator) -> Drawn:
    """Return logs of as many runs."""
    groups, arms = world.mean.shape
    group = rng.integers(0, groups, (runs, world.rows))
    luck, chance = rng.random((runs, world.rows)), rng.random((runs, world.rows))

    def rewards(g: Indices, a: Indices, u: Array) -> Array:
        mean = world.mean[g, a]
        if world.noise is None:
            return (u < mean).astype(np.float64)
        return np.asarray(mean + world.noise * np.minimum(mean, 1.0 - mean) * (2.0 * u - 1.0))

    if world.learning is None:
        logging = world.logging[group]
        arm = _drawn(logging, luck)
        value = np.full(runs, float((world.logging * world.mean).sum(axis=1).mean()))
        return Drawn(group, arm, rewards(group, arm, chance), logging, value)
    logging = np.empty((runs, world.rows, arms))
    arm = np.empty((runs, world.rows), dtype=np.int64)
    reward, value, here = np.empty((runs, world.rows)), np.zeros(runs), np.arange(runs)
    for t, learned in _learned(world, group, arm, reward):
        policy = (1 - world.share) * world.logging + world.share * learned
        value += (policy * world.mean).sum(axis=2).mean(axis=1) / world.rows
        logging[:, t] = policy[here, group[:, t]]
        arm[:, t] = _drawn(logging[:, t], luck[:, t])
        reward[:, t] = rewards(group[:, t], arm[:, t], chance[:, t])
    return Drawn(group, arm, reward, logging, value)


def _learned(world: World, group: Indices, arm: Indices, reward: Array) -> Iterator[tuple[int, Array]]:
    """Give, before each row, what was learned for every group (runs, groups, arms) from the rows the caller wrote."""
    runs, rows = group.shape
    here = np.arange(runs)
    count, gained = np.ones((runs, *world.mean.shape)), np.full((runs, *world.mean.shape), 0.5)
    for t in range(rows):
        means = gained / count
        if world.learning == "greedy":
            best = means == means.max(axis=2, keepdims=True)
            yield t, best / best.sum(axis=2, keepdims=True)
        else:
            yield t, _softmax(means, 10.0)
        count[here, group[:, t], arm[:, t]] += 1
        gained[here, group[:, t], arm[:, t]] += reward[:, t]


def _drawn(probabilities: Array, luck: Array) -> Indices:
    """Return the arm whose stretch of the cumulated probabilities has the number drawn."""
    cumulated = np.cumsum(probabilities, axis=-1)[..., :-1]
    return np.asarray((luck[..., None] >= cumulated).sum(axis=-1), dtype=np.int64)
