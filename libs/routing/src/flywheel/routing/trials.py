"""How routers are tried: cross-fitted with a budget of labels, or in a stream whose labels come after the
prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from flywheel.routing.features import Features, ReadTexts
from flywheel.routing.folds import cross_folds
from flywheel.routing.learner import ArmLearner, ScoreModel, learn_scores
from flywheel.routing.routers import Router, Task

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
Progress = Callable[[str], None]

FIRST_FIT: Final = 25
GROWTH: Final = 1.5
"""The online learner fits anew when it has so many times the labels of the last time."""
DECIMALS: Final = 9
"""Predictions that differ by less are the same."""
BATCH: Final = 25
"""One-model feedback is learned from in batches of so many."""
ALARM: Final = 8.0
SLACK: Final = 0.5
"""Height and slack of the CUSUM, in standard deviations of a batch's mean."""
LEAST_BEFORE_WATCHING: Final = 100
LEAST_DEVIATION: Final = 0.05


@dataclass(frozen=True, slots=True)
class Trial:
    """Predicted scores (queries, models) of one seed; ``places`` are the queries they are of."""

    places: Places
    predicted: Floats


@dataclass(frozen=True, slots=True)
class Stream:
    """One run online: the trial on the queries after the labels, and what happened while they came.

    ``order`` is the stream; ``chosen`` the model predicted best for each labelled query before its label was learned
    (with
    one-model feedback: the one that was asked); ``checkpoints`` are numbers of labels with the trial at each;
    ``resets`` the
    numbers of labels at which older ones were forgotten.
    """

    trial: Trial
    order: Places
    chosen: Places
    checkpoints: tuple[tuple[int, Trial], ...]
    resets: tuple[int, ...]


def cross_fit(router: Router, base: Task, *, folds: int, budget: int | None) -> Trial:
    """Predict every query by a router that has seen no label of its fold, and ``budget`` labels of the others.

    Words and scales are fitted on the labelled queries' texts. ``base`` gives data and seed; its places are not used.

    Between two models, each fold's mean prediction is replaced by the mean of all. Otherwise queries of different folds
    are ranked by the mean of the labels, which is the lower, the better the fold's own strong model: a constant would
    come out below one half.
    """
    count = len(base.scores)
    predicted, offsets = np.zeros_like(base.scores), np.zeros_like(base.scores)
    for wanted, others in cross_folds(count, folds, (base.seed, 0)):
        labelled = others[:budget]
        task = Task(base.read, base.scores, labelled, labelled, wanted, base.strong, base.seed)
        predicted[wanted] = router(task)
        offsets[wanted] = predicted[wanted].mean(axis=0)
    if base.scores.shape[1] == 2:
        predicted = np.round(predicted - offsets + predicted.mean(axis=0), DECIMALS)
    return Trial(np.arange(count), predicted)


def after_budget(router: Router, base: Task, *, budget: int) -> Trial:
    """What a router that was given the first ``budget`` labels of the stream at once predicts for the rest of it."""
    order = stream_order(len(base.scores), seed=base.seed)
    labelled, wanted = order[:budget], order[budget:]
    return Trial(wanted, router(Task(base.read, base.scores, labelled, labelled, wanted, base.strong, base.seed)))


def stream_order(count: int, *, seed: int) -> Places:
    """The order in which so many queries come."""
    return np.random.default_rng((seed, 3)).permutation(count)


def online(
    read: ReadTexts,
    scores: Floats,
    order: Places,
    *,
    budget: int,
    checkpoints: tuple[int, ...] = (),
    forget: bool = True,
) -> Stream:
    """Learn from the labels of all models on the first ``budget`` queries, each predicted before it is learned.

    Everything is fitted anew at 25 labels and at every half more, so a label waits at most that long. With
    ``forget``, labels
    older than a change are dropped: a CUSUM (Page 1954) of how far predictions are off, model by model, in batches of
    25.
    """
    learner = _Online(read, scores, order, forget)
    at: list[tuple[int, Trial]] = []
    for seen in range(budget):
        learner.take(seen)
        if seen + 1 in checkpoints:
            at.append((seen + 1, learner.predict_rest(budget, seen + 1)))
    final = at[-1][1] if at and at[-1][0] == budget else learner.predict_rest(budget, budget)
    chosen = np.array(learner.chosen, dtype=np.intp)
    return Stream(final, order, chosen, tuple(at), tuple(learner.resets))


class _Online:
    """State of a stream: what is learned, since which place labels count, and how far predictions were off lately."""

    def __init__(self, read: ReadTexts, scores: Floats, order: Places, forget: bool) -> None:
        models = scores.shape[1]
        self.chosen: list[int] = []
        self.resets: list[int] = []
        self._read, self._scores, self._order, self._forget = read, scores, order, forget
        self._model = ScoreModel(np.full(models, 0.5), np.zeros((0, models)))
        self._features: Features | None = None
        self._ahead: Floats = np.full((FIRST_FIT, models), 0.5)
        self._fitted = self._since = 0
        self._next_fit = FIRST_FIT
        self._off = np.zeros((len(order), models))
        self._sums = np.zeros((2, models))
        self._rise = np.zeros((2, models), dtype=np.intp)

    def take(self, seen: int) -> None:
        """Predict the query at ``seen``, then learn its label."""
        predicted = self._ahead[seen - self._fitted]
        self.chosen.append(int(predicted.argmax()))
        missed = self._scores[self._order[seen]] - predicted
        self._off[seen] = missed - missed.mean()
        if self._forget and (seen + 1) % BATCH == 0 and seen + 1 - self._since >= LEAST_BEFORE_WATCHING:
            self._watch(seen + 1)
        if seen + 1 >= self._next_fit:
            self._fit(seen + 1)

    def predict_rest(self, budget: int, seen: int) -> Trial:
        """What the state after ``seen`` labels predicts for the queries after the budget."""
        if seen > self._fitted:
            self._fit(seen)
        rest = self._order[budget:]
        return Trial(rest, self._predict(rest))

    def _predict(self, places: Places) -> Floats:
        if self._features is None:
            return np.tile(self._model.mean, (len(places), 1))
        return self._model.predict(self._features.transform(self._read, places))

    def _fit(self, seen: int) -> None:
        """Learn from the labels that count, and predict the queries until the next time, of which only texts are
        used."""
        labelled = self._order[self._since : seen]
        self._features = Features.fit(self._read, labelled)
        rows = self._features.transform(self._read, labelled)
        self._model = learn_scores(rows, self._features.blocks, self._scores[labelled])
        self._fitted = seen
        self._next_fit = self._since + max(len(labelled) + FIRST_FIT, int(np.ceil(GROWTH * len(labelled))))
        self._ahead = self._predict(self._order[seen : self._next_fit])

    def _watch(self, seen: int) -> None:
        """A CUSUM up and one down for each model of how its predictions were off, against the others'; forget on an
        alarm."""
        known = self._off[self._since + FIRST_FIT : seen]
        scale = np.maximum(known.std(axis=0), LEAST_DEVIATION) / np.sqrt(BATCH)
        surprise = self._off[seen - BATCH : seen].mean(axis=0) / scale
        self._rise[self._sums == 0.0] = seen - BATCH
        self._sums = np.maximum(0.0, self._sums + np.stack((surprise, -surprise)) - SLACK)
        if self._sums.max() > ALARM:
            self._since = int(self._rise.flat[int(self._sums.argmax())])
            self._sums[:] = 0.0
            self.resets.append(seen)
            self._fit(seen)


def online_one_model(read: ReadTexts, scores: Floats, order: Places, *, budget: int, seed: int) -> Stream:
    """The same with the label of the asked model alone: Thompson sampling over a linear model for each (Agrawal,
    Goyal 2013).

    Features are fitted on the texts of the first batch, and anew when there are half more, from the labels kept.
    """
    rng = np.random.default_rng((seed, 4))
    arms = scores.shape[1]
    asked: list[int] = []
    features, learners = Features.fit(read, order[:BATCH]), [ArmLearner(0, (), 0.5) for _ in range(arms)]
    next_fit = 0
    for start in range(0, budget, BATCH):
        if start >= next_fit and start:
            features, learners = _relearned(read, scores, order[:start], np.array(asked))
            next_fit = int(np.ceil(GROWTH * start))
        batch = order[start : min(start + BATCH, budget)]
        if start == 0:
            asked.extend((np.arange(len(batch)) % arms).tolist())
            continue
        seen = features.transform(read, batch)
        told = [learner.expect(seen) for learner in learners]
        drawn = np.array([mean + spread * rng.standard_normal(len(batch)) for mean, spread in told])
        picks = drawn.argmax(axis=0)
        asked.extend(picks.tolist())
        for arm in range(arms):
            mine = picks == arm
            if mine.any():
                learners[arm].learn(seen[mine], scores[batch[mine], arm])
    features, learners = _relearned(read, scores, order[:budget], np.array(asked))
    rest = order[budget:]
    seen = features.transform(read, rest)
    predicted = np.stack([learner.expect(seen)[0] for learner in learners], axis=1)
    return Stream(Trial(rest, predicted), order, np.array(asked, dtype=np.intp), (), ())


def _relearned(read: ReadTexts, scores: Floats, seen: Places, asked: Places) -> tuple[Features, list[ArmLearner]]:
    features = Features.fit(read, seen)
    rows = features.transform(read, seen)
    learners = []
    for arm in range(scores.shape[1]):
        mine = asked == arm
        known = scores[seen[mine], arm]
        prior_mean = (known.sum() + 0.5) / (len(known) + 1)
        learner = ArmLearner(rows.shape[1], features.blocks, float(prior_mean))
        learner.learn(rows[mine], known)
        learners.append(learner)
    return features, learners
