"""The routers of the bench: what each predicts every model to score, from the labels it was given and no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from flywheel.routing.features import Features, ReadTexts
from flywheel.routing.learner import learn_scores
from flywheel.routing.texts import Tfidf

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

NEIGHBOURS: Final = 40
GROUP_MASS: Final = 5.0
"""A group's mean is shrunk to the mean of all by so many labels."""
RIDGES: Final = (0.3, 1.0, 3.0, 10.0, 30.0)
MOST_TO_CHOOSE_ON: Final = 1000
CHOOSING_FOLDS: Final = 5


@dataclass(frozen=True, slots=True)
class Task:
    """What a router may use: texts and groups of all, scores (queries, models) of the places in ``labelled`` alone.

    ``known`` are the places whose texts it may fit on; ``wanted`` those it is asked about; ``strong`` is the dearer of
    two models. Randomness comes from ``seed``.
    """

    read: ReadTexts
    scores: Floats
    labelled: Places
    known: Places
    wanted: Places
    strong: int
    seed: int


Router = Callable[[Task], Floats]
"""Predicted scores (wanted, models); only their differences matter."""


def draw_lots(task: Task) -> Floats:
    """Random numbers."""
    return np.random.default_rng((task.seed, 1)).random((len(task.wanted), task.scores.shape[1]))


def by_length(task: Task) -> Floats:
    """Longer queries to the strong model; nothing is learned."""
    predicted = np.zeros((len(task.wanted), task.scores.shape[1]))
    predicted[:, task.strong] = task.read.signals[task.wanted, 0]
    return predicted


def best_single(task: Task) -> Floats:
    """The same model for every query: the best one on the labels."""
    return np.tile(task.scores[task.labelled].mean(axis=0), (len(task.wanted), 1))


def group_means(task: Task) -> Floats:
    """The mean of the query's group on the labels, shrunk to the mean of all."""
    scores, groups = task.scores[task.labelled], task.read.groups[task.labelled]
    overall = scores.mean(axis=0)
    predicted = np.tile(overall, (len(task.wanted), 1))
    for group in np.unique(groups[groups >= 0]):
        inside = scores[groups == group]
        mean = (inside.sum(axis=0) + GROUP_MASS * overall) / (len(inside) + GROUP_MASS)
        predicted[task.read.groups[task.wanted] == group] = mean
    return predicted


def nearest(task: Task) -> Floats:
    """The mean of the 40 labelled queries whose words are most alike (cosine of TF-IDF), as RouterBench's kNN."""
    tfidf = Tfidf.fit(task.read.words.rows[task.known])
    labelled = tfidf.transform(task.read.words.rows[task.labelled])
    near = np.asarray((tfidf.transform(task.read.words.rows[task.wanted]) @ labelled.T).todense())
    count = min(NEIGHBOURS, len(task.labelled))
    places = np.argpartition(-near, count - 1, axis=1)[:, :count]
    return np.asarray(task.scores[task.labelled][places].mean(axis=1))


def word_ridge(task: Task) -> Floats:
    """Ridge regression of the scores on TF-IDF of words and pairs; its strength by cross-validation on the labels."""
    tfidf = Tfidf.fit(task.read.words.rows[task.known])
    rows = tfidf.transform(task.read.words.rows[task.labelled])
    kernel = np.asarray((rows @ rows.T).todense())
    scores = task.scores[task.labelled]
    ridge = _chosen_ridge(kernel, scores, np.random.default_rng((task.seed, 2)))
    mean = scores.mean(axis=0)
    dual = cho_solve(cho_factor(kernel + ridge * np.eye(len(kernel))), scores - mean)
    across = tfidf.transform(task.read.words.rows[task.wanted])
    return np.asarray(mean + across @ (rows.T @ dual))


def _chosen_ridge(kernel: Floats, scores: Floats, rng: np.random.Generator) -> float:
    """The strength with the least squared error of differences between models, on held-out folds of the labels."""
    chosen = rng.permutation(len(kernel))[:MOST_TO_CHOOSE_ON]
    if len(chosen) < 2 * CHOOSING_FOLDS:
        return RIDGES[-1]
    errors = np.zeros(len(RIDGES))
    for fold in range(CHOOSING_FOLDS):
        held, kept = chosen[fold::CHOOSING_FOLDS], np.delete(chosen, np.s_[fold::CHOOSING_FOLDS])
        values, vectors = np.linalg.eigh(kernel[np.ix_(kept, kept)])
        mean = scores[kept].mean(axis=0)
        turned, across = vectors.T @ (scores[kept] - mean), kernel[np.ix_(held, kept)] @ vectors
        for place, ridge in enumerate(RIDGES):
            missed = mean + across @ (turned / (values[:, None] + ridge)) - scores[held]
            errors[place] += ((missed - missed.mean(axis=1, keepdims=True)) ** 2).sum()
    return RIDGES[int(errors.argmin())]


def learned(task: Task) -> Floats:
    """Ours: shrinkage learned for each block of features and each direction between models, on all of them at once."""
    features = Features.fit(task.read, task.known)
    model = learn_scores(features.transform(task.read, task.labelled), features.blocks, task.scores[task.labelled])
    return model.predict(features.transform(task.read, task.wanted))


def oracle(task: Task) -> Floats:
    """What only hindsight knows: the scores themselves."""
    return task.scores[task.wanted]


OURS: Final = "ours, offline"
ROUTERS: Final[Mapping[str, Router]] = {
    "random": draw_lots,
    "prompt length": by_length,
    "best single": best_single,
    "subject mean": group_means,
    "kNN": nearest,
    "TF-IDF ridge": word_ridge,
    OURS: learned,
    "oracle": oracle,
}
"""Every router by the name of its row."""
