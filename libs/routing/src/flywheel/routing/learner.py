"""Predicts what every model would score on a query, from labels of all models or of the chosen one alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from flywheel.routing.bayes import Moments, Posterior, Prior, learned_prior

Floats = npt.NDArray[np.float64]

LEAST_LABELS: Final = 8
"""With fewer labels only means are told."""


@dataclass(frozen=True, slots=True)
class ScoreModel:
    """Linear in the features: scores = mean + X weights, shapes (models,) and (features, models)."""

    mean: Floats
    weights: Floats

    def predict(self, features: Floats) -> Floats:
        """Expected scores, (queries, models)."""
        predicted: Floats = self.mean + features @ self.weights
        return predicted


def learn_scores(features: Floats, blocks: tuple[slice, ...], scores: Floats) -> ScoreModel:
    """From the scores of every model on each labelled query, (queries, models).

    What models have in common (how hard a query is) and how they differ are learned apart: scores are turned into their
    mean over models and the principal directions of the differences, each with a shrinkage of its own. Directions along
    which nothing can be foretold shrink away, which is what a low rank between models would impose.
    """
    mean = scores.mean(axis=0)
    weights = np.zeros((features.shape[1], scores.shape[1]))
    if len(scores) < LEAST_LABELS:
        return ScoreModel(mean, weights)
    rest = scores - mean
    shared = features.T @ features
    for direction in _directions(rest).T:
        target = rest @ direction
        energy = float(target @ target)
        if energy <= 1e-9 * len(target):
            continue
        moments = Moments(shared, features.T @ target, energy, len(target))
        found = Posterior.of(moments, learned_prior(moments, blocks))
        weights += np.outer(found.mean, direction)
    return ScoreModel(mean, weights)


def _directions(rest: Floats) -> Floats:
    """An orthonormal basis of the models: the common direction, then those of the differences by their variance."""
    size = rest.shape[1]
    differences = rest - rest.mean(axis=1, keepdims=True)
    _, vectors = np.linalg.eigh(differences.T @ differences)
    common = np.full((size, 1), size**-0.5)
    basis, _ = np.linalg.qr(np.hstack((common, vectors[:, ::-1])))
    return basis[:, :size]


class ArmLearner:
    """One model's scores, learned from the queries that were sent to it."""

    def __init__(self, size: int, blocks: tuple[slice, ...], prior_mean: float) -> None:
        self._blocks = blocks
        self._moments = Moments(np.zeros((size, size)), np.zeros(size), 0.0, 0)
        self._offset = prior_mean
        self._posterior: Posterior | None = None
        self._covariance: Floats = np.zeros((size, size))

    def learn(self, features: Floats, scores: Floats) -> None:
        """Add queries (n, features) and what the model scored on them (n,)."""
        more, old = Moments.of(features, scores - self._offset), self._moments
        self._moments = Moments(old.xx + more.xx, old.xy + more.xy, old.yy + more.yy, old.count + more.count)
        if self._moments.count < LEAST_LABELS:
            return
        prior: Prior = learned_prior(self._moments, self._blocks)
        self._posterior = Posterior.of(self._moments, prior)
        self._covariance = np.asarray(np.linalg.inv(self._posterior.precision), dtype=np.float64)

    def expect(self, features: Floats) -> tuple[Floats, Floats]:
        """Means and standard deviations of the expected score, (n,) each; wide open before there are labels."""
        if self._posterior is None:
            return np.full(len(features), self._offset), np.full(len(features), 0.5)
        means = self._offset + features @ self._posterior.mean
        spread = np.einsum("ij,jk,ik->i", features, self._covariance, features, optimize=True)
        return means, np.sqrt(np.maximum(spread, 0.0))
