"""The Open Bandit Dataset's sample (Saito, Aihara, Matsutani and Narita, 2021), campaign `men`: clicks on what a shop
showed, logged by a uniform policy and by Thompson sampling, 10,000 rows of each."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Beta priors of the Thompson sampling policy that gathered the men's campaign, as the data set publishes them.
_ALPHA: Final = (
    47, 8, 62, 142, 3, 6, 100, 48, 23, 71, 61, 13, 16, 518, 30, 7, 4, 23, 8, 10, 11, 11, 18, 121, 11, 4, 32, 30, 9,
    22, 6, 23, 5, 54,
)  # fmt: skip
_BETA: Final = (
    12198, 3566, 15993, 35522, 2367, 3100, 24665, 13210, 7061, 18061, 17449, 5644, 6787, 111326, 8776, 3334, 2271,
    7389, 2659, 3665, 4724, 3561, 5085, 27407, 4601, 2923, 8897, 8654, 4000, 6580, 3174, 6766, 2602, 14506,
)  # fmt: skip
ITEMS: Final = len(_ALPHA)
_POSITIONS: Final = 3
_DRAWS: Final = 100_000
PUBLISHED: Final = {
    ("random", "ips"): 0.004534,
    ("random", "snips"): 0.004604,
    ("bts", "ips"): 0.003009,
    ("bts", "snips"): 0.003189,
}
"""Value of the other policy by the log of each and the estimator, six digits."""


def thompson_policy() -> NDArray[np.float64]:
    """Probability of each item at each position (34, 3), as published: counted over 100,000 draws of a fixed seed."""
    draws = np.random.RandomState(12345).beta(_ALPHA, _BETA, size=(_DRAWS, ITEMS))
    top = np.argsort(draws, axis=1)[:, ::-1][:, :_POSITIONS]
    return np.stack([np.bincount(top[:, p], minlength=ITEMS) / _DRAWS for p in range(_POSITIONS)], axis=1)


class Shown(NamedTuple):
    """What a policy logged, row by row: the item shown, where (0 to 2), with which probability, and whether it was
    clicked (0 or 1)."""

    item: NDArray[np.int64]
    position: NDArray[np.int64]
    propensity: NDArray[np.float64]
    click: NDArray[np.float64]


def open_bandit_log(data: Path, policy: Literal["random", "bts"]) -> Shown:
    """Return what a policy logged. Raises ``FileNotFoundError`` where ``data`` does not hold the sample."""
    with (data / "obd_sample" / policy / "men.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return Shown(
        np.array([int(row["item_id"]) for row in rows]),
        np.array([int(row["position"]) for row in rows]) - 1,
        np.array([float(row["propensity_score"]) for row in rows]),
        np.array([float(row["click"]) for row in rows]),
    )
