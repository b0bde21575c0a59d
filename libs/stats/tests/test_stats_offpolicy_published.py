"""Published off-policy values: Vowpal Wabbit's sequence, and the Open Bandit Dataset's sample (Saito et al., 2021)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flywheel.stats.estimators import estimate
from flywheel.stats.logged import Log, Weighed
from flywheel.stats.offpolicy import evaluate
from flywheel.stats.sequences import bet, stitched
from flywheel.testkit.recorded import data_folder

Array = NDArray[np.float64]

# Beta priors of the Thompson sampling policy that gathered the men's campaign, as the data set publishes them.
ALPHA = (47, 8, 62, 142, 3, 6, 100, 48, 23, 71, 61, 13, 16, 518, 30, 7, 4, 23, 8, 10, 11, 11, 18, 121, 11, 4, 32, 30, 9,
         22, 6, 23, 5, 54)  # fmt: skip
BETA = (12198, 3566, 15993, 35522, 2367, 3100, 24665, 13210, 7061, 18061, 17449, 5644, 6787, 111326, 8776, 3334, 2271,
        7389, 2659, 3665, 4724, 3561, 5085, 27407, 4601, 2923, 8897, 8654, 4000, 6580, 3174, 6766, 2602,
        14506)  # fmt: skip
POSITIONS = 3


def test_vowpal_wabbits_sequence_to_the_digit_and_betting_within_it() -> None:
    both = np.tile([0.5, 0.6, 0.7, 0.8], 1000)
    low, high = stitched(both, both, alpha=0.05)
    assert (low, high) == pytest.approx((0.4215480, 0.7907692), abs=1e-6)
    # These weights do not have mean 1, so the ends are those of two different means; each is tighter by betting.
    ours = bet(both, both, None, alpha=0.05)
    assert low < ours[0] < ours[1] < high


@pytest.fixture(scope="module")
def thompson() -> Array:
    """Probability of each item at each position (34, 3), as published: counted over 100,000 draws of a fixed seed."""
    draws = np.random.RandomState(12345).beta(ALPHA, BETA, size=(100_000, len(ALPHA)))
    top = np.argsort(draws, axis=1)[:, ::-1][:, :POSITIONS]
    return np.stack([np.bincount(top[:, p], minlength=len(ALPHA)) / len(draws) for p in range(POSITIONS)], axis=1)


def logged(policy: str) -> tuple[Log, NDArray[np.int64]]:
    folder = data_folder()
    path = None if folder is None else folder / "obd_sample" / policy / "men.csv"
    if path is None or not Path(path).exists():
        pytest.skip("the shared data folder is absent")
    with path.open(newline="") as lines:
        rows = [(int(r["item_id"]), int(r["position"]), float(r["click"]), float(r["propensity_score"])) for r in
                csv.DictReader(lines)]  # fmt: skip
    item, position = np.array([r[0] for r in rows]), np.array([r[1] for r in rows]) - 1
    click, propensity = np.array([r[2] for r in rows]), np.array([r[3] for r in rows])
    return Log(click, item, propensity, None, np.zeros((len(rows), 0))), position


@pytest.mark.data
def test_thompson_sampling_on_uniform_logs(thompson: Array) -> None:
    log, position = logged("random")
    weighed = Weighed(log, thompson[:, position].T)
    found = evaluate(log, weighed.target, low=0.0, high=1.0)
    by_name = {one.name: one for one in found.estimates}
    assert by_name["ips"].value == pytest.approx(0.004534, abs=5e-7)
    assert by_name["snips"].value == pytest.approx(0.004604, abs=5e-7)
    assert found.diagnosis.mean_weight == pytest.approx(0.9847, abs=5e-5)
    assert found.diagnosis.effective == pytest.approx(2467, abs=0.5)
    assert found.diagnosis.largest_weight == pytest.approx(10.7, abs=0.05)
    assert found.refusals == ()
    on_policy = 0.0069  # 69 clicks of 10,000 where Thompson sampling really served
    assert all(one.bounds.low < on_policy < one.bounds.high for one in found.estimates)
    assert found.value_always is not None
    assert found.value_always[0] < on_policy < found.value_always[1]


@pytest.mark.data
def test_a_uniform_policy_on_thompson_samplings_logs() -> None:
    log, _ = logged("bts")
    weighed = Weighed(log, np.full((len(log.arm), len(ALPHA)), 1 / len(ALPHA)))
    ips, snips = estimate(weighed, np.zeros((len(log.arm), len(ALPHA))), low=0.0, high=1.0, names=("ips", "snips"))
    assert ips.value == pytest.approx(0.003009, abs=5e-7)
    assert snips.value == pytest.approx(0.003189, abs=5e-7)
    found = evaluate(log, weighed.target, low=0.0, high=1.0)
    assert found.diagnosis.effective == pytest.approx(656, abs=0.5)
    assert found.diagnosis.largest_weight == pytest.approx(178, abs=0.5)
    assert found.refusals == ()


def test_a_log_like_the_womens_campaign_is_refused() -> None:
    """There the mean weight was 3.13, 2.1 rows of 10,000 counted, and the largest weight was 21,739."""
    rows = 10_000
    propensity = np.full(rows, 0.5)
    propensity[0], propensity[1] = 1 / 46 / 21_739, 1 / 46 / 6_000
    target = np.full((rows, 46), 1 / 46)
    arm = np.arange(rows) % 46
    found = evaluate(Log(np.zeros(rows), arm, propensity, None, np.zeros((rows, 0))), target, low=0.0, high=1.0)
    assert found.estimates == ()
    assert any(reason.startswith("too few effective rows: 1.") for reason in found.refusals)
    assert found.value_always is None
