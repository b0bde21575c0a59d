"""Published off-policy values: Vowpal Wabbit's sequence, and the Open Bandit Dataset's sample (Saito et al., 2021)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from flywheel.stats.estimators import estimate
from flywheel.stats.logged import Log, Weighed
from flywheel.stats.offpolicy import evaluate
from flywheel.stats.sequences import bet, stitched
from flywheel.testkit.open_bandit import ITEMS, PUBLISHED, open_bandit_log, thompson_policy
from flywheel.testkit.recorded import data_folder


def test_vowpal_wabbits_sequence_to_the_digit_and_betting_within_it() -> None:
    both = np.tile([0.5, 0.6, 0.7, 0.8], 1000)
    low, high = stitched(both, both, alpha=0.05)
    assert (low, high) == pytest.approx((0.4215480, 0.7907692), abs=1e-6)
    # These weights do not have mean 1, so the ends are those of two different means; each is tighter by betting.
    ours = bet(both, both, None, alpha=0.05)
    assert low < ours[0] < ours[1] < high


def logged(policy: Literal["random", "bts"]) -> tuple[Log, NDArray[np.int64]]:
    folder = data_folder()
    if folder is None or not (folder / "obd_sample").exists():
        pytest.skip("the shared data folder is absent")
    shown = open_bandit_log(folder, policy)
    return Log(shown.click, shown.item, shown.propensity, None, np.zeros((len(shown.item), 0))), shown.position


@pytest.mark.data
def test_thompson_sampling_on_uniform_logs() -> None:
    log, position = logged("random")
    weighed = Weighed(log, thompson_policy()[:, position].T)
    found = evaluate(log, weighed.target, low=0.0, high=1.0)
    by_name = {one.name: one for one in found.estimates}
    assert by_name["ips"].value == pytest.approx(PUBLISHED["random", "ips"], abs=5e-7)
    assert by_name["snips"].value == pytest.approx(PUBLISHED["random", "snips"], abs=5e-7)
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
    weighed = Weighed(log, np.full((len(log.arm), ITEMS), 1 / ITEMS))
    ips, snips = estimate(weighed, np.zeros((len(log.arm), ITEMS)), low=0.0, high=1.0, names=("ips", "snips"))
    assert ips.value == pytest.approx(PUBLISHED["bts", "ips"], abs=5e-7)
    assert snips.value == pytest.approx(PUBLISHED["bts", "snips"], abs=5e-7)
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
