"""What is learned from labels: the evidence finds the truth, no other label is read, changes are noticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flywheel.routing.bayes import Moments, Posterior, Prior, learned_prior
from flywheel.routing.bootstrap import apgr_draws, difference, gap_draws, interval, query_weights
from flywheel.routing.features import Features, ReadTexts
from flywheel.routing.learner import ArmLearner, learn_scores
from flywheel.routing.routers import ROUTERS, Task
from flywheel.routing.swap import recover, swapped
from flywheel.routing.texts import signals
from flywheel.routing.trials import Trial, cross_fit, online, online_one_model, stream_order

TOPICS = {
    "sums": "what is {a} plus {b} and how many are left of {c}",
    "poems": "write a poem of the sea number {a}",
    "dates": "when did the {b} king of town {a} die",
    "code": "def f{a}(x): return x * {b}  # explain",
}
SKILL = np.array([[0.9, 0.2, 0.3], [0.2, 0.8, 0.5], [0.4, 0.3, 0.9], [0.8, 0.7, 0.1]])
"""How often each of three models is right on each topic."""


def made(count: int, seed: int, models: int = 3) -> tuple[list[str], list[str | None], np.ndarray]:
    rng = np.random.default_rng(seed)
    topics = rng.integers(0, 4, count)
    numbers = rng.integers(1, 50, (count, 3))
    texts = [
        list(TOPICS.values())[t].format(a=a, b=b, c=c) for t, (a, b, c) in zip(topics, numbers.tolist(), strict=True)
    ]
    groups: list[str | None] = [list(TOPICS)[t] for t in topics]
    return texts, groups, (rng.random((count, models)) < SKILL[topics, :models]).astype(float)


@pytest.fixture(scope="module")
def task() -> Task:
    texts, groups, scores = made(400, 0)
    none = np.zeros(0, dtype=np.intp)
    return Task(ReadTexts.of(texts, groups), scores, none, none, none, 0, 0)


def test_the_evidence_finds_noise_and_which_block_speaks() -> None:
    rng = np.random.default_rng(3)
    blocks = (slice(0, 20), slice(20, 60))
    noises, speaking, silent = [], [], []
    for _ in range(20):
        features = rng.standard_normal((600, 60))
        weights = np.concatenate((rng.standard_normal(20) * 0.5, np.zeros(40)))
        labels = features @ weights + rng.standard_normal(600) * 2.0
        prior = learned_prior(Moments.of(features, labels), blocks)
        noises.append(prior.noise)
        speaking.append(prior.weights[0])
        silent.append(prior.weights[-1])
    assert np.mean(noises) == pytest.approx(4.0, rel=0.05)
    assert np.mean(speaking) == pytest.approx(0.25, rel=0.2)
    assert np.mean(silent) < 0.01


def test_the_posterior_is_ridge_regression() -> None:
    rng = np.random.default_rng(4)
    features, labels = rng.standard_normal((50, 5)), rng.standard_normal(50)
    found = Posterior.of(Moments.of(features, labels), Prior(np.full(5, 0.5), 2.0))
    ridge = np.linalg.solve(features.T @ features + 2.0 / 0.5 * np.eye(5), features.T @ labels)
    assert found.mean == pytest.approx(ridge)


def test_learned_scores_come_near_the_truth_and_more_blocks_of_noise_do_little_harm() -> None:
    rng = np.random.default_rng(5)
    features = rng.standard_normal((2000, 40))
    truth = np.zeros((40, 3))
    truth[:10] = rng.standard_normal((10, 3)) * 0.2
    scores = 0.5 + features @ truth + rng.standard_normal((2000, 3)) * 0.4
    alone = learn_scores(features[:1000, :10], (slice(0, 10),), scores[:1000]).predict(features[1000:, :10])
    both = learn_scores(features[:1000], (slice(0, 10), slice(10, 40)), scores[:1000]).predict(features[1000:])
    expected = 0.5 + features[1000:] @ truth
    assert np.mean((alone - expected) ** 2) < 0.004
    assert np.mean((both - expected) ** 2) < 0.005


def test_an_arm_is_uncertain_until_it_has_labels() -> None:
    rng = np.random.default_rng(6)
    features = rng.standard_normal((400, 4))
    arm = ArmLearner(4, (slice(0, 4),), 0.3)
    means, spreads = arm.expect(features)
    assert set(means) == {0.3}
    assert set(spreads) == {0.5}
    arm.learn(features, 0.3 + features @ np.array([0.2, 0, 0, 0]) + 0.1 * rng.standard_normal(400))
    means, spreads = arm.expect(features)
    assert np.abs(means - 0.3 - 0.2 * features[:, 0]).max() < 0.1
    assert spreads.max() < 0.1


@pytest.mark.parametrize("name", [name for name in ROUTERS if name != "oracle"])
def test_no_router_reads_a_label_it_was_not_given(name: str, task: Task) -> None:
    labelled, wanted = np.arange(150), np.arange(150, 400)
    given = replace(task, labelled=labelled, known=labelled, wanted=wanted)
    other = task.scores.copy()
    other[wanted] = 1 - other[wanted]
    assert np.array_equal(ROUTERS[name](given), ROUTERS[name](replace(given, scores=other)))


def test_ours_learns_topics_from_words_alone(task: Task) -> None:
    texts, _, scores = made(400, 0)
    nameless = replace(task, read=ReadTexts.of(texts, [None] * 400))
    trial = cross_fit(ROUTERS["ours, offline"], nameless, folds=4, budget=200)
    had = scores[np.arange(400), trial.predicted.argmax(axis=1)].mean()
    assert had > scores.mean(axis=0).max() + 0.15


def test_online_predicts_before_it_learns(task: Task) -> None:
    order = stream_order(400, seed=1)
    whole = online(task.read, task.scores, order, budget=200, checkpoints=(100,))
    changed = task.scores.copy()
    changed[order[120:]] = 1 - changed[order[120:]]
    other = online(task.read, changed, order, budget=200, checkpoints=(100,))
    assert np.array_equal(whole.chosen[:121], other.chosen[:121])
    assert np.array_equal(whole.checkpoints[0][1].predicted, other.checkpoints[0][1].predicted)
    assert not np.array_equal(whole.trial.predicted, other.trial.predicted)
    assert len(whole.trial.places) == 200


def test_a_swap_of_models_is_forgotten_and_recovered_from() -> None:
    texts, groups, scores = made(1200, 7)
    read = ReadTexts.of(texts, groups)
    forgetting, never, before, each = recover(read, scores, labels=1000, seed=2)
    assert len(forgetting.resets) == 1
    assert 500 < forgetting.resets[0] <= 650
    assert never.resets == ()
    assert forgetting.later > never.later + 0.1
    assert before.later < each.later < forgetting.later


def test_nothing_is_forgotten_where_nothing_changes() -> None:
    runs = 0
    for seed in range(3):
        texts, groups, scores = made(600, 20 + seed)
        read = ReadTexts.of(texts, groups)
        runs += len(online(read, scores, stream_order(600, seed=seed), budget=550).resets)
    assert runs == 0


def test_swapping_takes_ranks_in_reverse() -> None:
    scores = np.array([[1.0, 0.0, 0.5]] * 4)
    changed = swapped(scores, np.array([3, 2, 1, 0]), 2)
    assert changed.tolist() == [[0.0, 1.0, 0.5]] * 2 + [[1.0, 0.0, 0.5]] * 2


def test_one_models_label_is_enough_to_beat_the_best_single(task: Task) -> None:
    texts, groups, scores = made(600, 8)
    stream = online_one_model(ReadTexts.of(texts, groups), scores, stream_order(600, seed=0), budget=350, seed=0)
    rest = scores[stream.trial.places]
    had = rest[np.arange(250), stream.trial.predicted.argmax(axis=1)].mean()
    assert had > rest.mean(axis=0).max() + 0.1
    other = scores.copy()
    unseen = np.ones_like(other, dtype=bool)
    unseen[stream.order[:350], stream.chosen] = False
    other[unseen] = 1 - other[unseen]
    again = online_one_model(ReadTexts.of(texts, groups), other, stream.order, budget=350, seed=0)
    assert np.array_equal(again.trial.predicted, stream.trial.predicted)


def test_intervals_cover_the_truth() -> None:
    """APGR of a noisy signal: the truth from 400,000 queries, then 200 sets of 300; the error of the count is 1.5 %."""
    rng = np.random.default_rng(9)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        wanted = rng.random(count)
        strong, weak = rng.random(count) < 0.6 + 0.3 * wanted, rng.random(count) < 0.6
        return wanted, np.stack((weak, strong), axis=1).astype(float)

    def trial(wanted: np.ndarray) -> Trial:
        return Trial(np.arange(len(wanted)), np.stack((np.zeros(len(wanted)), wanted), axis=1))

    wanted, scores = drawn(400_000)
    truth = apgr_draws([trial(wanted)], scores, 1, np.ones((2, 400_000))).values[0]
    covered = 0
    for run in range(200):
        wanted, scores = drawn(300)
        found = interval(apgr_draws([trial(wanted)], scores, 1, query_weights(300, draws=200, seed=run)))
        covered += found.low <= truth <= found.high
    assert 0.90 <= covered / 200 <= 0.985


def test_a_difference_from_itself_is_nothing() -> None:
    scores = made(60, 1)[2]
    trial = Trial(np.arange(60), np.random.default_rng(0).random((60, 3)))
    found = gap_draws([trial], scores, query_weights(60, draws=100))
    assert difference(found, found).low == difference(found, found).high == 0.0


def test_features_are_fitted_on_known_texts_alone() -> None:
    texts, groups, _ = made(100, 2)
    read = ReadTexts.of([*texts, "an unheard-of matter: Ωmega"], [*groups, "elsewhere"])
    found = Features.fit(read, np.arange(100))
    assert len(found.groups) == 4
    row = found.transform(read, np.array([100]))
    assert np.isfinite(row).all()
    assert row.shape[1] == found.blocks[-1].stop
    assert not row[0, found.blocks[0]].any()


def test_signals_of_any_text_are_finite() -> None:
    for text in ("", " ", "9" * 400, "1.2.3.4", "\x00", "٣٤", "A. one\nB) two\n(C) three"):
        assert np.isfinite(signals(text)).all()
